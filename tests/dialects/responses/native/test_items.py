"""One item: what is read from it, and the form in which an upstream that keeps nothing takes it."""

import json
from typing import Any

import orjson
import pytest

from proxy.conversation.message import Media, ToolCall
from proxy.dialects.responses.native.items import Item, read_item
from proxy.errors import InvalidBody
from tests.dialects.responses.native import samples
from tests.dialects.responses.native.valid import check_item


def read(item: dict[str, Any], *, reply: bool = False) -> Item:
    raw = json.dumps(item).encode()
    return read_item(orjson.loads(raw), raw, reply=reply)


def sent(item: dict[str, Any], *, reply: bool = True) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(read(item, reply=reply).wire)
    return made


def test_a_reply_s_text_is_sent_as_a_string_without_id_and_status() -> None:
    made = sent(samples.message("hi", phase="final_answer"))
    assert made == {"type": "message", "role": "assistant", "content": "hi", "phase": "final_answer"}
    check_item(made)


def test_annotations_are_shown_and_not_sent() -> None:
    url = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    cited = samples.message("", content=[{"type": "output_text", "text": "hi", "annotations": [url]}])
    item = read(cited, reply=True)
    assert orjson.loads(item.wire)["content"] == "hi"
    assert orjson.loads(item.shown) == cited
    assert read(samples.message("hi"), reply=True).shown == b""


def test_a_refusal_stays_a_refusal() -> None:
    parts = [{"type": "refusal", "refusal": "no"}]
    item = read(samples.message("", content=parts), reply=True)
    assert item.text == "no"
    made = orjson.loads(item.wire)
    assert made["content"] == parts
    assert "id" not in made


def test_sealed_reasoning_loses_its_id_and_keeps_its_seal() -> None:
    made = sent(samples.reasoning(summary=[{"type": "summary_text", "text": "s"}], content=None, status=None))
    assert made == {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "s"}],
        "encrypted_content": "gAAA0",
    }


def test_clear_reasoning_keeps_the_id_that_servers_demand() -> None:
    content = [{"type": "reasoning_text", "text": "hm"}]
    made = sent(samples.reasoning(content=content, encrypted_content=None, status=None))
    assert made == {"type": "reasoning", "id": "rs_0000", "summary": [], "content": content}
    check_item(made)


@pytest.mark.parametrize("more", [{}, {"content": []}, {"content": None, "status": "completed"}])
def test_reasoning_that_says_nothing_is_not_sent(more: dict[str, Any]) -> None:
    item = read(samples.reasoning(encrypted_content=None, **more))
    assert item.wire == b""
    assert item.reasons
    assert orjson.loads(item.shown)["id"] == "rs_0000"


def test_calls_are_read_and_keep_what_matters() -> None:
    item = read(samples.call("c1", "f", '{"x": 1}', namespace=None, status="completed"), reply=True)
    assert item.calls == (ToolCall("c1", "f", '{"x": 1}'),)
    made = orjson.loads(item.wire)
    assert made == {
        "type": "function_call",
        "call_id": "c1",
        "name": "f",
        "arguments": '{"x": 1}',
        "status": "completed",
    }
    check_item(made)
    assert read(samples.custom("c2")).calls == (ToolCall("custom:c2", "g", "raw"),)


def test_results_name_their_call_and_its_kind() -> None:
    item = read(samples.output("c1"))
    assert (item.role, item.answers, item.text, item.of_run) == ("tool", "c1", "done", False)
    assert read(samples.output("c2", kind="custom_tool_call")).answers == "custom:c2"
    assert read({"type": "mcp_approval_response", "approval_request_id": "a", "approve": True}).answers == (
        read({"type": "mcp_approval_request", "id": "a", "name": "n", "arguments": "{}"}).calls[0].id
    )
    assert read({"type": "local_shell_call_output", "id": "l", "output": ""}).answers == "local_shell:l"
    assert read({"type": "computer_call_output", "call_id": "s", "output": {}}).answers == "computer:s"


def test_result_in_parts_is_read() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:,"}]
    item = read(samples.output("c1", parts))
    assert (item.text, item.media) == ("a", (Media("image", "data:,"),))


def test_parts_are_read() -> None:
    parts = [
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": "data:x", "detail": "low"},
        {"type": "input_image", "file_id": "file-1", "detail": "auto"},
        {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
        {"type": "input_file", "file_data": "data:y", "filename": "y.pdf"},
        {"type": "input_file", "file_url": "https://x"},
        {"type": "input_text", "text": "b"},
        {"type": "input_video", "video_url": "v"},
    ]
    item = read({"role": "user", "content": parts})
    assert item.text == "ab"
    assert item.media == (
        Media("image", "data:x", "low"),
        Media("image", "file-1"),
        Media("audio", "UklG", "wav"),
        Media("file", "data:y", "y.pdf"),
        Media("file", "https://x"),
        Media("input_video", '{"type":"input_video","video_url":"v"}'),
    )


def test_items_of_other_types_are_carried_as_they_are() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "q"}}
    raw = json.dumps(search).encode()
    item = read_item(search, raw, reply=True)
    assert (item.wire, item.role, item.of_run, item.calls) == (raw, "assistant", True, ())
    other = read({**search, "action": {"query": "r"}})
    assert item.media != other.media


def test_a_client_s_item_without_id_keeps_its_bytes() -> None:
    for raw in (
        b'{ "role" : "assistant", "content":[{"type":"output_text","text":"\\u0041","annotations":[ ]}],"x":null }',
        b'{"type":"function_call","call_id":"a","name":"f","arguments":"{}","status":null}',
        b'{"type":"reasoning", "encrypted_content":"g","summary":[] }',
        b'{"type":"function_call_output","output":"","call_id":"a", "n":123456789012345678901234567890}',
    ):
        assert read_item(orjson.loads(raw), raw).wire == raw


def test_of_a_client_s_item_only_the_id_goes() -> None:
    raw = b'{"type":"function_call","id":"fc_1","call_id":"a","name":"\\u0066","arguments":"{}","n":1.0}'
    assert read_item(orjson.loads(raw), raw).wire == raw.replace(b'"id":"fc_1",', b"")
    raw = b'{"type":"message","id":"msg_1","role":"user","content":[{"type":"input_text","text":"\\u0041"}]}'
    assert read_item(orjson.loads(raw), raw).wire == raw.replace(b'"id":"msg_1",', b"")


def test_the_form_is_its_own_form() -> None:
    """What is recorded is read again as it is."""
    content = [{"type": "reasoning_text", "text": "hm"}]
    for item in (
        samples.message("a"),
        samples.reasoning(),
        samples.reasoning(content=content, encrypted_content=None),
        samples.call(),
        samples.custom(),
        samples.message("", content=[{"type": "refusal", "refusal": "no"}]),
    ):
        wire = read(item, reply=True).wire
        assert read_item(orjson.loads(wire), wire).wire == wire


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ("hi", "input[3]"),
        (None, "input[3]"),
        ([], "input[3]"),
        ({}, "input[3].type"),
        ({"type": 5}, "input[3].type"),
        ({"type": "item_reference", "id": "msg_1"}, "input[3].type"),
        ({"role": "robot", "content": "x"}, "input[3].role"),
        ({"role": ["user"], "content": "x"}, "input[3].role"),
        ({"type": "message", "content": "x"}, "input[3].role"),
        ({"role": "user", "content": 5}, "input[3].content"),
        ({"role": "user", "content": ["x"]}, "input[3].content[0]"),
        ({"role": "user", "content": [{"text": "x"}]}, "input[3].content[0]"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[3].content[0].text"),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": 1}]}, "input[3].content[0].refusal"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[3].call_id"),
        ({"type": "function_call", "call_id": "", "name": "f", "arguments": "{}"}, "input[3].call_id"),
        ({"type": "function_call", "call_id": "a", "arguments": "{}"}, "input[3].name"),
        ({"type": "function_call", "call_id": "a", "name": "f", "arguments": {}}, "input[3].arguments"),
        ({"type": "custom_tool_call", "call_id": "a", "name": "f"}, "input[3].input"),
        ({"type": "function_call_output", "output": "x"}, "input[3].call_id"),
        ({"type": "function_call_output", "call_id": 5, "output": "x"}, "input[3].call_id"),
        ({"type": "function_call_output", "call_id": "a", "output": 5}, "input[3].output"),
        ({"type": "mcp_approval_response"}, "input[3].approval_request_id"),
    ],
)
def test_wrong_items_are_refused_by_name(item: Any, param: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        read_item(item, json.dumps(item).encode(), 3)
    assert refused.value.param == param
    assert "\n" not in refused.value.message
