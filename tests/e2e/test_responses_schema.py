"""Every response and every stream event, of requests of every kind, is what the specification and the SDK say."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from openai.types.responses import ResponseItem

from tests.support.app import Remora, remora
from tests.support.openresponses import check_error, check_reply, check_stream, check_type
from tests.support.steps import USAGE, chunks, completion
from tests.support.upstream import Close, Reset, Script, ScriptedUpstream, plain, sse

Json = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
LOOK = {"type": "function", "name": "look", "description": "Looks.", "parameters": SCHEMA, "strict": True}
BARE = {"type": "function", "name": "look"}
SHELL = {"type": "custom", "name": "shell", "description": "Runs."}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
MEDIA = [
    {"type": "input_text", "text": "what is it"},
    {"type": "input_image", "image_url": PIXEL, "detail": "low"},
    {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
]


def call(n: int, arguments: str = '{"a": 1}') -> Json:
    return {"id": f"call_{n}", "type": "function", "function": {"name": "look", "arguments": arguments}}


CUSTOM = {"id": "call_1", "type": "custom", "custom": {"name": "shell", "input": "ls -l"}}


class Case(msgspec.Struct, frozen=True):
    """What is asked for, what the model says to it, and what must come of that."""

    asked: Json
    said: Json = msgspec.field(default_factory=lambda: {"content": "hello there"})
    finish: str | None = "stop"
    usage: Json | None = msgspec.field(default_factory=lambda: USAGE)
    status: str = "completed"
    output: tuple[str, ...] = ("message",)
    holds: Json = msgspec.field(default_factory=dict)


CASES = {
    "text": Case({}),
    "items": Case({"input": [{"role": "user", "content": "hi"}], "instructions": "Be kind."}),
    "no text": Case({}, {"content": ""}),
    "one call": Case({"tools": [LOOK]}, {"content": None, "tool_calls": [call(1)]}, "tool_calls",
                     output=("function_call",)),
    "a tool of little": Case({"tools": [BARE]}, {"content": None, "tool_calls": [call(1, "{}")]}, "tool_calls",
                             output=("function_call",)),
    "parallel calls and text": Case(
        {"tools": [LOOK], "parallel_tool_calls": True}, {"content": "let me", "tool_calls": [call(1), call(2)]},
        "tool_calls", output=("message", "function_call", "function_call")),
    "custom call": Case({"tools": [SHELL]}, {"content": None, "tool_calls": [CUSTOM]}, "tool_calls",
                        output=("custom_tool_call",)),
    "no tool": Case({"tools": [LOOK], "tool_choice": "none"}, holds={"tool_choice": "none"}),
    "this tool": Case({"tools": [LOOK], "tool_choice": {"type": "function", "name": "look"}},
                      {"content": None, "tool_calls": [call(1)]}, output=("function_call",)),
    "some tools": Case(
        {"tools": [LOOK], "tool_choice": {"type": "allowed_tools", "mode": "auto",
                                          "tools": [{"type": "function", "name": "look"}]}}),
    "refusal": Case({}, {"content": None, "refusal": "I will not."}),
    "reasoning": Case({"reasoning": {"effort": "high"}}, {"content": "four", "reasoning_content": "two and two"},
                      output=("reasoning", "message")),
    "reasoning alone, cut": Case({}, {"content": "", "reasoning_content": "two and"}, "length", status="incomplete",
                                 output=("reasoning",)),
    "reasoning and call": Case(
        {"tools": [LOOK]}, {"content": None, "reasoning_content": "hm", "tool_calls": [call(1)]}, "tool_calls",
        output=("reasoning", "function_call")),
    "length": Case({"max_output_tokens": 2}, finish="length", status="incomplete",
                   holds={"incomplete_details": {"reason": "max_output_tokens"}}),
    "call cut by length": Case({"tools": [LOOK]}, {"content": None, "tool_calls": [call(1, '{"a')]}, "length",
                               status="incomplete", output=("function_call",)),
    "filter": Case({}, finish="content_filter", status="incomplete",
                   holds={"incomplete_details": {"reason": "content_filter"}}),
    "no usage": Case({}, usage={}, holds={"usage": None}),
    "bare usage": Case({}, usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}),
    "full usage": Case({}, holds={"usage": {
        "input_tokens": 50, "input_tokens_details": {"cached_tokens": 32, "cache_write_tokens": 0}, "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 57}}),
    "media": Case({"input": [{"type": "message", "role": "user", "content": MEDIA}]}),
    "json schema": Case({"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}}},
                        {"content": '{"a": 1}'}),
    "json object": Case({"text": {"format": {"type": "json_object"}, "verbosity": "low"}}, {"content": "{}"}),
    "members": Case(
        {"metadata": {"a": "b"}, "temperature": 0, "top_p": 0.5, "presence_penalty": 1, "frequency_penalty": -1.5,
         "user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "service_tier": "flex", "truncation": "auto"},
        holds={"metadata": {"a": "b"}, "safety_identifier": "s", "prompt_cache_key": "k", "truncation": "auto"}),
    "not stored": Case({"store": False}, holds={"store": False}),
    "history": Case(
        {"input": [
            {"type": "message", "role": "system", "content": "Be kind."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"}]},
            {"type": "message", "role": "assistant", "phase": "commentary", "content": "so"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "seen"},
            {"type": "message", "role": "developer", "content": "Be brief."},
        ]}),
    "control and wide characters": Case({}, {"content": "a\u0000\u2028\x1b\U0001f600 \\u0041"}),
}  # fmt: skip


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path, responses="translate") as proxy:
        yield proxy


async def create(proxy: Remora, **members: object) -> tuple[int, bytes]:
    body = {"model": "gpt-4o", "input": "hi", **members}
    answer = await proxy.post("/v1/responses", json.dumps(body).encode())
    return answer.status, answer.body


async def get(proxy: Remora, path: str) -> tuple[int, bytes]:
    async with proxy.http.get(proxy.url + path, headers={"Authorization": "Bearer sk-client"}) as reply:
        return reply.status, await reply.read()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", CASES)
async def test_a_response_is_valid_and_says_what_the_model_said(
    served: Remora, upstream: ScriptedUpstream, name: str, stream: bool
) -> None:
    case = CASES[name]
    upstream.replies = lambda request: completion(request.json(), case.said, case.finish, case.usage)
    status, body = await create(served, **case.asked, **({"stream": True} if stream else {}))
    assert status == 200, body
    made = (check_stream if stream else check_reply)(body)
    assert (made["status"], tuple(item["type"] for item in made["output"])) == (case.status, case.output)
    assert {member: made[member] for member in case.holds} == case.holds
    assert (made["incomplete_details"] is None) == (case.status == "completed")
    assert made["output_text"] == (case.said.get("content") or "")
    status, kept = await get(served, f"/v1/responses/{made['id']}")
    if not made["store"]:
        assert (status, check_error(kept)["type"]) == (404, "invalid_request_error")
        return
    assert check_reply(kept) == made
    status, listed = await get(served, f"/v1/responses/{made['id']}/input_items?order=asc&limit=100")
    page = json.loads(listed)
    assert set(page) == {"object", "data", "first_id", "last_id", "has_more"}
    check_type(list[ResponseItem], page["data"])
    asked = case.asked.get("input", "hi")
    assert len(page["data"]) == (1 if isinstance(asked, str) else len(asked))


BROKEN: dict[str, tuple[Script, int]] = {
    "refusal of OpenAI": (plain(400, {"error": {"message": "no", "type": "t", "param": None, "code": None}}), 400),
    "too many": (plain(429, {"error": {"message": "no", "type": "t", "param": None, "code": None}}), 429),
    "broken off": (Script([Reset()]), 502),
    "nothing": (Script([Close()]), 502),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", BROKEN)
async def test_a_failure_before_the_reply_is_an_error_and_nothing_is_kept(
    served: Remora, upstream: ScriptedUpstream, name: str, stream: bool
) -> None:
    script, expected = BROKEN[name]
    upstream.queue += [script] * 2
    status, body = await create(served, stream=stream)
    assert status == expected
    check_error(body)
    assert [info async for info in served.here.house.store.list()] == []


ABOUT = {"id": "c", "created": 1, "model": "m"}
BEGUN = list(chunks(ABOUT, {"content": "hello there"}, None, None))
FAILURE = {"error": {"message": "It broke.", "type": "server_error", "code": "boom", "param": None}}


@pytest.mark.parametrize(
    "name", ["error in the stream", "error at once", "reset", "cut chunk", "error event", "no JSON in it"]
)
async def test_a_stream_that_fails_ends_with_an_error_and_its_failed_response(
    served: Remora, upstream: ScriptedUpstream, name: str
) -> None:
    script = {
        "error in the stream": sse([*BEGUN, FAILURE]),
        "error at once": sse([FAILURE]),
        "reset": sse([*BEGUN, Reset()], done=False),
        "cut chunk": sse([*BEGUN, Close()], done=False),
        "error event": sse([*BEGUN, b"event: error\ndata: " + json.dumps(FAILURE).encode() + b"\n\n"]),
        "no JSON in it": sse([*BEGUN, "{broken"], done=False),
    }[name]
    upstream.queue.append(script)
    body = json.dumps({"model": "gpt-4o", "input": "hi", "stream": True}).encode()
    async with served.http.post(
        f"{served.url}/v1/responses", data=body, headers={"Authorization": "Bearer sk-client"}
    ) as reply:
        assert reply.status == 200
        got = b""
        try:
            async for data in reply.content.iter_any():
                got += data
        except aiohttp.ClientError:
            pass  # the connection may break after its last event
    made = check_stream(got)
    assert made["status"] == "failed"
    assert made["error"]["message"]
    status, kept = await get(served, f"/v1/responses/{made['id']}")
    assert status == 404 or check_reply(kept)["status"] == "failed"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": None}, "input"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"previous_response_id": "resp_x"}, "previous_response_id"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.name"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
)
async def test_a_refusal_has_the_shape_of_an_error(
    served: Remora, upstream: ScriptedUpstream, members: Json, param: str
) -> None:
    for stream in (False, True):
        status, body = await create(served, **members, stream=stream)
        assert (status, check_error(body)["param"]) == (400, param)
    assert upstream.requests == []
