"""Connections are lent to one at a time, and none is lost."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from proxy.errors import StoreUnavailable
from proxy.stores.postgres import pool as module
from proxy.stores.postgres.pool import Connection, Pool
from tests.support.postgres import Server


@pytest.fixture
async def pool(server: Server) -> AsyncIterator[Pool]:
    async def connect() -> Connection:
        connection: Connection = await asyncpg.connect(server.url())
        return connection

    pool = Pool(connect, 2, "The server")
    yield pool
    pool.close()


async def whole(pool: Pool) -> None:
    """Both connections can be had at once, and no more than those."""
    both = asyncio.Barrier(3)
    seen: set[Connection] = set()

    async def take(connection: Connection) -> None:
        seen.add(connection)
        await both.wait()
        assert await connection.fetchval("SELECT 1") == 1

    tasks = [asyncio.create_task(pool.use(take)) for _ in range(2)]
    async with asyncio.timeout(5):
        await both.wait()
        await asyncio.gather(*tasks)
    assert len(seen) == 2
    assert pool._count == 2


async def test_at_most_so_many_and_in_order(pool: Pool) -> None:
    await whole(pool)
    busy = most = 0
    order: list[int] = []

    async def use(n: int) -> None:
        async def ask(connection: Connection) -> None:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            order.append(n)
            await connection.fetchval("SELECT 1")
            busy -= 1

        await pool.use(ask)

    await asyncio.gather(*[use(n) for n in range(20)])
    assert most == 2
    assert order == list(range(20))
    await whole(pool)


@pytest.mark.parametrize("steps", range(6))
async def test_who_is_cancelled_leaves_his_place(pool: Pool, steps: int) -> None:
    """Waiting, connecting, asking, or just handed a connection."""
    for victim in range(4):
        tasks = [asyncio.create_task(pool.use(lambda c: c.fetchval("SELECT 1"))) for _ in range(4)]
        for _ in range(steps):
            await asyncio.sleep(0)
        tasks[victim].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [a for n, a in enumerate(answers) if n != victim] == [1, 1, 1]
        await whole(pool)


async def test_handed_over_and_cancelled_at_once(pool: Pool) -> None:
    await whole(pool)
    release = asyncio.Event()

    async def hold(connection: Connection) -> None:
        await release.wait()

    holders = [asyncio.create_task(pool.use(hold)) for _ in range(2)]
    await asyncio.sleep(0)
    waiter = asyncio.create_task(pool.use(lambda c: c.fetchval("SELECT 1")))
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*holders)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    await whole(pool)


async def test_a_mistake_keeps_the_connection_and_a_cut_gives_it_up(pool: Pool) -> None:
    await whole(pool)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await pool.use(lambda c: c.fetchval("SELECT 1 / 0"))
    await whole(pool)
    with pytest.raises(StoreUnavailable, match="The server"):
        await pool.use(lambda c: c.fetchval("SELECT pg_terminate_backend(pg_backend_pid())"))
    await whole(pool)


async def test_waiting_is_bounded(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ACQUIRE_S", 0.05)
    monkeypatch.setattr(module, "MOST_WAITING", 1)
    release = asyncio.Event()

    async def hold(connection: Connection) -> None:
        await release.wait()

    holders = [asyncio.create_task(pool.use(hold)) for _ in range(2)]
    await asyncio.sleep(0)
    late, too_many = await asyncio.gather(*[pool.use(hold) for _ in range(2)], return_exceptions=True)
    assert isinstance(late, StoreUnavailable)
    assert "no connection became free" in late.message
    assert isinstance(too_many, StoreUnavailable)
    assert "Too many" in too_many.message
    release.set()
    await asyncio.gather(*holders)
    await whole(pool)


async def test_closing_ends_what_is_under_way(pool: Pool) -> None:
    tasks = [asyncio.create_task(pool.use(lambda c: c.fetchval("SELECT pg_sleep(60)"))) for _ in range(3)]
    await whole_started(pool)
    pool.close()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)


async def whole_started(pool: Pool) -> None:
    while len(pool._used) < 2:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
