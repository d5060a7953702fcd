"""A chat reply as a Response object: items in their order, true status and usage."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.dialects.responses.reply import response
from proxy.dialects.responses.request import read
from tests.dialects.responses.grammar import check_response

ID = "ab" * 24
FULL = orjson.dumps({
    "model": "m", "input": [{"role": "user", "content": "hi"}], "instructions": "I", "metadata": {"a": "b"},
    "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "c", "format": {"type": "text"}}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "high"},
    "reasoning": {"effort": "high"}, "temperature": 1, "max_output_tokens": 5, "truncation": "auto", "user": "u",
    "previous_response_id": "resp_x", "prompt_cache_retention": "24h", "service_tier": "flex", "store": False,
})  # fmt: skip


def made(choice: dict[str, object], *, body: bytes = FULL, status: str | None = None, **more: object) -> dict[str, Any]:
    asked = read(body, ID)
    reader = CHAT.reader(CHAT.read(asked.chat), stream=False)
    reader.feed(orjson.dumps({"choices": [choice], "model": "m-1", **more}))
    reader.end()
    return check_response(response(asked, ID, 9, reader.reply(), status=status, completed_at=11))


def said(message: Mapping[str, object], finish: str = "stop") -> dict[str, object]:
    return {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}


def test_the_request_is_repeated() -> None:
    got = made(said({"content": "yes"}))
    sent = orjson.loads(FULL)
    for name in ("instructions", "metadata", "max_output_tokens", "truncation", "user", "previous_response_id",
                 "prompt_cache_retention", "service_tier", "store", "tool_choice", "temperature"):  # fmt: skip
        assert got[name] == sent[name], name
    assert got["text"]["format"]["strict"] is False
    assert (got["id"], got["created_at"], got["completed_at"], got["model"]) == (f"resp_{ID}", 9, 11, "m-1")


def test_items_come_in_their_order() -> None:
    got = made(said({
        "content": "text", "refusal": "no", "reasoning": "hm",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "type": "custom", "custom": {"name": "c", "input": "ls"}},
            {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
        ],
    }))  # fmt: skip
    assert got["output"] == [
        {"id": f"rs_{ID}00", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"id": f"msg_{ID}01", "type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": "text", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "no"}]},
        {"id": f"fc_{ID}02", "type": "function_call", "call_id": "a", "name": "f", "arguments": "{}",
         "status": "completed"},
        {"id": f"ctc_{ID}03", "type": "custom_tool_call", "call_id": "b", "name": "c", "input": "ls"},
        {"id": f"fc_{ID}04", "type": "function_call", "call_id": f"call_{ID}02", "name": "f", "arguments": '{"a":1}',
         "status": "completed"},
    ]  # fmt: skip
    assert got["output_text"] == "text"


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("error", "failed", None),
    ],
)
def test_the_status_is_what_the_finish_reason_says(finish: str, status: str, reason: str | None) -> None:
    got = made(said({"content": "a"}, finish))
    assert got["status"] == status
    assert got["incomplete_details"] == ({"reason": reason} if reason else None)
    assert (got["error"] is not None) == (status == "failed")
    assert got["output"][-1]["status"] == ("completed" if status == "completed" else "incomplete")


def test_a_call_that_was_cut_off_is_incomplete() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a'}}
    (item,) = made(said({"content": None, "tool_calls": [call]}, "length"))["output"]
    assert (item["type"], item["status"], item["arguments"]) == ("function_call", "incomplete", '{"a')


def test_usage_is_what_the_upstream_reported() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
    got = made(said({"content": "a"}), usage=usage)["usage"]
    assert (got["input_tokens"], got["output_tokens"], got["total_tokens"]) == (5, 2, 7)
    assert got["input_tokens_details"]["cached_tokens"] == 3
    assert made(said({"content": "a"}))["usage"] is None


def test_reasoning_under_any_name() -> None:
    for message in (
        {"content": "a", "reasoning_content": "hm"},
        {"content": "a", "reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "a"},
            ]
        },
    ):
        got = made(said(message))
        assert got["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
        assert got["output_text"] == "a"


def test_an_empty_reply_is_an_empty_message() -> None:
    got = made(said({"content": ""}))
    assert [part["text"] for part in got["output"][0]["content"]] == [""]


def test_what_has_not_ended() -> None:
    asked = read(FULL, ID)
    for status in ("queued", "in_progress", "cancelled"):
        got = check_response(response(asked, ID, 9, Reply(None, whole=False), status=status))
        assert (got["status"], got["output"], got["usage"], got["completed_at"]) == (status, [], None, None)
    broken = check_response(response(asked, ID, 9, Reply(None, whole=False)))
    assert broken["status"] == "failed"
