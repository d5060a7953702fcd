"""What is recorded is valid input by the public SDK's types; nothing that was said is lost beside it."""

from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletionAssistantMessageParam, ChatCompletionMessageToolCallUnionParam
from pydantic import TypeAdapter

from proxy.conversation.message import Message, canonical
from proxy.dialects.chat import CHAT
from proxy.dialects.chat.compose import REASONING, compose
from tests.dialects.chat.samples import SAMPLES, Sample, opened, plain

MESSAGE = TypeAdapter(ChatCompletionAssistantMessageParam)
CALLS = TypeAdapter(list[ChatCompletionMessageToolCallUnionParam])
EXTENSIONS = {"images", "extra_content", *REASONING}
"""What other providers take back beyond the SDK's type."""


def validate(message: dict[str, Any]) -> None:
    """Raises ValueError unless it is valid input."""
    MESSAGE.validate_python(message)
    CALLS.validate_python(message.get("tool_calls", []))  # the adapter above looks into lists only when they are read


def recorded(sample: Sample) -> Message | None:
    reader = opened(sample)
    reader.feed(sample.body)
    reader.end()
    return reader.reply().message


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name for sample in SAMPLES])
def test_recorded_message_is_valid_input(sample: Sample) -> None:
    message = recorded(sample)
    if message is None:
        return
    members = orjson.loads(message.wire)
    known = set(ChatCompletionAssistantMessageParam.__annotations__)
    assert set(members) <= known | EXTENSIONS
    assert all(value is not None for name, value in members.items() if name != "content")
    assert members["content"] is not None or {"tool_calls", "function_call", "audio"} & set(members)
    if not sample.name.startswith("mistral-parts"):  # thinking parts are Mistral's own
        validate({name: value for name, value in members.items() if name in known})


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name for sample in SAMPLES])
def test_reading_the_recorded_message_again_gives_the_same(sample: Sample) -> None:
    message = recorded(sample)
    if message is None:
        return
    (again,) = CHAT.messages(message.wire)
    assert (again.wire, canonical(again)) == (message.wire, canonical(message))


def test_simple_members_keep_their_bytes() -> None:
    reader = opened(SAMPLES[0]._replace(stream=False, expected={}))
    content = rb'"Gr\u00fc\u00dfe \/ \ud83d\ude00"'
    call = rb'{ "id":"a","type":"function", "function":{"name":"f","arguments":"{\"n\": 1.0}"}, "x": %b }' % (b"7" * 30)
    reader.feed(
        b'{"choices":[{"message":{"content":%b,"tool_calls":[%b]},"finish_reason":"tool_calls"}]}' % (content, call)
    )
    message = reader.reply().message
    assert message is not None
    assert message.wire == b'{"role":"assistant","content":%b,"tool_calls":[%b]}' % (content, call)


def test_nothing_that_says_nothing_is_kept() -> None:
    empty: dict[str, object] = {
        "refusal": None,
        "annotations": [],
        "tool_calls": None,
        "function_call": None,
        "audio": None,
        "reasoning": "",
    }
    reply = plain({"content": "x", "parsed": {"a": 1}, "prefix": False, **empty})
    assert reply.message == Message("assistant", b'{"role":"assistant","content":"x"}', "x")


REASONED: dict[str, object] = {
    "content": "x",
    "reasoning_content": "hm",
    "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
    "citations": [1],
}


def test_reasoning_is_sent_back_in_tool_turns_only() -> None:
    message = plain(REASONED).message
    assert message is not None
    outside = CHAT.settle(message, tool_turn=False)
    inside = CHAT.settle(message, tool_turn=True)
    assert orjson.loads(outside.wire) == {"role": "assistant", "content": "x"}
    assert orjson.loads(inside.wire) == {"role": "assistant", **{k: v for k, v in REASONED.items() if k != "citations"}}
    assert orjson.loads(inside.aside) == {"citations": [1]}
    assert canonical(inside) == canonical(outside)
    assert CHAT.settle(inside, tool_turn=True) == inside
    for each in (inside, outside):
        assert orjson.loads(CHAT.full(each.wire, each.aside)) == {"role": "assistant", **REASONED}


def test_reasoning_stays_with_the_calls_it_led_to() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = plain({"content": None, "reasoning": "hm", "tool_calls": [call]}, "tool_calls").message
    assert message is not None
    assert orjson.loads(message.wire)["reasoning"] == "hm"
    assert message.aside == b""
    assert CHAT.settle(message, tool_turn=False) == message


def test_settling_a_message_with_nothing_beside_it_changes_nothing() -> None:
    message = plain({"content": "x", "citations": [1]}).message
    assert message is not None
    assert CHAT.settle(message, tool_turn=True) == message


def test_full_puts_back_what_was_kept_aside() -> None:
    whole = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    cut = {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}}
    message = plain(
        {"content": "x", "tool_calls": [whole, cut], "audio": {"id": "u", "transcript": "t", "data": "AAAA"}}, "length"
    ).message
    assert message is not None
    assert orjson.loads(CHAT.full(message.wire, message.aside)) == {
        "role": "assistant", "content": "x", "tool_calls": [whole, cut], "audio": {"id": "u", "transcript": "t"},
    }  # fmt: skip
    assert CHAT.full(b'{"role":"user","content":"\\u0041"}', b"") == b'{"role":"user","content":"\\u0041"}'


def test_message_that_could_not_be_sent_again_is_none() -> None:
    assert compose({"content": b'[{"type":5}]'}, cut=False) is None
    assert compose({"tool_calls": b'[{"id":"a","type":"function"}]'}, cut=False) is None


def test_the_checks_see_an_invalid_message() -> None:
    """The adapter is strict enough to refuse what providers refuse."""

    def fails(message: dict[str, Any]) -> bool:
        try:
            validate(message)
        except ValueError:
            return True
        return False

    assert fails({"role": "assistant", "content": 5})
    assert fails({"role": "assistant", "content": None, "audio": {"data": "x"}})
    assert fails({"role": "assistant", "tool_calls": [{"id": "a", "index": 0}]})
