"""The upstream says that the context is too long: the window is cut and the request sent once more."""

import json
from pathlib import Path

import pytest

from tests.support.app import remora, sent
from tests.support.upstream import Received, Script, ScriptedUpstream, model, plain

WINDOW = "[window]\nmax_tokens = 100000\n"


def refusal(message: str, status: int = 400) -> Script:
    return plain(
        status, {"error": {"message": message, "type": "invalid_request_error", "code": "context_length_exceeded"}}
    )


class Small:
    """A model that holds `limit` tokens, ten to a message's word."""

    def __init__(self, limit: int, says: str) -> None:
        self.limit = limit
        self.says = says
        self.refused = 0
        self._turns = model("ok")

    def __call__(self, request: Received) -> Script:
        tokens = sum(len(str(m["content"]).split()) + 4 for m in request.json()["messages"])
        if tokens > self.limit:
            self.refused += 1
            return refusal(self.says.format(limit=self.limit, sent=tokens))
        return self._turns(request)


LINE = "one two three four five six seven eight nine ten"
NAMES = "This model's maximum context length is {limit} tokens. However, your messages resulted in {sent} tokens."


async def test_it_is_cut_to_what_the_upstream_says_it_holds_and_asked_once_more(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    small = Small(300, NAMES)
    upstream.replies = small
    async with remora(upstream.url, tmp_path, WINDOW) as proxy:
        for _ in range(40):
            answer = await proxy.chat("s", LINE)
            assert answer.status == 200
        assert small.refused
        # what was learnt is kept in mind: not every turn is sent twice
        assert small.refused <= 3
        assert answer.headers["X-Session-Turn"] == "40"
        messages = sent(upstream.requests[-1])
    assert messages[-1] == ("user", LINE)
    assert sum(len(text.split()) + 4 for _, text in messages) > 100


async def test_without_a_figure_half_of_the_window_goes(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, WINDOW) as proxy:
        for _ in range(8):
            await proxy.chat("s", LINE)
        upstream.queue.append(refusal("Input is too long for requested model."))
        answer = await proxy.chat("s", LINE)
        assert answer.status == 200
        first, second = upstream.requests[-2:]
    assert len(first.json()["messages"]) == 17
    assert len(second.json()["messages"]) == 9
    assert second.get("Authorization") == first.get("Authorization")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_second_refusal_is_relayed_word_for_word(
    upstream: ScriptedUpstream, tmp_path: Path, stream: bool
) -> None:
    async with remora(upstream.url, tmp_path, WINDOW) as proxy:
        for _ in range(4):
            await proxy.chat("s", LINE)
        upstream.queue.extend(
            [refusal("prompt is too long: 9999 tokens > 8000 maximum"), refusal("prompt is too long, again")]
        )
        answer = await proxy.chat("s", LINE, stream=stream)
        assert answer.status == 400
        assert answer.json()["error"]["message"] == "prompt is too long, again"
        assert len(upstream.requests) == 6
        # nothing of it was recorded
        assert (await proxy.chat("s", "next")).headers["X-Session-Turn"] == "5"


async def test_a_request_that_is_too_long_by_itself_is_refused_at_once(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, WINDOW) as proxy:
        upstream.queue.append(refusal("prompt is too long: 9999 tokens > 8000 maximum"))
        answer = await proxy.chat("s", LINE)
        assert answer.status == 400
        assert len(upstream.requests) == 1


async def test_other_refusals_are_not_tried_again(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, WINDOW) as proxy:
        await proxy.chat("s", LINE)
        body = json.dumps({"error": {"message": "Invalid value for temperature " * 4000}})
        upstream.queue.append(plain(400, body, [("Content-Type", "application/json")]))
        answer = await proxy.chat("s", LINE)
        assert answer.body == body.encode()
        assert len(upstream.requests) == 2


async def test_the_plan_says_what_happened(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, WINDOW) as proxy:
        for _ in range(4):
            await proxy.chat("s", LINE)
        upstream.queue.append(refusal(NAMES.format(limit=100, sent=200)))
        await proxy.chat("s", LINE)
        store = proxy.here.house.store
        plans = [record.plan async for info in store.list() async for record in store.records(info.ref)]
    assert b'"overflow":"200 tokens > 100"' in plans[-1]
