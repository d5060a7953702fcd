"""langchain-openai on the Responses API, with `use_previous_response_id`, unchanged over a chat-only upstream."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.app import Remora, remora
from tests.support.clients import run
from tests.support.steps import line, shown, stepping
from tests.support.upstream import ScriptedUpstream

APP = Path(__file__).parent / "apps" / "langchain_responses_app.py"
TURNS = ["one", "two", "three"]
STEPS = (1, 2)


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    upstream.replies = stepping(*STEPS)
    async with remora(upstream.url, tmp_path, responses="translate") as proxy:
        yield proxy


@pytest.mark.parametrize(("how", "steps"), [("plain", ()), ("stream", ()), ("tools", STEPS), ("stream-tools", STEPS)])
async def test_every_turn_shows_the_model_all_that_was_before_it_once(
    served: Remora, upstream: ScriptedUpstream, how: str, steps: tuple[int, ...]
) -> None:
    assert await run(served, sys.executable, str(APP), how, *TURNS) == ["reply 1", "reply 2", "reply 3"]
    per_turn = len(steps) + 1
    assert len(upstream.requests) == 3 * per_turn
    for n in (1, 2, 3):
        said = shown(upstream.requests[per_turn * n - 1].json()["messages"])
        assert said == line(TURNS[:n], *steps, system="Look.")
    # each response is an entry with what it added, not with the history again
    stored = [info async for info in served.here.house.store.list()]
    added = [len(request.json()["messages"]) for request in upstream.requests]
    assert sum(info.messages for info in stored) <= added[-1] + 3
