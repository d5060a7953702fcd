"""The tree of errors: drawn as it is, each with a code of its own, each explained in the README."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import errors
from proxy.errors import BadRequest, ProxyError, SettingsError

README = Path(__file__).parents[1] / "README.md"


def below(kind: type[ProxyError]) -> Iterator[type[ProxyError]]:
    for child in kind.__subclasses__():
        # other tests may make errors of their own
        if child.__module__ == errors.__name__:
            yield child
            yield from below(child)


KINDS: list[type[ProxyError]] = [*below(ProxyError)]


def drawn() -> Iterator[tuple[str, str, str, str]]:
    """(name, parent, status, code) of each line of the drawing; status and code "" where it names none."""
    line = re.compile(r"    (?P<lead>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: (?P<status>\d{3}))?(?: +(?P<code>[a-z_]+))?$")
    above: list[str] = []
    for each in (errors.__doc__ or "").splitlines():
        found = line.match(each)
        if found is not None:
            depth = len(found["lead"]) // 4
            above[depth:] = [found["name"]]
            yield found["name"], above[depth - 1] if depth else "", found["status"] or "", found["code"] or ""


def test_the_tree_that_is_drawn_is_the_real_one() -> None:
    assert {(name, parent) for name, parent, _, _ in drawn()} == {
        (ProxyError.__name__, ""),
        *((kind.__name__, kind.__mro__[1].__name__) for kind in KINDS),
    }


def test_the_statuses_and_codes_that_are_drawn_are_the_real_ones() -> None:
    for name, parent, status, code in drawn():
        kind = getattr(errors, name)
        if kind is ProxyError:
            continue
        assert str(kind.status) == (status or str(getattr(errors, parent).status)), name
        assert code in ("", kind.code), name
        # a family that is never raised itself has no code to draw
        assert code or kind is BadRequest, name


def test_every_error_is_drawn_somewhere() -> None:
    public = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and kind.__module__ == errors.__name__
    }
    assert public == {kind.__name__ for kind in (ProxyError, SettingsError, *KINDS)}
    assert "SettingsError" in (errors.__doc__ or "")


def test_each_error_has_a_code_of_its_own() -> None:
    codes = [ProxyError.code, *(kind.code for kind in KINDS)]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_readme_names_the_code_beside_its_status(kind: type[ProxyError]) -> None:
    if kind is BadRequest:
        return
    rows = [line for line in README.read_text(encoding="utf-8").splitlines() if f"`{kind.code}`" in line]
    assert any(line.startswith(f"| {kind.status} |") for line in rows), kind.code


def test_the_readme_names_no_other_code() -> None:
    section = README.read_text(encoding="utf-8").partition("\n## Errors\n")[2].partition("\n## ")[0]
    named = {code for row in re.findall(r"^\| \d{3} \| (.*?) \|", section, re.MULTILINE) for code in row.split(", ")}
    assert named == {f"`{kind.code}`" for kind in KINDS if kind is not BadRequest} | {f"`{ProxyError.code}`"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_says_what_the_client_may_rely_on(kind: type[ProxyError]) -> None:
    """An error that the client caused names itself so, and none is a success."""
    assert 400 <= kind.status < 600
    assert (kind.type in {"server_error", "upstream_error"}) == (kind.status >= 500)


def test_a_conflict_is_never_retried_by_an_sdk_on_its_own() -> None:
    """SDKs retry 409 by themselves; here the reply has been paid for, or the policy said `reject`."""
    assert {kind.retry for kind in KINDS if kind.status == 409} == {False}


def test_an_error_carries_what_it_was_given() -> None:
    error = BadRequest("Send less.", param="messages", retry_after_s=3)
    assert (str(error), error.message, error.param, error.retry_after_s) == ("Send less.", "Send less.", "messages", 3)
    assert (BadRequest("x").param, BadRequest("x").retry_after_s) == (None, None)


def test_a_settings_error_is_no_answer_to_a_client() -> None:
    assert not issubclass(SettingsError, ProxyError)
