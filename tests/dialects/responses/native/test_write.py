"""A body goes out with another history and asks for nothing to be kept: everything else keeps its bytes."""

import json
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversation import turn
from proxy.conversation.message import Message, shape
from proxy.conversation.quirks import Quirks
from proxy.dialects.responses.native import NATIVE
from proxy.errors import BadRequest, SessionBusy
from tests.dialects.responses.native.samples import Item, histories, plain
from tests.dialects.responses.native.valid import check_input, check_item, items_of

BODY = (
    b'{ "model" : "m", "x":123456789012345678901234567890,'
    b'"input": [ {"role":"user","content":"new"} ] , "store":false, "temperature":1.0}\n'
)
SEALED = "reasoning.encrypted_content"


def message(role: str, content: object = "c", **more: object) -> bytes:
    return json.dumps({"type": "message", "role": role, "content": content, **more}).encode()


def sent(*messages: bytes, preamble: tuple[bytes, ...] = (), body: bytes = BODY, **quirks: object) -> list[Item]:
    return items_of(NATIVE.write(NATIVE.read(body), preamble, messages, Quirks(**quirks)))  # type: ignore[arg-type]


def test_only_the_input_changes_where_nothing_was_to_be_kept() -> None:
    written = NATIVE.write(NATIVE.read(BODY), [b'{"role":"system"}'], [b'{"a":1.0},{"b":2}', b'{"c": 3}'], Quirks())
    assert written == BODY.replace(
        b'[ {"role":"user","content":"new"} ]', b'[{"role":"system"},{"a":1.0},{"b":2},{"c": 3}]'
    )


def test_other_members_keep_their_bytes_and_their_place() -> None:
    body = BODY.replace(
        b'"store":false', b'"previous_response_id":"resp_1","store": true ,"a\\"b":1.0,"background":true'
    )
    written = NATIVE.write(NATIVE.read(body), (), [b'{"a":1.0}'], Quirks())
    assert written == (
        b'{"model":"m","x":123456789012345678901234567890,"input":[{"a":1.0}],"store":false,"a\\"b":1.0,'
        b'"temperature":1.0,"include":["reasoning.encrypted_content"]}'
    )


@pytest.mark.parametrize("store", [b"", b'"store":true,', b'"store":null,'])
def test_what_would_be_kept_is_not_kept_and_reasoning_is_sealed(store: bytes) -> None:
    for include, expected in (
        (b"", [SEALED]),
        (b'"include":null,', [SEALED]),
        (b'"include":[],', [SEALED]),
        (b'"include":["x"],', ["x", SEALED]),
        (b'"include":["reasoning.encrypted_content"],', [SEALED]),
    ):
        written = orjson.loads(NATIVE.write(NATIVE.read(b'{%b%b"input":"?"}' % (store, include)), (), (), Quirks()))
        assert (written["store"], written["include"]) == (False, expected)


def test_a_client_that_keeps_nothing_says_itself_what_it_wants() -> None:
    written = NATIVE.write(NATIVE.read(b'{"store":false,"input":"?"}'), (), [message("user")], Quirks())
    assert "include" not in orjson.loads(written)


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "conversation_id", "background"])
def test_what_the_proxy_answers_does_not_travel(name: str) -> None:
    body = json.dumps({"store": False, name: "x", "input": "?"}).encode()
    assert NATIVE.write(NATIVE.read(body), (), [message("user")], Quirks()) == (
        b'{"store":false,"input":[%b]}' % message("user")
    )


def test_input_that_is_missing_is_added() -> None:
    body = b'{"previous_response_id":"resp_1","store":false}'
    assert sent(message("user"), body=body) == [orjson.loads(message("user"))]


def test_a_string_stays_a_string_until_something_is_put_before_it() -> None:
    call = NATIVE.read(b'{"store":false,"input":"\\u0041"}')
    wires = [each.wire for each in call.messages]
    assert NATIVE.write(call, (), wires, Quirks()) == b'{"store":false,"input":"\\u0041"}'
    assert items_of(NATIVE.write(call, (), [message("user", "a"), *wires], Quirks()))[1]["content"] == "A"
    assert items_of(NATIVE.write(call, (), [message("user", "other")], Quirks()))[0]["content"] == "other"


def test_runs_that_say_nothing_leave_no_comma() -> None:
    assert NATIVE.write(NATIVE.read(BODY), [b""], [b'{"a":1}'], Quirks()).count(b'[{"a":1}]') == 1


def test_prefill_is_put_behind_the_messages() -> None:
    body = b'{"input":[{"role":"user","content":"?"},{"role":"assistant","content":"Once","x":1.0}]}'
    assert sent(message("user"), body=body)[-1] == {"role": "assistant", "content": "Once", "x": 1.0}


def test_developer_messages_are_renamed_wherever_they_stand() -> None:
    raw = b'{"content":"\\u0041", "role" : "developer","n":1.0,"m":123456789012345678901234567890}'
    written = NATIVE.write(NATIVE.read(BODY), [raw], [message("user"), raw], Quirks(developer="system"))
    assert written.count(b'"content":"\\u0041","role":"system","n":1.0,"m":123456789012345678901234567890') == 2
    assert b"developer" not in written
    assert message("user") in written


def test_one_system_merges_the_preamble_and_sends_later_ones_as_the_users() -> None:
    out = sent(
        message("user", "u"), message("system", "late"), message("developer", "later"),
        preamble=(message("system", "a"), message("developer", [{"type": "input_text", "text": "b"}])),
        one_system=True,
    )  # fmt: skip
    assert [(each["role"], each["content"]) for each in out] == [
        ("system", [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]),
        ("user", "u"),
        ("user", "late"),
        ("user", "later"),
    ]


def test_one_system_is_the_instructions_where_there_are_some() -> None:
    body = BODY.replace(b'"store"', b'"instructions":"i","store"')
    call = NATIVE.read(body)
    written = orjson.loads(
        NATIVE.write(
            call, [message("system", "a"), message("developer", "b")], [message("user")], Quirks(one_system=True)
        )
    )
    assert written["instructions"] == "a\n\nb\n\ni"
    assert [each["role"] for each in written["input"]] == ["user"]
    assert NATIVE.write(call, [message("system", "a")], [message("user")], Quirks()).count(b'"instructions":"i"') == 1


CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "a", "output": "1"}


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
        ([("user", [1]), ("user", "b")], [("user", [1, {"type": "input_text", "text": "b"}])]),
        ([("user", "a"), ("system", "s"), ("user", "b")], [("user", "a"), ("system", "s"), ("user", "b")]),
    ],
)
def test_neighbours_of_one_role_are_merged(messages: list[tuple[str, object]], expected: list[object]) -> None:
    out = sent(*(message(role, content) for role, content in messages), alternate=True)
    assert [(each["role"], each["content"]) for each in out] == expected


def test_calls_and_results_are_no_neighbours() -> None:
    wires = [json.dumps(each).encode() for each in (CALL, RESULT)]
    out = sent(message("user"), message("assistant", "a") + b"," + wires[0], wires[1], message("assistant", "b"),
               alternate=True)  # fmt: skip
    assert [each["type"] for each in out] == ["message", "message", "function_call", "function_call_output", "message"]


def test_messages_that_no_quirk_concerns_keep_their_bytes() -> None:
    raw = [
        b'{ "role":"user","content":"\\u0041", "n": 1.0}',
        b'{"content" : "x","role":"assistant" }',
        b'{"type": "x"}',
    ]
    written = NATIVE.write(
        NATIVE.read(BODY), [b'{"role" : "system"}'], raw, Quirks(alternate=True, one_system=True, developer="user")
    )
    assert b",".join([b'[{"role" : "system"}', *raw]) + b"]" in written


ROLES = st.sampled_from(["user", "assistant", "system", "developer"])


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
    assert "system" not in roles[1:]
    spoken = [role for role in roles if role != "system"]
    assert all(one != other for one, other in pairwise(spoken))
    said = "".join(str(each["content"]) for each in out).replace("\n\n", "")
    assert said == "P" * len(preamble) + "".join(text for _, text in messages)


@pytest.mark.parametrize(
    ("id", "type"),
    [
        ("call_1", "function_call_output"),
        ('a"\\\n\u00e9', "function_call_output"),
        ("custom:call_1", "custom_tool_call_output"),
        ("computer:c", "computer_call_output"),
        ("local_shell:l", "local_shell_call_output"),
        ("apply_patch:p", "apply_patch_call_output"),
        ("mcp_approval:m", "mcp_approval_response"),
    ],
)
def test_unanswered_call_gets_the_same_answer_each_time(id: str, type: str) -> None:
    answer = NATIVE.no_result(id)
    assert answer == NATIVE.no_result(id)
    assert orjson.loads(answer)["type"] == type
    (read,) = NATIVE.messages(answer)
    assert (read.role, read.answers) == ("tool", id)
    if "custom" in type or type == "function_call_output":
        check_item(orjson.loads(answer))


@settings(max_examples=150, deadline=None)
@given(histories, st.data())
def test_written_history_is_valid_whatever_was_never_answered(history: list[list[Item]], data: st.DataObject) -> None:
    """Replies are recorded, some results never come, the rest is repaired as the house repairs it."""
    messages: list[Message] = []
    for sent_items, made in zip(history[::2], history[1::2], strict=True):
        answered = [each for each in sent_items if "call_id" not in each or data.draw(st.booleans())]
        if answered:
            messages += NATIVE.read(json.dumps({"input": answered}).encode()).messages
        reply = plain(made).message
        assert reply is not None
        messages.append(reply)
    wires = turn.repair([(shape(each, 0), each.wire) for each in messages], NATIVE.no_result)
    call = NATIVE.read(b'{"input":"and?","previous_response_id":"resp_1"}')
    body = NATIVE.write(call, (), (*wires, call.messages[0].wire), Quirks())
    check_input(items_of(body))


def test_errors_have_the_shape_that_clients_know() -> None:
    error = BadRequest('Say "please".', param="input")
    described = {"message": 'Say "please".', "param": "input", "code": "bad_request"}
    assert orjson.loads(NATIVE.error(error)) == {"error": {**described, "type": "invalid_request_error"}}
    name, data = NATIVE.error_event(error).removesuffix(b"\n\n").split(b"\n")
    assert name == b"event: error"
    assert orjson.loads(data.removeprefix(b"data: ")) == {"type": "error", "sequence_number": 0, **described}
    assert orjson.loads(NATIVE.error(SessionBusy("x")))["error"]["param"] is None
