"""Responses that wait for the one that they go on from: cancelled, left, stopped, or waiting for one that fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.support.app import Remora, remora
from tests.support.upstream import Reset, ScriptedUpstream, Wait, sse

STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
SLOW = {"choices": [{"index": 0, "delta": {"content": "slow"}}]}


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path) as proxy:
        yield proxy


@pytest.fixture
async def client(served: Remora) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as made:
        yield made


async def running(client: AsyncOpenAI, upstream: ScriptedUpstream, *then: Any) -> str:
    """The id of a response that is being made, and ends so."""
    upstream.queue.append(sse([SLOW, *then]))
    made = await client.responses.create(model="m", input="x", background=True)
    await upstream.until(lambda u: bool(u.requests))
    return made.id


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_waits_is_cancelled_at_once(
    client: AsyncOpenAI, upstream: ScriptedUpstream, *, stream: bool
) -> None:
    go_on = asyncio.Event()
    first = await running(client, upstream, Wait(go_on), STOP)
    more: dict[str, Any] = {"input": "y", "background": True, "previous_response_id": first}
    waiting: Any = await client.responses.create(model="m", stream=stream, **more)
    async with asyncio.timeout(5):
        id = (await anext(waiting)).response.id if stream else waiting.id
        assert (await client.responses.cancel(id)).status == "cancelled"
        if stream:
            assert [event async for event in waiting][-1].response.status == "cancelled"
    assert (await client.responses.retrieve(id)).status == "cancelled"
    # what it waited for is made all the same
    go_on.set()
    assert (await client.responses.create(model="m", input="z", previous_response_id=first)).status == "completed"
    assert len(upstream.requests) == 2


async def test_a_stream_that_waits_for_one_that_fails_has_an_end(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    go_on = asyncio.Event()
    first = await running(client, upstream, Wait(go_on), Reset())
    waiting = await client.responses.create(
        model="m", input="y", background=True, stream=True, previous_response_id=first
    )
    go_on.set()
    events: list[Any] = [event async for event in waiting]
    assert [event.type for event in events] == [
        "response.created", "response.queued", "response.in_progress", "response.failed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == [0, 1, 2, 3]
    assert "did not complete" in events[-1].response.error.message


async def test_a_stop_answers_who_waits_to_change_a_conversation(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, stop_timeout_s=0.2) as served:
        made = (await served.post("/v1/conversations", b"{}")).json()["id"]
        upstream.queue.append(sse([SLOW, Wait(asyncio.Event())]))
        body = {"model": "m", "input": "x", "background": True, "conversation": made}
        await served.post("/v1/responses", json.dumps(body).encode())
        await upstream.until(lambda u: bool(u.requests))
        adding = asyncio.create_task(
            served.post(f"/v1/conversations/{made}/items", b'{"items": [{"role": "user", "content": "y"}]}')
        )
        async with asyncio.timeout(10):
            while served.here.house.turnstile.running < 2:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.01)
        served.here.house.turnstile.interrupt_all()
        assert (await adding).code == "stopping"


async def test_a_stop_ends_those_that_wait(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with (
        remora(upstream.url, tmp_path, stop_timeout_s=0.2) as served,
        AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        first = await running(client, upstream, Wait(asyncio.Event()))
        follows: dict[str, Any] = {"model": "m", "input": "y", "previous_response_id": first}
        behind = await client.responses.create(**follows, background=True)
        asking = asyncio.create_task(served.post("/v1/responses", json.dumps(follows).encode()))
        async with asyncio.timeout(10):
            # three visits: the one that is made, and two that wait
            while served.here.house.turnstile.running < 3:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.01)
        began = loop.time()
    assert loop.time() - began < 4
    await asyncio.gather(asking, return_exceptions=True)
    async with (
        remora(upstream.url, tmp_path) as served,
        AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        assert (await client.responses.retrieve(behind.id)).status == "failed"
