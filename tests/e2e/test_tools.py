"""Tool calls across turns: what goes upstream is always a valid history."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import Json, Remora, remora, said
from tests.support.upstream import Script, ScriptedUpstream, plain, sse


def call(id: str, name: str = "look", arguments: str = '{"at": 1.0}') -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(id: str, content: str = "found") -> Json:
    return {"role": "tool", "tool_call_id": id, "content": content}


def completion(finish: str = "stop", **message: object) -> Script:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return plain(200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


def calls(*ids: str) -> Script:
    return completion("tool_calls", content=None, tool_calls=[call(id) for id in ids])


def streamed_calls(*ids: str) -> Script:
    deltas: list[Json] = [{"role": "assistant", "content": None}]
    for index, id in enumerate(ids):
        deltas.append(
            {
                "tool_calls": [
                    {"index": index, "id": id, "type": "function", "function": {"name": "look", "arguments": ""}}
                ]
            }
        )
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": part}}]} for part in ('{"at"', ": 1", ".0}")
        ]
    events: list[Any] = [{"id": "c", "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    return sse([*events, {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}])


def shape(upstream: ScriptedUpstream) -> list[str]:
    """The last request's messages: `user`, `assistant:1,2`, `tool:1`."""
    shapes = []
    for message in upstream.requests[-1].json()["messages"]:
        ids = [c["id"] for c in message.get("tool_calls", [])] or [message.get("tool_call_id")]
        shapes.append(message["role"] + (":" + ",".join(ids) if ids != [None] else ""))
    return shapes


@pytest.mark.parametrize("script", [calls, streamed_calls])
async def test_calls_and_results_survive_the_turn(proxy: Remora, upstream: ScriptedUpstream, script: Any) -> None:
    upstream.queue.append(script("a", "b"))
    await proxy.chat("s", "look twice", stream=script is streamed_calls)
    last = await proxy.chat("s", result("b"), result("a"))
    assert last.headers["X-Session-Turn"] == "1"
    assert shape(upstream) == ["user", "assistant:a,b", "tool:b", "tool:a"]
    assert upstream.requests[-1].json()["messages"][1]["tool_calls"][0] == call("a")
    await proxy.chat("s", "thanks")
    assert shape(upstream) == ["user", "assistant:a,b", "tool:b", "tool:a", "assistant", "user"]


async def test_a_call_that_the_user_walks_past_is_answered_until_its_result_comes(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    upstream.queue.append(calls("a", "b"))
    await proxy.chat("s", "look")
    await proxy.chat("s", "never mind")
    assert shape(upstream) == ["user", "assistant:a,b", "tool:a", "tool:b", "user"]
    stand_in = upstream.requests[-1].json()["messages"][2]["content"]
    await proxy.chat("s", "more")
    assert upstream.requests[-1].json()["messages"][2]["content"] == stand_in
    await proxy.chat("s", result("a", "late"), said("user", "now?"))
    assert shape(upstream) == [
        "user",
        "assistant:a,b",
        "tool:a",
        "tool:b",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert upstream.requests[-1].json()["messages"][2]["content"] == "late"


async def test_a_result_without_a_stored_call_is_refused(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await proxy.chat("s", "hello")
    refused = await proxy.chat("s", result("nope"))
    assert (refused.status, refused.code) == (400, "unknown_tool_call")
    assert len(upstream.requests) == 1


async def test_a_turn_of_150_steps_that_exceeds_the_window_keeps_its_user_message_and_newest_steps(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, "[window]\nmax_tokens = 1000\n") as proxy:
        upstream.queue.append(calls("0"))
        await proxy.chat("s", "the task")
        for step in range(1, 150):
            upstream.queue.append(calls(str(step)))
            await proxy.chat("s", result(str(step - 1), "word " * 30))
            sent = shape(upstream)
            assert sent[0] == "user"
            assert sent[-2:] == [f"assistant:{step - 1}", f"tool:{step - 1}"]
            for at in range(1, len(sent), 2):
                assert sent[at].replace("assistant", "tool") == sent[at + 1]
        assert len(sent) < 60


async def test_legacy_function_calls_survive(proxy: Remora, upstream: ScriptedUpstream) -> None:
    upstream.queue.append(completion("function_call", content=None, function_call={"name": "look", "arguments": "{}"}))
    await proxy.chat("s", "look")
    answered = await proxy.chat("s", {"role": "function", "name": "look", "content": "found"})
    assert answered.status == 200
    assert [m["role"] for m in upstream.requests[-1].json()["messages"]] == ["user", "assistant", "function"]


async def test_arguments_cut_off_by_the_length_limit_are_stored_but_not_sent(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    upstream.queue.append(completion("length", content="so", tool_calls=[call("a", arguments='{"at": ')]))
    await proxy.chat("s", "look")
    await proxy.chat("s", "go on")
    assert upstream.requests[-1].json()["messages"][1] == said("assistant", "so")


async def test_reasoning_is_sent_back_in_tool_turns_only(proxy: Remora, upstream: ScriptedUpstream) -> None:
    upstream.queue.append(completion(content="plain", reasoning_content="secret thought"))
    await proxy.chat("s", "hello")
    upstream.queue.append(completion("tool_calls", content=None, reasoning_content="why", tool_calls=[call("a")]))
    await proxy.chat("s", "look")
    upstream.queue.append(completion(content="seen", reasoning_content="because"))
    await proxy.chat("s", result("a"))
    await proxy.chat("s", "thanks")
    thoughts = [m.get("reasoning_content") for m in upstream.requests[-1].json()["messages"]]
    assert thoughts == [None, None, None, "why", None, "because", None]


async def test_what_is_replayed_is_the_valid_input_form(proxy: Remora, upstream: ScriptedUpstream) -> None:
    upstream.queue.append(
        completion(content="hi", refusal=None, annotations=[], audio=None, tool_calls=None, function_call=None)
    )
    await proxy.chat("s", "hello")
    await proxy.chat("s", "again")
    assert upstream.requests[-1].json()["messages"][1] == {"role": "assistant", "content": "hi"}
    assert json.loads(upstream.requests[-1].body)["messages"][0] == said("user", "hello")
