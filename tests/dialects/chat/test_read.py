"""A request is read, or refused with the name of the member that is wrong."""

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversation.message import Media, ToolCall, canonical
from proxy.dialects.chat import CHAT
from proxy.dialects.contract import Call
from proxy.errors import InvalidBody

USER = {"role": "user", "content": "?"}


def read(*messages: object, **members: object) -> Call:
    return CHAT.read(json.dumps({"messages": list(messages), **members}).encode())


def test_members_are_read() -> None:
    call = read(
        USER,
        model="gpt-\u00e9",
        stream=True,
        n=2,
        max_tokens=7,
        max_completion_tokens=9,
        tools=[{"a": 1}],
        response_format={},
    )
    assert (call.model, call.stream, call.choices, call.reserve) == ("gpt-é", True, 2, 9)
    assert call.overhead == b'[{"a": 1}]{}'


def test_members_may_be_missing() -> None:
    call = read(USER)
    assert (call.model, call.stream, call.choices, call.reserve, call.overhead) == ("", False, 1, None, b"")
    assert read(USER, model=None, n=None, max_tokens=5).reserve == 5


@pytest.mark.parametrize("stream", [1, "true", False, None])
def test_only_true_streams(stream: object) -> None:
    assert read(USER, stream=stream).stream is False


@pytest.mark.parametrize("limit", [0, -1, 1.5, "9", None, True, 10**20])
def test_senseless_limit_reserves_nothing(limit: object) -> None:
    assert read(USER, max_tokens=limit).reserve is None


def test_preamble_messages_and_prefill_are_told_apart() -> None:
    system, developer = {"role": "system", "content": "s"}, {"role": "developer", "content": "d"}
    late = {"role": "system", "content": "late"}
    prefill = {"role": "assistant", "content": "Once"}
    call = read(system, developer, USER, late, prefill)
    assert [message.role for message in call.preamble] == ["system", "developer"]
    assert [message.text for message in call.messages] == ["?", "late"]
    assert call.prefill is not None
    assert orjson.loads(call.prefill.wire) == prefill


def test_only_the_very_last_message_is_a_prefill() -> None:
    assistant = {"role": "assistant", "content": "Once"}
    assert read(assistant, USER).prefill is None
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert read(USER, {**assistant, "tool_calls": calls}).prefill is None
    assert read(USER, {**assistant, "function_call": {"name": "f", "arguments": ""}}).prefill is None
    assert read(USER, {**assistant, "tool_calls": []}).prefill is not None
    alone = read(assistant)
    assert (alone.messages, alone.prefill is not None) == ((), True)


def test_wire_is_the_exact_bytes_of_each_message() -> None:
    first = b'{ "role" : "user",\n"content":"\\u0041 \\/",  "x": 1.0, "y":123456789012345678901234567890}'
    second = '{"content":[{"type":"text","text":"é"}],"role":"user"}'.encode()
    call = CHAT.read(b'{"messages" : [ %b ,\t%b ] }' % (first, second))
    assert [message.wire for message in call.messages] == [first, second]
    assert [message.text for message in call.messages] == ["A /", "é"]


def test_parts_are_read() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
        {"type": "image_url", "image_url": "https://x"},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "data:y", "filename": "y.pdf"}},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
        {"type": "thinking", "thinking": "hm"},
        {"type": "video_url", "video_url": {"url": "v"}, "cache_control": {}},
    ]
    (message,) = read({"role": "user", "content": parts}).messages
    assert message.text == "ab"
    assert message.media == (
        Media("image", "data:x", "low"),
        Media("image", "https://x"),
        Media("audio", "UklG", "wav"),
        Media("file", "file-1"),
        Media("file", "data:y", "y.pdf"),
        Media("video_url", '{"type":"video_url","video_url":{"url":"v"}}'),
    )


def test_messages_that_differ_only_in_an_unknown_part_are_told_apart() -> None:
    one, other = (
        canonical(read({"role": "user", "content": [{"type": "video_url", "video_url": url}]}).messages[0])
        for url in "ab"
    )
    assert one != other


def test_assistant_messages_are_read() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "custom", "custom": {"name": "c", "input": "text"}},
        {"id": "d", "type": "function", "function": {"name": "g"}},
        {"id": "", "function": {"name": "h", "arguments": {"x": 1}}},
        {"id": "m", "type": "mcp", "server": "s"},
    ]
    message = read(USER, {"role": "assistant", "content": None, "tool_calls": calls}, USER).messages[1]
    assert message.calls == (
        ToolCall("a", "f", '{"x": 1}'),
        ToolCall("b", "c", "text"),
        ToolCall("d", "g", ""),
        ToolCall("id:", "h", '{"x":1}'),
        ToolCall("m", "mcp", '{"id":"m","server":"s","type":"mcp"}'),
    )
    refusal = read(
        USER,
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}],
            "refusal": "c",
        },
        USER,
    )
    assert refusal.messages[1].text == "abc"
    assert read(USER, {"role": "assistant", "audio": {"id": "au"}}, USER).messages[1].media == (Media("audio", "au"),)


def test_legacy_functions_are_tools() -> None:
    call = read(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    )
    assert call.messages[1].calls == (ToolCall("function:f", "f", "{}"),)
    assert (call.messages[2].role, call.messages[2].answers, call.messages[2].text) == ("tool", "function:f", "1")


def test_tool_results_name_their_call() -> None:
    call = read(
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}]},
        {"role": "tool", "tool_call_id": "", "content": ""},
    )
    assert [(message.answers, message.text) for message in call.messages] == [("a", "1"), ("id:", "")]


def test_null_empty_and_missing_content_are_equal() -> None:
    contents: list[dict[str, object]] = [{}, {"content": None}, {"content": ""}, {"content": []}]
    messages = read(*({"role": "user", **content} for content in contents)).messages
    assert len({canonical(message) for message in messages}) == 1


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ("hi", "messages"),
        ({}, "messages"),
        (5, "messages"),
        (["hi"], "messages[0]"),
        ([USER, None], "messages[1]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": 5, "content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": {"text": "x"}}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": []}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content[0].image_url"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0].input_audio"),
        ([{"role": "user", "content": [{"type": "file", "file": {"file_id": 5}}]}], "messages[0].content[0].file"),
        ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
        ([{"role": "tool", "content": "x", "tool_call_id": 5}], "messages[0].tool_call_id"),
        ([{"role": "function", "content": "x"}], "messages[0].name"),
        ([{"role": "assistant", "tool_calls": {"id": "a"}}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": ["a"]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": [{"id": 5, "function": {"name": "f"}}]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": [{"id": "a", "type": "function"}]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": 5}}]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "function_call": "f"}], "messages[0].function_call"),
    ],
)  # fmt: skip
def test_wrong_messages_are_refused_by_name(messages: object, param: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        CHAT.read(json.dumps({"model": "m", "messages": messages}).encode())
    assert refused.value.param == param
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"{", None),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', None),
        (b'{"messages":[{"role":"user","content":"\\ud800"}]}', None),
        (b'{"messages":[],"messages":[]}', None),
        (b"{}", "messages"),
        (b'{"messages":[{"role":"user"}],"n":0}', "n"),
        (b'{"messages":[{"role":"user"}],"n":-1}', "n"),
        (b'{"messages":[{"role":"user"}],"n":1.0}', "n"),
        (b'{"messages":[{"role":"user"}],"n":"1"}', "n"),
        (b'{"messages":[{"role":"user"}],"n":true}', "n"),
        (b'{"messages":[{"role":"user"}],"n":99999999999999999999}', "n"),
        (b'{"messages":[{"role":"user"}],"model":5}', "model"),
        (b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b'{"messages":[{"role":"user","content":[{"type":"x","x":' + b"[" * 300 + b"]" * 300 + b"}]}]}", "messages"),
    ],
)
def test_wrong_bodies_are_refused(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidBody) as refused:
        CHAT.read(body)
    assert refused.value.param == param


INNER = [
    "role", "content", "type", "text", "image_url", "url", "file", "input_audio", "data", "tool_calls", "id",
    "function", "name", "arguments", "custom", "refusal", "audio",
]  # fmt: skip
OUTER = ["content", "tool_calls", "function_call", "audio", "name", "tool_call_id", "refusal"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(INNER)
        | st.text(max_size=3),
        inner, max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip
ROLE = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(OUTER),
            JSON,
            max_size=3,
        ),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_hostile_messages_are_read_or_refused(messages: list[dict[str, object]], data: st.DataObject) -> None:
    for message in messages:
        message["role"] = data.draw(ROLE)
    body = json.dumps({"messages": messages}).encode()
    try:
        call = CHAT.read(body)
    except InvalidBody as refused:
        param = refused.param
    else:
        param = ""
    if param != "":
        assert str(param).startswith("messages")
        return
    every = [*call.preamble, *call.messages, *filter(None, [call.prefill])]
    assert [json.loads(message.wire) for message in every] == messages
    for each in every:
        canonical(each)


def test_speaks_where_chat_completions_are_made() -> None:
    for path in (
        "/v1/chat/completions",
        "/api/v1/chat/completions",
        "/openai/deployments/x/chat/completions",
        "/v1beta/openai/chat/completions",
    ):
        assert CHAT.speaks("POST", path)
        assert not CHAT.speaks("GET", path)
    for path in ("/v1/completions", "/v1/chat/completions/chatcmpl-1", "/v1/responses", "/v1/xchat/completionsx"):
        assert not CHAT.speaks("POST", path)
