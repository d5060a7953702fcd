"""A request is read, or refused with the name of the member that is wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversation.message import canonical
from proxy.dialects.contract import Call
from proxy.dialects.responses.native import NATIVE
from proxy.errors import InvalidBody
from tests.dialects.responses.native.samples import USER, call, histories, message, output, plain, reasoning

Item = dict[str, object]


def read(*items: object, **members: object) -> Call:
    return NATIVE.read(json.dumps({"input": list(items), **members}).encode())


def test_members_are_read() -> None:
    made = read(
        USER, model="gpt-é", stream=True, max_output_tokens=9, tools=[{"a": 1}], instructions="i", text={"format": {}}
    )
    assert (made.model, made.stream, made.choices, made.reserve) == ("gpt-é", True, 1, 9)
    assert made.overhead == b'"i"[{"a": 1}]{"format": {}}'


def test_members_may_be_missing() -> None:
    made = read(USER)
    assert (made.model, made.stream, made.choices, made.reserve, made.overhead) == ("", False, 1, None, b"")
    assert read(USER, model=None, max_output_tokens=None).reserve is None


@pytest.mark.parametrize("stream", [1, "true", False, None])
def test_only_true_streams(stream: object) -> None:
    assert read(USER, stream=stream).stream is False


@pytest.mark.parametrize("limit", [0, -1, 1.5, "9", None, True, 10**20])
def test_senseless_limit_reserves_nothing(limit: object) -> None:
    assert read(USER, max_output_tokens=limit).reserve is None


def test_a_string_is_a_user_s_message() -> None:
    made = NATIVE.read(b'{"input":"\\u0041"}')
    assert [(each.role, each.text) for each in made.messages] == [("user", "A")]
    assert made.messages[0].wire == b'{"type":"message","role":"user","content":"\\u0041"}'
    assert canonical(made.messages[0]) == canonical(read({"role": "user", "content": "A"}).messages[0])


def test_preamble_messages_and_prefill_are_told_apart() -> None:
    system, developer = {"role": "system", "content": "s"}, {"role": "developer", "content": "d"}
    late = {"role": "system", "content": "late"}
    made = read(system, developer, USER, late, {"role": "assistant", "content": "Once"}, instructions="not history")
    assert [each.role for each in made.preamble] == ["system", "developer"]
    assert [each.text for each in made.messages] == ["?", "late"]
    assert made.prefill is not None
    assert made.prefill.text == "Once"


def test_wire_is_the_exact_bytes_of_each_message() -> None:
    first = b'{ "role" : "user",\n"content":"\\u0041 \\/",  "x": 1.0, "y":123456789012345678901234567890}'
    second = '{"content":[{"type":"input_text","text":"é"}],"role":"user"}'.encode()
    made = NATIVE.read(b'{"input" : [ %b ,\t%b ] }' % (first, second))
    assert [each.wire for each in made.messages] == [first, second]
    assert [each.text for each in made.messages] == ["A /", "é"]


def test_null_empty_and_missing_content_are_equal() -> None:
    contents: list[dict[str, object]] = [{}, {"content": None}, {"content": ""}, {"content": []}]
    assert len({canonical(each) for each in read(*({"role": "user", **one} for one in contents)).messages}) == 1


def test_input_may_be_missing_where_something_is_gone_on_from() -> None:
    for members in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"prompt": {"id": "p"}}):
        assert NATIVE.read(json.dumps(members).encode()).messages == ()
        assert NATIVE.read(json.dumps({**members, "input": []}).encode()).messages == ()


def test_call_that_nothing_answers_is_refused_as_openai_refuses_it() -> None:
    with pytest.raises(InvalidBody, match="No tool output found") as refused:
        read(USER, call("call_9"))
    assert refused.value.param == "input"
    assert "call_9" in refused.value.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"{", None),
        (b'{"input":"\xff"}', None),
        (b'{"input":"\\ud800"}', None),
        (b'{"input":[],"input":[]}', None),
        (b"{}", "input"),
        (b'{"input":null}', "input"),
        (b'{"input":[],"previous_response_id":null}', "input"),
        (b'{"input":5}', "input"),
        (b'{"input":{}}', "input"),
        (b'{"input":["hi"]}', "input[0]"),
        (b'{"input":[{"role":"user","content":"?"},{"type":"item_reference","id":"x"}]}', "input[1].type"),
        (b'{"input":"x","model":5}', "model"),
        (b'{"input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b'{"input":[{"role":"user","content":[{"type":"x","x":' + b"[" * 300 + b"]" * 300 + b"}]}]}", "input"),
    ],
)
def test_wrong_bodies_are_refused(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidBody) as refused:
        NATIVE.read(body)
    assert refused.value.param == param


INNER = [
    "role", "content", "type", "text", "image_url", "input_audio", "call_id", "id", "name", "arguments", "input",
    "output", "summary", "encrypted_content", "refusal", "status",
]  # fmt: skip
KINDS = st.sampled_from(
    ["message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "computer_call_output",
     "web_search_call", "mcp_approval_request", "local_shell_call_output", "input_text", "output_text", "user"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | KINDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(INNER) | st.text(max_size=3), inner, max_size=5
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(INNER), JSON, max_size=4), min_size=1, max_size=4), st.data())
def test_hostile_items_are_read_or_refused(items: list[dict[str, object]], data: st.DataObject) -> None:
    for item in items:
        item["type"] = data.draw(KINDS)
    body = json.dumps({"input": items}).encode()
    try:
        made = NATIVE.read(body)
    except InvalidBody as refused:
        param = str(refused.param)
    else:
        param = ""
    if param:
        assert param.startswith("input")
        return
    for each in (*made.preamble, *made.messages, *filter(None, [made.prefill])):
        canonical(each)
        assert each.wire
        assert json.loads(b"[%b]" % each.wire)


def varied(draw: Callable[[st.SearchStrategy[Any]], Any], item: dict[str, object]) -> dict[str, object] | None:
    """An item as some SDK would send it back; None: it leaves it out."""
    kind, made = item["type"], dict(item)
    if kind == "reasoning":
        way: dict[str, object] | None = draw(st.sampled_from([made, None, {**made, "content": None, "status": None}]))
        return way
    ways = draw(st.sets(st.sampled_from(["id", "status", "parts", "type", "nulls", "order", "other id"])))
    if "id" in ways:
        made.pop("id", None)
    elif "other id" in ways:
        made["id"] = "x_" + "0" * 48
    if "status" in ways:
        made.pop("status", None)
    if "nulls" in ways:
        made |= {"status": None, "namespace": None, "caller": None}
    if "order" in ways:
        made = dict(reversed(made.items()))
    if kind == "function_call" and "parts" in ways:
        made["arguments"] = json.dumps(json.loads(str(made["arguments"])), indent=1)
    parts = made.get("content")
    if kind == "message" and "parts" in ways and isinstance(parts, list):
        if all(part["type"] == "output_text" for part in parts):
            made["content"] = "".join(part["text"] for part in parts)
        else:
            made["content"] = [{name: each for name, each in part.items() if name != "annotations"} for part in parts]
    if kind == "message" and "type" in ways:
        made.pop("type")
    return made


@settings(max_examples=150, deadline=None)
@given(histories, st.data())
def test_history_that_a_client_sends_back_is_known_however_its_sdk_changed_it(
    history: list[list[Item]], data: st.DataObject
) -> None:
    known: list[bytes] = []
    resent: list[Item] = []
    for sent, made in zip(history[::2], history[1::2], strict=True):
        reply = plain(made).message
        assert reply is not None
        known += [canonical(each) for each in (*read(*sent).messages, reply)]
        resent += [*sent, *(each for item in made if (each := varied(data.draw, item)) is not None)]
    again = read(*resent, USER).messages
    assert [canonical(each) for each in again[:-1]] == known


def test_reasoning_counts_for_nothing_a_message_says() -> None:
    one, other = read(USER, reasoning(), message("a"), USER), read(USER, message("a"), USER)
    assert [canonical(each) for each in one.messages] == [canonical(each) for each in other.messages]


def test_results_follow_their_calls() -> None:
    made = read(USER, call("a"), output("a"), USER)
    assert [each.answers for each in made.messages] == ["", "", "a", ""]


def test_speaks_where_responses_are_made() -> None:
    for path in ("/v1/responses", "/responses/", "/openai/v1/responses"):
        assert NATIVE.speaks("POST", path)
        assert not NATIVE.speaks("GET", path)
    for path in ("/v1/responses/resp_1", "/v1/responses/compact", "/v1/xresponsesx", "/v1/chat/completions"):
        assert not NATIVE.speaks("POST", path)
