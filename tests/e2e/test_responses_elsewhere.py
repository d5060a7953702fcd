"""Responses where several processes share a store: what one makes, the others know, repeat, cancel and delete."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.stores.contract import tag
from tests.support.app import Remora, remora
from tests.support.upstream import ScriptedUpstream, Wait, sse

STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
HEADERS = {"Authorization": "Bearer sk-client"}
KEY = {"Idempotency-Key": "k"}


def slow(go_on: asyncio.Event) -> Any:
    return sse([{"choices": [{"index": 0, "delta": {"content": "slow"}}]}, Wait(go_on), STOP])


async def create(proxy: Remora, headers: dict[str, str] | None = None, **members: Any) -> Any:
    body = {"model": "m", "background": True, **members}
    return (await proxy.post("/v1/responses", json.dumps(body).encode(), headers)).json()


async def ask(proxy: Remora, method: str, path: str) -> tuple[int, Any]:
    async with proxy.http.request(method, f"{proxy.url}/v1/responses/{path}", headers=HEADERS) as reply:
        return reply.status, json.loads(await reply.read())


async def ended(proxy: Remora, id: str) -> Any:
    async with asyncio.timeout(20):
        while (found := await ask(proxy, "GET", id))[1].get("status") in ("queued", "in_progress"):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.02)
    return found[1]


@pytest.fixture
async def both(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[tuple[Remora, Remora]]:
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(remora(upstream.url, tmp_path, shared=True, watched=False))
            for _ in range(2)
        ]
        yield one, other


async def test_a_background_response_is_made_and_told_of_everywhere(
    both: tuple[Remora, Remora], upstream: ScriptedUpstream
) -> None:
    one, other = both
    go_on = asyncio.Event()
    upstream.queue.append(slow(go_on))
    made = await create(one, input="x")
    store = other.here.house.store
    async with asyncio.timeout(10):
        # its owner says that it is alive
        begun = (await store.stale_runs(0, 1))[0].beat_ms
        while (await store.stale_runs(0, 1))[0].beat_ms == begun:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    assert (await ask(other, "GET", made["id"]))[1]["status"] == "in_progress"
    go_on.set()
    for proxy in both:
        assert (await ended(proxy, made["id"]))["output_text"] == "slow"


async def test_a_stream_is_taken_up_again_elsewhere(both: tuple[Remora, Remora], upstream: ScriptedUpstream) -> None:
    one, other = both
    go_on = asyncio.Event()
    upstream.queue.append(slow(go_on))
    body = json.dumps({"model": "m", "input": "x", "stream": True, "background": True}).encode()
    first = asyncio.create_task(one.post("/v1/responses", body))
    await upstream.until(lambda u: bool(u.requests))
    entry = ""
    async with asyncio.timeout(10):
        while not entry:
            stale = await other.here.house.store.stale_runs(0, 1)
            entry = f"resp_{stale[0].entry}{tag(stale[0].ref)}" if stale and stale[0].events else ""
    second = asyncio.create_task(other.http.get(f"{other.url}/v1/responses/{entry}?stream=true", headers=HEADERS))
    go_on.set()
    assert await (await second).read() == (await first).body


@pytest.mark.parametrize("follows", [False, True])
async def test_a_background_request_that_is_made_again_elsewhere_is_the_same_response(
    both: tuple[Remora, Remora], upstream: ScriptedUpstream, *, follows: bool
) -> None:
    one, other = both
    more: dict[str, Any] = {}
    if follows:
        more = {"previous_response_id": (await create(one, input="root", background=False))["id"]}
    before = len(upstream.requests)
    go_on = asyncio.Event()
    upstream.queue.append(slow(go_on))
    # at the same moment, and while it is made
    first, second = await asyncio.gather(*(create(proxy, KEY, input="x", **more) for proxy in both))
    third = await create(other, KEY, input="x", **more)
    assert first["id"] == second["id"] == third["id"]
    assert (await create(other, KEY, input="y", **more))["error"]["code"] == "idempotency_key_reused"
    go_on.set()
    for proxy in both:
        assert (await ended(proxy, first["id"]))["status"] == "completed"
    # and when it is done
    again = await create(other, KEY, input="x", **more)
    assert (again["id"], again["output_text"]) == (first["id"], "slow")
    assert (await create(other, KEY, input="y", **more))["error"]["code"] == "idempotency_key_reused"
    assert len(upstream.requests) == before + 1


async def test_a_background_request_is_known_again_after_a_restart(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        async with remora(upstream.url, tmp_path) as proxy:
            made = await create(proxy, KEY, input="x")
            assert (await ended(proxy, made["id"]))["status"] == "completed"
            ids.append(made["id"])
    assert ids[0] == ids[1]
    assert len(upstream.requests) == 1


async def test_what_is_deleted_elsewhere_while_it_is_made_does_not_come_back(
    both: tuple[Remora, Remora], upstream: ScriptedUpstream
) -> None:
    one, other = both
    go_on = asyncio.Event()
    upstream.queue.append(slow(go_on))
    made = await create(one, input="x")
    await upstream.until(lambda u: bool(u.requests))
    assert (await ask(other, "DELETE", made["id"]))[1]["deleted"] is True
    go_on.set()
    async with asyncio.timeout(10):
        while one.here.house.turnstile.running:  # noqa: ASYNC110 - its end is not told of
            await asyncio.sleep(0.02)
    for proxy in both:
        assert (await ask(proxy, "GET", made["id"]))[0] == 404


async def test_what_cannot_be_recorded_has_no_good_end(both: tuple[Remora, Remora], upstream: ScriptedUpstream) -> None:
    """Its conversation was deleted elsewhere."""
    one, other = both
    made = json.loads((await one.post("/v1/conversations", b"{}")).body)["id"]
    go_on = asyncio.Event()
    upstream.queue.append(slow(go_on))
    body = json.dumps({"model": "m", "input": "x", "conversation": made, "stream": True}).encode()
    told = asyncio.create_task(one.post("/v1/responses", body))
    await upstream.until(lambda u: bool(u.requests))
    async with other.http.delete(f"{other.url}/v1/conversations/{made}", headers=HEADERS) as reply:
        assert reply.status == 200
    go_on.set()
    events = [json.loads(line[6:]) for line in (await told).body.splitlines() if line.startswith(b"data: ")]
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    assert events[-1]["type"] in ("response.failed", "response.incomplete")
    assert "completed" not in [event["response"]["status"] for event in events if "response" in event]
    async with asyncio.timeout(10):
        for proxy in both:
            while (await ask(proxy, "GET", events[0]["response"]["id"]))[0] != 404:  # noqa: ASYNC110 - it is found out soon
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("background", [False, True])
async def test_a_stream_that_has_just_ended_is_taken_up_elsewhere(
    both: tuple[Remora, Remora], upstream: ScriptedUpstream, background: bool
) -> None:
    one, other = both
    for number in range(5):
        upstream.queue.append(sse([{"choices": [{"index": 0, "delta": {"content": "quick"}}]}, STOP]))
        body = {"model": "m", "input": f"{number}", "stream": True, "background": background}
        told = (await one.post("/v1/responses", json.dumps(body).encode())).body
        id = json.loads(told.split(b"data: ", 1)[1].split(b"\n", 1)[0])["response"]["id"]
        async with other.http.get(f"{other.url}/v1/responses/{id}?stream=true", headers=HEADERS) as reply:
            assert (reply.status, await reply.read()) == (200, told)


async def test_one_without_a_stream_has_none_elsewhere_either(
    both: tuple[Remora, Remora], upstream: ScriptedUpstream
) -> None:
    one, other = both
    go_on = asyncio.Event()
    upstream.queue.append(slow(go_on))
    made = await create(one, input="x")
    status, said = await ask(other, "GET", f"{made['id']}?stream=true")
    assert (status, said["error"]["param"]) == (400, "stream")
    go_on.set()
    assert (await ended(other, made["id"]))["status"] == "completed"
