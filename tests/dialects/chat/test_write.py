"""A body goes out with another history: everything else keeps its bytes, and no quirk is left unserved."""

import json
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversation.quirks import Quirks
from proxy.dialects.chat import CHAT
from proxy.errors import BadRequest, SessionBusy

BODY = (
    b'{ "model" : "m", "x":123456789012345678901234567890,'
    b'"messages": [ {"role":"user","content":"new"} ] , "temperature":1.0}\n'
)


def message(role: str, content: object = "c", **more: object) -> bytes:
    return json.dumps({"role": role, "content": content, **more}).encode()


def sent(
    *messages: bytes, preamble: tuple[bytes, ...] = (), body: bytes = BODY, **quirks: object
) -> list[dict[str, object]]:
    written = CHAT.write(CHAT.read(body), preamble, messages, Quirks(**quirks))  # type: ignore[arg-type]
    return list(orjson.loads(written)["messages"])


def test_only_the_messages_change() -> None:
    written = CHAT.write(CHAT.read(BODY), [b'{"role":"system"}'], [b'{"a":1.0},{"b":2}', b'{"c": 3}'], Quirks())
    assert written == BODY.replace(
        b'[ {"role":"user","content":"new"} ]', b'[{"role":"system"},{"a":1.0},{"b":2},{"c": 3}]'
    )


def test_runs_that_say_nothing_leave_no_comma() -> None:
    written = CHAT.write(CHAT.read(BODY), [b""], [b'{"a":1}'], Quirks())
    assert orjson.loads(written)["messages"] == [{"a": 1}]


def test_prefill_is_put_behind_the_messages() -> None:
    body = json.dumps(
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Once", "prefix": True}]}
    ).encode()
    assert sent(message("user"), body=body)[-1] == {"role": "assistant", "content": "Once", "prefix": True}


def test_developer_messages_are_renamed_wherever_they_stand() -> None:
    raw = b'{"content":"\\u0041", "role" : "developer","n":1.0,"m":123456789012345678901234567890}'
    written = CHAT.write(CHAT.read(BODY), [raw], [message("user"), raw], Quirks(developer="system"))
    assert written.count(b'"content":"\\u0041","role":"system","n":1.0,"m":123456789012345678901234567890') == 2
    assert b"developer" not in written
    assert message("user") in written


def test_one_system_merges_the_preamble_and_sends_later_ones_as_the_users() -> None:
    out = sent(
        message("user", "u"), message("system", "late"), message("developer", "later"),
        preamble=(message("system", "a"), message("developer", [{"type": "text", "text": "b"}])),
        one_system=True,
    )  # fmt: skip
    assert out == [
        {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "u"},
        {"role": "user", "content": "late"},
        {"role": "user", "content": "later"},
    ]


def test_one_system_keeps_the_role_of_a_preamble_of_one_role() -> None:
    two = (message("developer", "a") + b"," + message("developer", "b"),)
    assert sent(message("user"), preamble=two, one_system=True)[0] == {"role": "developer", "content": "a\n\nb"}
    assert sent(message("user"), preamble=two, one_system=True, developer="system")[0]["role"] == "system"


CALL = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([("user", "a"), ("user", "b"), ("user", "c")], [("user", "a\n\nb\n\nc")]),
        (
            [("user", "a"), ("assistant", "b"), ("assistant", "c"), ("user", "d")],
            [("user", "a"), ("assistant", "b\n\nc"), ("user", "d")],
        ),
        ([("user", ""), ("user", "b")], [("user", "b")]),
        ([("user", "a"), ("user", None)], [("user", "a")]),
        ([("user", [1]), ("user", "b")], [("user", [1, {"type": "text", "text": "b"}])]),
        ([("user", [1]), ("user", [2])], [("user", [1, 2])]),
        ([("tool", "a"), ("tool", "b")], [("tool", "a"), ("tool", "b")]),
        ([("assistant", "a"), ("user", "b")], [("assistant", "a"), ("user", "b")]),
        ([("user", "a"), ("system", "s"), ("user", "b")], [("user", "a"), ("system", "s"), ("user", "b")]),
    ],
)
def test_neighbours_of_one_role_are_merged(
    messages: list[tuple[str, object]], expected: list[tuple[str, object]]
) -> None:
    out = sent(*(message(role, content) for role, content in messages), alternate=True)
    assert [(each["role"], each["content"]) for each in out] == expected


def test_a_call_stays_before_its_result() -> None:
    """An assistant message with calls takes in nothing behind it, but may take in the text before it."""
    out = sent(
        message("user"), message("assistant", "a"), message("assistant", None, tool_calls=CALL),
        message("tool", "r", tool_call_id="a"), message("assistant", "b", tool_calls=CALL), message("assistant", "c"),
        alternate=True,
    )  # fmt: skip
    assert out[1:] == [
        {"role": "assistant", "content": "a", "tool_calls": CALL},
        {"role": "tool", "content": "r", "tool_call_id": "a"},
        {"role": "assistant", "content": "b", "tool_calls": CALL},
        {"role": "assistant", "content": "c"},
    ]


def test_merged_messages_keep_their_other_members() -> None:
    out = sent(message("user", "a", name="x", n=1), message("user", "b", name="y", m=2), alternate=True)
    assert out == [{"role": "user", "content": "a\n\nb", "name": "x", "n": 1, "m": 2}]


def test_prefill_is_merged_and_stays_a_prefill() -> None:
    body = json.dumps(
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Once", "prefix": True}]}
    ).encode()
    out = sent(message("user"), message("assistant", "a"), body=body, alternate=True)
    assert out[-1] == {"role": "assistant", "content": "a\n\nOnce", "prefix": True}


ROLES = st.sampled_from(["user", "assistant", "system", "developer", "tool"])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(ROLES, st.text("ab", min_size=1, max_size=3)), min_size=1, max_size=8),
    st.lists(st.sampled_from(["system", "developer"]), max_size=3),
)
def test_every_quirk_at_once_alternates_and_loses_no_text(messages: list[tuple[str, str]], preamble: list[str]) -> None:
    out = sent(
        *(message(role, text) for role, text in messages), preamble=tuple(message(role, "P") for role in preamble),
        alternate=True, one_system=True, developer="system",
    )  # fmt: skip
    roles = [each["role"] for each in out]
    assert roles.count("system") == bool(preamble)
    assert "developer" not in roles
    assert "system" not in roles[1:]
    spoken = [role for role in roles if role != "system"]
    assert all(one != other or one == "tool" for one, other in pairwise(spoken))
    said = "".join(str(each["content"]) for each in out).replace("\n\n", "")
    assert said == "P" * len(preamble) + "".join(text for _, text in messages)


def test_messages_that_no_quirk_concerns_keep_their_bytes() -> None:
    raw = [b'{ "role":"user","content":"\\u0041", "n": 1.0}', b'{"content" : "x","role":"assistant" }']
    written = CHAT.write(
        CHAT.read(BODY), [b'{"role" : "system"}'], raw, Quirks(alternate=True, one_system=True, developer="user")
    )
    assert b",".join([b'[{"role" : "system"}', *raw]) + b"]" in written


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("call_1", {"role": "tool", "tool_call_id": "call_1"}),
        ('a"\\\n\u00e9', {"role": "tool", "tool_call_id": 'a"\\\n\u00e9'}),
        ("function:f", {"role": "function", "name": "f"}),
        ("id:", {"role": "tool", "tool_call_id": ""}),
    ],
)
def test_unanswered_call_gets_the_same_answer_each_time(id: str, expected: dict[str, str]) -> None:
    answer = CHAT.no_result(id)
    assert answer == CHAT.no_result(id)
    members = orjson.loads(answer)
    assert members.pop("content")
    assert members == expected
    (read,) = CHAT.messages(answer)
    assert (read.role, read.answers) == ("tool", id)


def test_errors_have_the_shape_that_clients_know() -> None:
    error = BadRequest('Say "please".', param="messages")
    expected = {
        "error": {
            "message": 'Say "please".',
            "type": "invalid_request_error",
            "param": "messages",
            "code": "bad_request",
        }
    }
    assert orjson.loads(CHAT.error(error)) == expected
    event = CHAT.error_event(error)
    assert event.startswith(b"data: ")
    assert event.endswith(b"}\n\n")
    assert orjson.loads(event[6:]) == expected
    assert orjson.loads(CHAT.error(SessionBusy("x")))["error"]["param"] is None


def test_stored_messages_are_read_again() -> None:
    runs = message("user", "a") + b"," + message("assistant", "b")
    assert [(each.role, each.text) for each in CHAT.messages(runs)] == [("user", "a"), ("assistant", "b")]
