"""Each check gives the value in its type, or names the member."""

from collections.abc import Callable

import pytest

from proxy.dialects.responses import fields
from proxy.errors import InvalidBody


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (fields.text, ["", "a"], [None, 1, []]),
        (fields.some_text, ["a"], ["", None]),
        (fields.optional_text, [None, "a"], [1]),
        (fields.flag, [True, False], [None, 0, "true"]),
        (fields.number, [0, 1.5], [True, "1", float("inf"), float("nan"), None]),
        (fields.count, [0, 7], [-1, True, 1.0, 2**60, None]),
        (fields.object_, [{}, {"a": 1}], [[], None]),
        (fields.objects, [[], [{}]], [{}, [1]]),
        (lambda value, member: fields.one_of(value, member, ("a",)), ["a"], ["b", None, ["a"]]),
    ],
)
def test_checks(check: Callable[[object, str], object], right: list[object], wrong: list[object]) -> None:
    for value in right:
        assert check(value, "m") == value
    for value in wrong:
        with pytest.raises(InvalidBody) as told:
            check(value, "m")
        assert (told.value.param or "").startswith("m")
        assert told.value.message.startswith("`m")


def test_only_what_is_known_is_taken() -> None:
    fields.only({"a": 1, "b": None}, "m", frozenset("a"))
    with pytest.raises(InvalidBody) as told:
        fields.only({"b": 1}, "m", frozenset("a"))
    assert told.value.param == "m.b"


def test_what_cannot_be_read_or_written() -> None:
    deep: object = 1
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidBody):
        fields.written(deep, "m")
    with pytest.raises(InvalidBody):
        fields.parsed(b'"\\ud800"', "m")
    assert fields.present({"a": None, "b": 0}) == {"b": 0}
