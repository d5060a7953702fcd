"""Runs are told by the server's clock, and the watch finds those that are silent."""

import asyncio
import time
from collections.abc import Callable

import pytest

from proxy.conversation.entry import new_id
from proxy.stores.contract import End, tag
from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Link
from proxy.stores.redis.store import RedisStore
from tests.stores.making import CHAIN, REF


async def test_beats_are_told_by_the_servers_clock(store: RedisStore, make: Callable[..., RedisStore]) -> None:
    other = make()
    await other.open()
    id, before = new_id(), int(time.time() * 1000) - 5
    assert await store.begin_run(CHAIN, id, owner="me", state=b"s", ttl_s=60)
    run = await other.find_run(CHAIN.tenant, tag(CHAIN), id)
    assert run
    assert before <= run.beat_ms <= int(time.time() * 1000) + 5
    assert await other.stale_runs(60_000, 9) == []
    assert [each.entry for each in await other.stale_runs(-1000, 9)] == [id]
    assert await other.cancel_run(CHAIN, id)
    told = await store.log_run(CHAIN, id, owner="me", events=[b"a"], end=End(60, keep=False))
    assert told
    assert told.cancelled
    assert list(await other.run_events(CHAIN, id, -1, 9)) == [b"a"]
    assert await other.expire(9) == 0


async def test_names_of_runs_that_are_gone_go(store: RedisStore, address: Address) -> None:
    link, key = Link(address), f"{address.space}:runs"
    for _ in range(3):
        assert await store.begin_run(CHAIN, new_id(), owner="me", state=b"s", ttl_s=60)
    assert await store.erase(CHAIN)
    assert await link.ask("ZCARD", key) == 3
    assert await store.stale_runs(-1000, 2) == []
    assert await link.ask("EXISTS", key) == 0
    await link.close()


async def test_a_cancelled_write_comes_to_its_end_and_spoils_nothing(store: RedisStore, address: Address) -> None:
    """Whether the server knows the scripts or is told them again, which is a step of its own."""
    link = Link(address)
    id = new_id()
    assert await store.begin_run(REF, id, owner="me", state=b"s", ttl_s=None)
    for n in range(6):
        await link.ask("SCRIPT", "FLUSH")
        ask = store.cancel_run(REF, id) if n == 5 else store.log_run(REF, id, owner="me", events=[b"%d" % n])
        task = asyncio.ensure_future(ask)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if store._writes:
            await asyncio.wait(tuple(store._writes))
    assert await store.run_events(REF, id, -1, 9) == [b"%d" % n for n in range(5)]
    run = await store.find_run(REF.tenant, tag(REF), id)
    assert run
    assert (run.events, run.cancelled) == (5, True)
    await link.close()
