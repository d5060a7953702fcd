"""openai-agents, unchanged, over a chat-only upstream: runs of several steps, by response and by conversation."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.app import Remora, remora
from tests.support.clients import run
from tests.support.steps import line, shown, stepping
from tests.support.upstream import ScriptedUpstream

APP = Path(__file__).parent / "apps" / "agents_app.py"
TURNS = ["one", "two", "three"]
OFF = {"OPENAI_AGENTS_DISABLE_TRACING": "1"}
STEPS = (1, 2)
"""Each turn: one call, then two at once, then the answer."""


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    upstream.replies = stepping(*STEPS)
    async with remora(upstream.url, tmp_path, responses="translate") as proxy:
        yield proxy


@pytest.mark.parametrize("how", ["chain", "given", "stream", "conversation", "session"])
async def test_every_step_shows_the_model_all_that_was_before_it_once(
    served: Remora, upstream: ScriptedUpstream, how: str
) -> None:
    answers = await run(served, sys.executable, str(APP), how, *TURNS, environment=OFF)
    assert answers[:3] == ["reply 1", "reply 2", "reply 3"]
    assert len(upstream.requests) == 3 * (len(STEPS) + 1)
    for n in (1, 2, 3):
        assert shown(upstream.requests[3 * n - 1].json()["messages"]) == line(TURNS[:n], *STEPS, system="Look.")


@pytest.mark.parametrize("how", ["conversation", "session"])
async def test_the_conversation_holds_every_item_in_order(served: Remora, how: str) -> None:
    *_, id = await run(served, sys.executable, str(APP), how, *TURNS, environment=OFF)
    target = f"{served.url}/v1/conversations/{id}/items?order=asc&limit=100"
    async with served.http.get(target, headers={"Authorization": "Bearer sk-client"}) as reply:
        assert reply.status == 200
        items = (await reply.json())["data"]
    kinds = [item["type"] for item in items]
    assert kinds == (
        ["message", "function_call", "function_call_output"]
        + ["function_call"] * 2 + ["function_call_output"] * 2 + ["message"]
    ) * 3  # fmt: skip
    assert len({item["id"] for item in items}) == len(items)
