"""Items become the chat messages that they were made from, and are listed in the SDK's types."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.dialects.responses.items import PREFIXES, read_input
from proxy.dialects.responses.reply import response
from proxy.dialects.responses.request import read
from proxy.errors import InvalidBody

ID = "ab" * 24
_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


def messages(*items: object) -> list[dict[str, object]]:
    made, listed = read_input(list(items), ID)
    CHAT.messages(b",".join(orjson.dumps(each) for each in made))
    assert len(listed) == len(items)
    found = [orjson.loads(each) for each in listed]
    for each in found:
        read = _ITEM.validate_python(each, strict=True)
        assert type(read).__name__ != "dict"
    assert len({each["id"] for each in found}) == len(found)
    return made


def user(*parts: Mapping[str, object]) -> dict[str, object]:
    return {"role": "user", "content": list(parts)}


def call(id: str) -> dict[str, object]:
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"}


def chat_call(id: str) -> dict[str, object]:
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def answer(id: str, output: object = "ok") -> dict[str, object]:
    return {"type": "function_call_output", "call_id": id, "output": output}


def test_a_string_is_the_users() -> None:
    made, listed = read_input("hi", ID)
    assert made == [{"role": "user", "content": "hi"}]
    assert orjson.loads(listed[0]) == {
        "type": "message", "role": "user", "status": "completed", "id": f"msg_{ID}00i",
        "content": [{"type": "input_text", "text": "hi"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "made"),
    [
        ({"type": "input_image", "image_url": "data:x", "detail": "low"},
         {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}),
        ({"type": "input_image", "image_url": "u", "file_id": None, "detail": None},
         {"type": "image_url", "image_url": {"url": "u"}}),
        ({"type": "input_file", "file_data": "x", "filename": "a.pdf"},
         {"type": "file", "file": {"file_data": "x", "filename": "a.pdf"}}),
        ({"type": "input_file", "file_id": "file-1"}, {"type": "file", "file": {"file_id": "file-1"}}),
        ({"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
         {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}),
    ],
)  # fmt: skip
def test_parts(part: dict[str, object], made: dict[str, object]) -> None:
    assert messages(user(part)) == [{"role": "user", "content": [made]}]


def test_audio() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    assert read_input([user(part)], ID)[0] == [{"role": "user", "content": [part]}]


def test_one_text_part_is_sent_as_a_string() -> None:
    text = {"type": "input_text", "text": "a"}
    assert messages(user(text)) == [{"role": "user", "content": "a"}]
    two = [{"type": "text", "text": "a"}] * 2
    assert messages(user(text, text)) == [{"role": "user", "content": two}]


def test_neighbouring_calls_are_one_message() -> None:
    assert messages(user(), call("a"), call("b"), answer("a"), answer("b")) == [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [chat_call("a"), chat_call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": "ok"},
        {"role": "tool", "tool_call_id": "b", "content": "ok"},
    ]
    steps = messages(call("a"), answer("a"), call("b"), answer("b"))
    assert [each["role"] for each in steps] == ["assistant", "tool"] * 2


def test_what_comes_between_calls_and_results_is_part_of_the_message() -> None:
    said = {"role": "assistant", "content": "wait"}
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    made = messages(call("a"), said, {**thought, "id": "rs_2"}, call("b"), answer("a"), answer("b"))
    assert made[0] == {
        "role": "assistant",
        "content": "wait",
        "tool_calls": [chat_call("a"), chat_call("b")],
        "reasoning_content": "hm",
    }


def test_messages_of_the_assistant_stay_apart() -> None:
    said = {"role": "assistant", "content": "a"}
    assert messages(said, said) == [said, said]


def test_reasoning_goes_to_the_message_that_follows() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    assert messages(said, thought, said) == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "a", "reasoning_content": "hm"},
    ]
    assert messages(thought, user())[0] == {"role": "assistant", "content": "", "reasoning_content": "hm"}
    sealed = {"type": "reasoning", "id": "rs_3", "summary": [{"type": "summary_text", "text": "s"}],
              "encrypted_content": "xyz"}  # fmt: skip
    assert messages(sealed, said) == [{"role": "assistant", "content": "a"}]


def test_custom_tools_and_outputs_in_parts() -> None:
    custom = {"type": "custom_tool_call", "call_id": "a", "name": "sh", "input": "ls"}
    output = {"type": "custom_tool_call_output", "call_id": "a", "output": [{"type": "input_image", "image_url": "u"}]}
    assert messages(custom, output) == [
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls"}}]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
    ]  # fmt: skip


def test_a_refusal_stays_one() -> None:
    said = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    assert messages(said) == [{"role": "assistant", "content": "", "refusal": "no"}]


@given(TEXT, TEXT | st.just(""), st.lists(TEXT, max_size=3))
def test_output_sent_back_is_the_message_that_it_was_made_from(text: str, thought: str, ids: list[str]) -> None:
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
    wire: dict[str, object] = {"role": "assistant", "content": text}
    if calls:
        wire["tool_calls"] = calls
    if thought:
        wire["reasoning_content"] = thought
    (message,) = CHAT.messages(orjson.dumps(wire))
    made = response(read(b'{"input":"hi"}', ID), ID, 1, Reply(message, whole=True))
    assert read_input(orjson.loads(orjson.dumps(made["output"])), "cd" * 24)[0] == [wire]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "item_reference"}, "input.id"),
        ({"type": "compaction", "encrypted_content": "x"}, "input[0].encrypted_content"),
        ({"type": "compaction", "encrypted_content": "remora-summary-1.!"}, "input[0].encrypted_content"),
        ({"type": "compaction", "encrypted_content": "remora-summary-1.MQ=="}, "input[0].encrypted_content"),
        ({"type": "compaction"}, "input[0].encrypted_content"),
        ({"type": "compaction", "encrypted_content": "x", "odd": 1}, "input[0].odd"),
        ({"type": "compaction_trigger"}, "input[0].type"),
        ({"type": "reasoning", "encrypted_content": "remora-reasoning-1.MQ=="}, "input[0].encrypted_content"),
        ({"type": "web_search_call", "id": "x"}, "input[0].type"),
        ({"type": 3}, "input[0].type"),
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": "user", "content": 3}, "input[0].content"),
        ({"role": "user", "content": "a", "id": ""}, "input[0].id"),
        ({"role": "user", "content": "a", "status": "odd"}, "input[0].status"),
        (user({"type": "output_text", "text": "a"}), "input[0].content[0].type"),
        (user({"type": "input_image", "file_id": "f"}), "input[0].content[0].file_id"),
        (user({"type": "input_image"}), "input[0].content[0].image_url"),
        (user({"type": "input_file", "file_url": "f"}), "input[0].content[0].file_url"),
        (user({"type": "input_file"}), "input[0].content[0].file_data"),
        (user({"type": "input_audio", "input_audio": {"data": "x"}}), "input[0].content[0].input_audio.format"),
        ({"type": "function_call", "call_id": "a", "name": "f"}, "input[0].arguments"),
        ({"type": "function_call_output", "output": "f"}, "input[0].call_id"),
        ({**call("a"), "namespace": "n"}, "input[0].namespace"),
        ({"type": "reasoning", "content": [{"type": "text", "text": "a"}]}, "input[0].content[0].type"),
    ],
)
def test_refusals_name_the_item(item: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidBody) as told:
        read_input([item], ID)
    assert told.value.param == param


def test_ids_are_kept_and_made() -> None:
    _, listed = read_input([{**call("a"), "id": "fc_mine"}, call("b")], ID)
    assert [orjson.loads(each)["id"] for each in listed] == ["fc_mine", f"fc_{ID}01i"]
    assert len(set(PREFIXES.values())) == len(PREFIXES)
