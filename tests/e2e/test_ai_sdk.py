"""The AI SDK for JavaScript with its OpenAI provider, unchanged over a chat-only upstream."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.app import Remora, remora
from tests.support.clients import run
from tests.support.steps import line, shown, stepping
from tests.support.upstream import ScriptedUpstream

FOLDER = Path(__file__).parent / "apps" / "node"
TURNS = ["one", "two", "three"]
STEPS = (1, 2)


@pytest.fixture
def node() -> str:
    """The program. Where tests must not be left out, that it is missing is a failure."""
    found = shutil.which("node")
    if found and (FOLDER / "node_modules" / "ai").is_dir():
        return found
    lacking = "node is not installed" if not found else "its packages are not installed (sh tests/support/node.sh)"
    if os.environ.get("CI") == "true":
        pytest.fail(lacking)
    pytest.skip(lacking)


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    upstream.replies = stepping(*STEPS)
    async with remora(upstream.url, tmp_path, responses="translate") as proxy:
        yield proxy


@pytest.mark.parametrize("how", ["previous", "history", "conversation"])
@pytest.mark.parametrize("way", ["generate", "stream"])
async def test_every_step_shows_the_model_all_that_was_before_it_once(
    node: str, served: Remora, upstream: ScriptedUpstream, way: str, how: str
) -> None:
    answers = await run(served, node, str(FOLDER / "ai_sdk.js"), way, how, *TURNS)
    assert answers == ["reply 1", "reply 2", "reply 3"]
    steps = () if how == "conversation" else STEPS
    per_turn = len(steps) + 1
    assert len(upstream.requests) == 3 * per_turn
    for n in (1, 2, 3):
        said = shown(upstream.requests[per_turn * n - 1].json()["messages"])
        assert said == line(TURNS[:n], *steps, system="Look.", again=how != "history")
