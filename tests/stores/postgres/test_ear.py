"""What is said is heard, also after the connection was lost."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.stores.postgres import ear as module
from tests.stores.laws.lining import in_line, soon
from tests.stores.making import REF
from tests.stores.postgres.test_lining import hearing
from tests.stores.postgres.test_store import opened
from tests.support.postgres import Server

LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'remora' AND query LIKE 'LISTEN%'"


async def test_a_store_listens_on_one_connection_from_when_somebody_waits(
    fresh: Callable[[], str], server: Server
) -> None:
    store = await opened(fresh())
    await in_line(store, "a")
    assert server.sql(LISTENING) == "0"
    await in_line(store, "a", "b", "c")
    await hearing(store)
    await asyncio.gather(*[store.moved(REF, 0.01) for _ in range(9)])
    assert server.sql(LISTENING) == "1"
    await store.close()


async def test_a_lost_connection_is_made_again(
    fresh: Callable[[], str], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits asks by itself meanwhile, and is told again afterwards."""
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    store = await opened(fresh())
    await in_line(store, "a", "b")
    for holder in "ab":
        await hearing(store)
        waiting = asyncio.ensure_future(store.moved(REF, 30))
        await asyncio.sleep(0)
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        await soon(waiting)
        await hearing(store)
        waiting = asyncio.ensure_future(store.moved(REF, 30))
        await asyncio.sleep(0)
        if holder == "b":
            await in_line(store, "b")
            await in_line(store, "b", "c")
        store.step_out(REF, holder)
        await soon(waiting)
    await store.close()


async def test_a_connection_that_is_silent_is_looked_at(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    store = await opened(fresh())
    await hearing(store)
    await asyncio.sleep(0.05)
    await in_line(store, "a", "b")
    waiting = asyncio.ensure_future(store.moved(REF, 30))
    await asyncio.sleep(0)
    store.step_out(REF, "a")
    await soon(waiting)
    await store.close()
