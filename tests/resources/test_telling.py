"""What is told of a response: the same to everybody who asks, however far it is, and nothing that is not so."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import Remora, remora
from tests.support.upstream import ScriptedUpstream, Wait, model, sse

STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
SLOW = {"choices": [{"index": 0, "delta": {"content": "slow"}}]}


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(model()) as server:
        yield server


async def post(proxy: Remora, key: str = "", **members: Any) -> bytes:
    body = json.dumps({"model": "m", "background": True, **members}).encode()
    return (await proxy.post("/v1/responses", body, {"Idempotency-Key": key} if key else {})).body


async def test_who_asks_again_while_it_waits_follows_the_same_stream(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path) as proxy:
        go_on = asyncio.Event()
        upstream.queue.append(sse([SLOW, Wait(go_on), STOP]))
        first = json.loads(await post(proxy, input="x"))["id"]
        await upstream.until(lambda u: bool(u.requests))
        more: dict[str, Any] = {"input": "y", "stream": True, "previous_response_id": first}
        asked = [asyncio.create_task(post(proxy, "k", **more))]
        async with asyncio.timeout(10):
            # it waits, as a visit beside the first one
            while proxy.here.house.turnstile.running < 2:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.01)
        asked += [asyncio.create_task(post(proxy, "k", **more)) for _ in range(2)]
        await asyncio.wait(asked, timeout=0.3)
        go_on.set()
        one, *others = await asyncio.gather(*asked)
        assert others == [one, one]
        assert b"event: response.completed" in one
        assert b"response.failed" not in one
        assert len(upstream.requests) == 2


async def test_a_stream_is_taken_up_behind_a_number_alone(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path) as proxy:
        told = await post(proxy, input="x", stream=True)
        id = json.loads(told.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
        for after, status in (("-2", 400), ("x", 400), ("\u0663", 400), ("9" * 10, 400), ("-1", 200), ("999", 200)):
            async with proxy.http.get(
                f"{proxy.url}/v1/responses/{id}",
                params={"stream": "true", "starting_after": after},
                headers={"Authorization": "Bearer sk-client"},
            ) as reply:
                assert reply.status == status, after
                assert status == 400 or await reply.read() == (told if after == "-1" else b"")
