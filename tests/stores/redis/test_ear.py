"""What is said is heard, also after the connection was lost."""

import asyncio

import pytest

from proxy.stores.redis import ear as module
from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Link
from proxy.stores.redis.store import RedisStore
from tests.stores.laws.lining import in_line, soon
from tests.stores.making import REF
from tests.stores.redis.test_lining import hearing


async def test_a_lost_connection_is_made_again(
    store: RedisStore, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits asks by itself meanwhile, and is told again afterwards."""
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    link = Link(address)
    await in_line(store, "a")
    assert store._ear
    assert store._ear._task is None
    await in_line(store, "a", "b", "c")
    for holder in "ab":
        await hearing(store)
        waiting = asyncio.ensure_future(store.moved(REF, 30))
        await asyncio.sleep(0)
        await link.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await soon(waiting)
        await hearing(store)
        waiting = asyncio.ensure_future(store.moved(REF, 30))
        await asyncio.sleep(0)
        store.step_out(REF, holder)
        await soon(waiting)
    await link.close()


async def test_a_connection_that_is_silent_is_looked_at(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    await hearing(store)
    await asyncio.sleep(0.05)
    assert store._waiting.hearing
    await in_line(store, "a", "b")
    waiting = asyncio.ensure_future(store.moved(REF, 30))
    await asyncio.sleep(0)
    store.step_out(REF, "a")
    await soon(waiting)
