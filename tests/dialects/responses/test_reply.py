"""A chat reply as a Response object: items in their order, true status and usage."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.dialects.responses.reply import failed, response, settled
from proxy.dialects.responses.request import TIERS, read
from proxy.dialects.responses.sealed import REASONING, unseal
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
    assert got["input_tokens_details"] == {"cached_tokens": 3, "cache_write_tokens": 0}
    assert got["output_tokens_details"] == {"reasoning_tokens": 0}
    usage |= {"completion_tokens_details": {"reasoning_tokens": 1}, "prompt_tokens_details": {"cache_write_tokens": 4}}
    got = made(said({"content": "a"}), usage=usage)["usage"]
    assert got["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 4}
    assert got["output_tokens_details"] == {"reasoning_tokens": 1}
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


def test_the_service_tier_is_the_one_that_served() -> None:
    for tier in (*TIERS, "on_demand"):
        got = made(said({"content": "a"}), service_tier=tier)
        assert got["service_tier"] == (tier if tier in TIERS else "default")
    assert made(said({"content": "a"}), service_tier=None)["service_tier"] == "flex"


PLAIN = {"model": "m", "input": "hi"}
ONE = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}


@pytest.mark.parametrize("more", [{"include": ["message.output_text.logprobs"]}, {"top_logprobs": 2}])
def test_logprobs_that_are_asked_for(more: dict[str, object]) -> None:
    choice = {**said({"content": "a"}), "logprobs": {"content": [ONE], "refusal": None}}
    assert made(choice, body=orjson.dumps(PLAIN | more))["output"][0]["content"][0]["logprobs"] == [ONE]
    assert made(choice)["output"][0]["content"][0]["logprobs"] == []


def test_reasoning_in_the_upstreams_own_form_is_sealed_when_it_is_asked_for() -> None:
    details = [{"type": "reasoning.encrypted", "data": "x", "index": 0}]
    body = orjson.dumps(PLAIN | {"include": ["reasoning.encrypted_content"]})
    for message, text in (({}, []), ({"reasoning": "hm"}, [{"type": "reasoning_text", "text": "hm"}])):
        held = {"content": "a", "reasoning_details": details, **message}
        item = made(said(held), body=body)["output"][0]
        assert (item["type"], item["content"]) == ("reasoning", text)
        assert unseal(REASONING, item["encrypted_content"], "m") == {"reasoning_details": details}
        assert all("encrypted_content" not in item for item in made(said(held))["output"])
    assert made(said({"content": "a"}), body=body)["output"][0]["type"] == "message"


def test_a_response_that_failed_keeps_what_it_said() -> None:
    got = made(said({"content": "a"}))
    told = check_response(failed(got, "rate_limit_exceeded", "Too many."))
    assert told["error"] == {"code": "rate_limit_exceeded", "message": "Too many."}
    assert (told["status"], told["completed_at"], told["output"]) == ("failed", None, got["output"])
    assert check_response(failed(made(said({"content": "a"}, "length")), "odd", "x"))["incomplete_details"] is None
    assert check_response(failed(got, "odd", "x"))["error"]["code"] == "server_error"


def reply_of(message: Mapping[str, object]) -> Reply:
    reader = CHAT.reader(CHAT.read(b'{"messages":[{"role":"user","content":"a"}]}'), stream=False)
    reader.feed(orjson.dumps({"choices": [said(message)]}))
    reader.end()
    return reader.reply()


def test_calls_without_an_id_are_recorded_under_the_one_that_is_shown() -> None:
    function = {"name": "f", "arguments": '{"a": 1.0}'}
    calls: list[dict[str, object]] = [
        {"type": "function", "function": function},
        {"id": "mine", "type": "function", "function": function},
        {"id": "", "type": "function", "function": function},
        {"type": "custom", "custom": {"name": "c", "input": "ls"}},
    ]
    reply = reply_of({"content": "x", "tool_calls": calls, "reasoning_content": "hm"})
    kept = settled(reply, ID)
    assert kept.message is not None
    assert reply.message is not None
    wire = orjson.loads(kept.message.wire)
    ids = [f"call_{ID}00", "mine", f"call_{ID}02", f"call_{ID}03"]
    assert [call["id"] for call in wire["tool_calls"]] == [call.id for call in kept.message.calls] == ids
    assert CHAT.messages(kept.message.wire)[0].calls == kept.message.calls
    assert b'{"a": 1.0}' in kept.message.wire.replace(b'\\"', b'"')
    assert {**wire, "tool_calls": 0} == {**orjson.loads(reply.message.wire), "tool_calls": 0}
    asked = read(FULL, ID)
    shown = response(asked, ID, 9, reply)
    assert shown == response(asked, ID, 9, kept)
    assert [item["call_id"] for item in check_response(shown)["output"] if "call_id" in item] == ids


def test_what_needs_no_settling_stays_as_it_is() -> None:
    for message in (
        {"content": "x"},
        {"content": None, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
    ):
        reply = reply_of(message)
        assert settled(reply, ID) is reply
    assert settled(Reply(None, whole=False), ID).message is None
