"""The SDKs that people use, unchanged and configured by environment variables alone."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.app import Remora, sent
from tests.support.upstream import Received, Script, ScriptedUpstream, model, plain, sse

APPS = Path(__file__).parent / "apps"
TURNS = ["one", "two", "three", "four", "five"]
ARGUMENTS = '{"at":   1.50}'


async def app(proxy: Remora, name: str, how: str, *, by_path: bool) -> list[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "OPENAI_API_KEY": "sk-client",
        "OPENAI_BASE_URL": proxy.url + ("/s/anna/v1" if by_path else "/v1"),
        **({} if by_path else {"OPENAI_CUSTOM_HEADERS": "X-Session-Id: anna"}),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(APPS / name), how, *TURNS, stdout=asyncio.subprocess.PIPE, env=environment
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().splitlines()


def line(turns: int) -> list[tuple[str, str]]:
    """What the upstream must be sent in turn number `turns`."""
    said: list[tuple[str, str]] = []
    for n in range(1, turns):
        said += [("user", TURNS[n - 1]), ("assistant", f"reply {n}")]
    return [*said, ("user", TURNS[turns - 1])]


@pytest.mark.parametrize("by_path", [False, True])
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("openai_app.py", "sync"),
        ("openai_app.py", "async"),
        ("openai_app.py", "stream"),
        ("openai_app.py", "own-history"),
        ("langchain_app.py", "delta"),
        ("langchain_app.py", "stream"),
    ],
)
async def test_five_turns_of_one_new_message_each_show_the_model_the_whole_conversation(
    proxy: Remora, upstream: ScriptedUpstream, name: str, how: str, by_path: bool
) -> None:
    assert await app(proxy, name, how, by_path=by_path) == [f"reply {n}" for n in range(1, 6)]
    assert [sent(request) for request in upstream.requests] == [line(n) for n in range(1, 6)]
    stored = [info async for info in proxy.here.house.store.list()]
    assert [(info.ref.name, info.turns, info.messages) for info in stored] == [("anna", 5, 10)]


def calling() -> Callable[[Received], Script]:
    """Answers each user message with a tool call, and each tool result with text."""
    answered = model("done")
    count = 0

    def answer(request: Received) -> Script:
        nonlocal count
        asked = request.json()
        if asked["messages"][-1]["role"] == "tool":
            return answered(request)
        count += 1
        call = {"id": f"call_{count}", "type": "function", "function": {"name": "look", "arguments": ARGUMENTS}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        if asked.get("stream"):
            delta = {**message, "tool_calls": [{"index": 0, **call}]}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
            return sse(
                [
                    {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
                    {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
                ]
            )
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        about = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o"}
        return plain(200, {**about, "choices": [choice]})

    return answer


@pytest.mark.parametrize("by_path", [False, True])
@pytest.mark.parametrize(("name", "how"), [("openai_app.py", "tools"), ("langchain_app.py", "own-history")])
async def test_a_tool_loop_shows_the_model_every_call_and_result_once(
    proxy: Remora, upstream: ScriptedUpstream, name: str, how: str, by_path: bool
) -> None:
    upstream.replies = calling()
    assert await app(proxy, name, how, by_path=by_path) == ["done"] * 5
    roles = [role for role, _ in sent(upstream.requests[-1])]
    assert roles == ["user", "assistant", "tool", "assistant"] * 4 + ["user", "assistant", "tool"]
    stored = [info async for info in proxy.here.house.store.list()]
    assert [(info.turns, info.messages) for info in stored] == [(5, 20)]
