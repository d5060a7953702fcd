"""Responses made in the background, streams taken up again, cancellations; with the openai SDK unchanged."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.app import Remora, remora, sent
from tests.support.upstream import ScriptedUpstream, Wait, plain, sse

HEADERS = {"Authorization": "Bearer sk-client"}


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path) as proxy:
        yield proxy


@pytest.fixture
async def client(served: Remora) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as made:
        yield made


def delta(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


async def ended(client: AsyncOpenAI, id: str) -> Any:
    async with asyncio.timeout(20):
        while (found := await client.responses.retrieve(id)).status in ("queued", "in_progress"):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.02)
    return found


async def test_a_background_response_is_made_while_nobody_waits(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    go_on = asyncio.Event()
    upstream.queue.append(sse([delta("slow"), Wait(go_on), STOP]))
    made = await client.responses.create(model="gpt-4o", input="one", background=True, metadata={"a": "b"})
    assert (made.status, made.background, made.output) == ("queued", True, [])
    assert (await client.responses.retrieve(made.id)).status in ("queued", "in_progress")
    items = await client.responses.input_items.list(made.id)
    assert len(items.data) == 1
    # who goes on from it waits for it
    following = asyncio.create_task(client.responses.create(model="gpt-4o", input="two", previous_response_id=made.id))
    go_on.set()
    done = await ended(client, made.id)
    assert (done.status, done.output_text, done.metadata) == ("completed", "slow", {"a": "b"})
    assert (await following).status == "completed"
    assert sent(upstream.requests[-1]) == [("user", "one"), ("assistant", "slow"), ("user", "two")]


async def test_a_background_stream_can_be_left_and_taken_up_again(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    go_on = asyncio.Event()
    upstream.queue.append(sse([delta("one"), Wait(go_on), delta(" two"), STOP]))
    seen: list[Any] = []
    stream = await client.responses.create(model="gpt-4o", input="x", background=True, stream=True)
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    id = seen[0].response.id
    again = await client.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number)
    go_on.set()
    rest = [event async for event in again]
    numbers = [event.sequence_number for event in (*seen, *rest)]
    assert numbers == list(range(len(numbers)))
    assert rest[-1].type == "response.completed"
    assert rest[-1].response.output_text == "one two"
    whole = [event async for event in await client.responses.retrieve(id, stream=True)]
    assert [event.to_dict() for event in whole] == [event.to_dict() for event in (*seen, *rest)]


async def test_a_stored_stream_can_be_taken_up_again_after_its_end_and_a_restart(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.queue.append(sse([delta("one"), delta(" two"), STOP]))
    async with (
        remora(upstream.url, tmp_path) as proxy,
        AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        events = [event async for event in await client.responses.create(model="gpt-4o", input="x", stream=True)]
        id = events[0].response.id  # type: ignore[union-attr]
        after = [event async for event in await client.responses.retrieve(id, stream=True, starting_after=3)]
        assert [event.to_dict() for event in after] == [event.to_dict() for event in events[4:]]
        plainly = await client.responses.create(model="gpt-4o", input="x")
        with pytest.raises(openai.BadRequestError, match="stream"):
            await client.responses.retrieve(plainly.id, stream=True)
    async with (
        remora(upstream.url, tmp_path) as proxy,
        AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        after = [event async for event in await client.responses.retrieve(id, stream=True, starting_after=2)]
        assert [event.to_dict() for event in after] == [event.to_dict() for event in events[3:]]
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_" + "0" * 48, stream=True)


async def test_a_log_is_kept_for_as_long_as_is_set(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with (
        remora(upstream.url, tmp_path, resume_for_s=0.01) as served,
        AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        made = await client.responses.create(model="gpt-4o", input="x", background=True, stream=True)
        [*_, last] = [event async for event in made]
        id = last.response.id  # type: ignore[union-attr]
        url = f"{served.url}/v1/responses/{id}?stream=true"
        async with asyncio.timeout(10):
            while (reply := await served.http.get(url, headers=HEADERS)).status == 200:  # noqa: ASYNC110 - time passes
                await asyncio.sleep(0.05)
        assert (reply.status, (await reply.json())["error"]["param"]) == (400, "stream")
        assert (await client.responses.retrieve(id)).status == "completed"


async def test_a_background_response_can_be_cancelled(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    never = asyncio.Event()
    upstream.queue.append(sse([delta("one"), Wait(never)]))
    seen: list[Any] = []
    stream = await client.responses.create(model="gpt-4o", input="x", background=True, stream=True)
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            done = await client.responses.cancel(seen[0].response.id)
            assert done.status == "cancelled"
    assert seen[-1].type == "response.incomplete"
    assert seen[-1].response.status == "cancelled"
    id = seen[0].response.id
    kept = await client.responses.retrieve(id)
    assert (kept.status, kept.output_text) == ("cancelled", "one")
    assert (await client.responses.cancel(id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="previous_response"):
        await client.responses.create(model="gpt-4o", input="two", previous_response_id=id)
    synchronous = await client.responses.create(model="gpt-4o", input="x")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        await client.responses.cancel(synchronous.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.cancel("resp_" + "0" * 48)
    await client.responses.delete(id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(id)


async def test_a_background_response_that_fails_says_so(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    upstream.queue.append(plain(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}))
    made = await client.responses.create(model="gpt-4o", input="x", background=True)
    done = await ended(client, made.id)
    assert done.status == "failed"
    assert (done.error.code, done.error.message) == ("rate_limit_exceeded", "slow down")
    with pytest.raises(openai.BadRequestError, match="did not complete"):
        await client.responses.create(model="gpt-4o", input="two", previous_response_id=made.id)


async def test_background_needs_store(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="background can only be used when `store` is true"):
        await client.responses.create(model="gpt-4o", input="x", background=True, store=False)


async def test_a_retry_makes_no_second_response(served: Remora, upstream: ScriptedUpstream) -> None:
    body = json.dumps({"model": "gpt-4o", "input": "one"}).encode()
    for key in ("a", "b"):
        first = await served.post("/v1/responses", body, {"Idempotency-Key": key})
        again = await served.post("/v1/responses", body, {"Idempotency-Key": key})
        assert first.json()["id"] == again.json()["id"]
        assert first.json()["output"] == again.json()["output"]
    assert len(upstream.requests) == 2
    # also where the upstream would be asked the same
    for other in (
        body.replace(b"one", b"two"),
        body[:-1] + b', "instructions": "other"}',
        body[:-1] + b', "metadata": {}}',
    ):
        assert (await served.post("/v1/responses", other, {"Idempotency-Key": "a"})).code == "idempotency_key_reused"
    streamed = json.dumps({"model": "gpt-4o", "input": "three", "stream": True}).encode()
    one = await served.post("/v1/responses", streamed, {"Idempotency-Key": "c"})
    two = await served.post("/v1/responses", streamed, {"Idempotency-Key": "c"})
    assert one.body.count(b"response.completed") == two.body.count(b"response.completed") == 2
    assert len(upstream.requests) == 3
