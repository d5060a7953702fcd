"""The openai SDK on the Responses API, unchanged over a chat-only upstream: sync, async, its helpers for streams,
structured replies and lost connections."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import Remora, remora
from tests.support.clients import run
from tests.support.steps import completion, line, shown, stepping
from tests.support.upstream import Received, Script, ScriptedUpstream

APP = Path(__file__).parent / "apps" / "responses_app.py"
TURNS = ["one", "two", "three"]


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path, responses="translate") as proxy:
        yield proxy


@pytest.mark.parametrize("how", ["sync", "async", "stream", "async-stream", "resume"])
async def test_every_turn_shows_the_model_all_that_was_before_it(
    served: Remora, upstream: ScriptedUpstream, how: str
) -> None:
    upstream.replies = stepping()
    assert await run(served, sys.executable, str(APP), how, *TURNS) == ["reply 1", "reply 2", "reply 3"]
    assert [shown(request.json()["messages"]) for request in upstream.requests] == [line(TURNS[:n]) for n in (1, 2, 3)]


@pytest.mark.parametrize("how", ["parse", "stream-parse"])
async def test_a_structured_reply_is_asked_for_and_read(served: Remora, upstream: ScriptedUpstream, how: str) -> None:
    def answer(request: Received) -> Script:
        asked: dict[str, Any] = request.json()
        form = asked["response_format"]
        assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == (
            "json_schema", "Seen", True
        )  # fmt: skip
        turn = sum(message["role"] == "user" for message in asked["messages"])
        return completion(asked, {"content": json.dumps({"turn": turn})}, "stop")

    upstream.replies = answer
    assert await run(served, sys.executable, str(APP), how, *TURNS) == [1, 2, 3]
