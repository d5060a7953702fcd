"""Which session, policy and options a request names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.dialects.chat import CHAT
from proxy.errors import InvalidHeader, InvalidSessionId
from proxy.exchange.identify import identify, ignored, member, session_id, split_target
from proxy.policy import Ignore, Policies, Policy, Session

BODY = (
    b'{"model": "m", "messages": [{"role": "user", "content": "  ### Task: x"}], '
    b'"user": "u", "n": 1, "metadata": {"id": 7}}'
)
CALL = CHAT.read(BODY)


def headers(**values: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({name.replace("_", "-"): value for name, value in values.items()}))


@pytest.mark.parametrize(
    ("target", "session", "rest"),
    [
        ("/v1/chat/completions", None, "/v1/chat/completions"),
        ("/s/anna/v1/chat/completions?a=b", "anna", "/v1/chat/completions?a=b"),
        ("/s/a%2Fb/v1", "a/b", "/v1"),
        ("/s/anna", "anna", "/"),
        ("/s/anna?x", "anna", "/?x"),
        ("/s/anna//v1", "anna", "//v1"),
        ("/v1?next=/s/anna/", None, "/v1?next=/s/anna/"),
        ("/same/path", None, "/same/path"),
        ("http://other.example/v1/models?x=1", None, "/v1/models?x=1"),
        ("http://other.example/s/anna/v1", "anna", "/v1"),
        ("http://other.example", None, "/"),
        ("http://other.example?x=/y", None, "/?x=/y"),
        ("*", None, "*"),
    ],
)
def test_the_path_may_name_a_session_and_never_an_upstream(target: str, session: str | None, rest: str) -> None:
    assert split_target(target) == (session, rest)


@pytest.mark.parametrize("target", ["/s//v1", "/s/", "/s/a%20b/v1", "/s/%ff/v1", "/s/" + "x" * 257 + "/v1"])
def test_a_path_with_a_bad_session_id_is_refused(target: str) -> None:
    with pytest.raises(InvalidSessionId):
        split_target(target)


@given(st.text(max_size=300))
def test_a_session_id_is_short_printable_ascii_without_spaces(text: str) -> None:
    good = 1 <= len(text) <= 256 and all("!" <= character <= "~" for character in text)
    if good:
        assert session_id(text) == text
    else:
        with pytest.raises(InvalidSessionId):
            session_id(text)


def test_header_beats_path_beats_member() -> None:
    policies = Policies([Policy(name="default", session=Session(members=("metadata.id", "user")))])
    for named, path, expected in [({"X_Session_Id": "h"}, "p", "h"), ({}, "p", "p"), ({}, None, "7")]:
        who = identify(headers(**named), path, CALL, policies)
        assert who is not None
        assert who.session == expected


def test_no_name_is_no_session() -> None:
    assert identify(headers(), None, CALL, Policies()) is None


def test_a_branch_without_a_session_is_refused() -> None:
    with pytest.raises(InvalidHeader):
        identify(headers(X_Session_From="1"), None, CALL, Policies())


@pytest.mark.parametrize(
    ("name", "value"), [("X_Session_Record", "maybe"), ("X_Session_From", "-1"), ("X_Session_From", "\u0662")]
)
def test_options_take_only_what_they_say(name: str, value: str) -> None:
    with pytest.raises(InvalidHeader):
        identify(headers(X_Session_Id="s", **{name: value}), None, CALL, Policies())


def test_options_are_read() -> None:
    who = identify(headers(X_Session_Id="s", X_Session_Record="No", X_Session_From="12"), None, CALL, Policies())
    assert who is not None
    assert (who.record, who.from_turn) == (False, 12)


@pytest.mark.parametrize(
    ("path", "value"),
    [("user", "u"), ("metadata.id", 7), ("metadata.other", None), ("user.deeper", None), ("nope", None)],
)
def test_members_are_found_by_dotted_paths(path: str, value: object) -> None:
    assert member(CALL.members, path) == value


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (Ignore(starts_with="### Task:"), True),
        (Ignore(starts_with="### Other"), False),
        (Ignore(member="metadata.id"), True),
        (Ignore(member="metadata.id", equals=7), True),
        (Ignore(member="n", equals=True), False),
        (Ignore(member="metadata.task"), False),
        (Ignore(member="metadata.id", starts_with="nope"), False),
        (Ignore(system_starts_with="x"), False),
        (Ignore(), False),
    ],
)
def test_a_side_call_matches_all_that_its_rule_says(rule: Ignore, matches: bool) -> None:
    assert ignored(CALL, Policy(session=Session(ignore=(rule,)))) is matches
