"""How the store calls the database: what each of its parts is built on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

import asyncpg

from proxy.errors import StoreUnavailable
from proxy.stores.contract import Ref
from proxy.stores.postgres import asks
from proxy.stores.postgres.address import Address
from proxy.stores.postgres.batch import Batcher
from proxy.stores.postgres.cache import Cache
from proxy.stores.postgres.pool import Connection, Pool

ROWS_A_STEP = 2000
"""Rows that are removed in one transaction."""
MOST_WRITING = 10_000

T = TypeVar("T")
Row = asyncpg.Record


class Batchers:
    """The calls that each request makes, and those that each running response makes."""

    def __init__(self, pool: Pool) -> None:
        self.loads = Batcher(pool, asks.LOAD)
        self.appends = Batcher(pool, asks.APPEND, asks.key)
        self.held = Batcher(pool, asks.APPEND_HELD, asks.key)
        self.lines = Batcher(pool, asks.STAND, asks.key)
        self.logs = Batcher(pool, asks.LOG_RUN, asks.run_key)

    async def drain(self) -> None:
        """Returns when all that writes is done."""
        await asyncio.gather(*[each.drain() for each in (self.appends, self.held, self.lines, self.logs)])


class Calls:
    def __init__(self, address: Address, *, now: Callable[[], float] | None = None) -> None:
        """`now`: seconds since 1970; None: the server's clock, so that all replicas agree."""
        self._address = address
        self._now = now
        self._pool: Pool | None = None
        self._batchers: Batchers | None = None
        self._cache = Cache()
        self._writes: set[asyncio.Task[object]] = set()

    def _ms(self) -> int | None:
        return None if self._now is None else int(self._now() * 1000)

    def _open(self) -> Pool:
        if self._pool is None:
            raise StoreUnavailable("The store is closed; the proxy is stopping, send the request again.")
        return self._pool

    def _calls(self) -> Batchers:
        self._open()
        assert self._batchers
        return self._batchers

    async def _row(self, pool: Pool, sql: str, *values: object) -> Row:
        async def ask(connection: Connection) -> Row | None:
            return await connection.fetchrow(sql, *values)

        row = await pool.use(ask)
        assert row is not None
        return row

    async def _rows(self, sql: str, *values: object) -> list[Row]:
        async def ask(connection: Connection) -> list[Row]:
            return await connection.fetch(sql, *values)

        return await self._open().use(ask)

    async def _of(self, ref: Ref, sql: str, *values: object) -> Row:
        return await self._row(self._open(), sql, self._ms(), ref.tenant, ref.kind, ref.name, *values)

    async def _write(self, ref: Ref, sql: str, *values: object) -> Row:
        """As `_of`, done even if nobody waits for it any more."""
        all = (self._ms(), ref.tenant, ref.kind, ref.name, *values)
        return await self._surely(lambda pool: self._row(pool, sql, *all))

    async def _surely(self, work: Callable[[Pool], Coroutine[object, object, T]]) -> T:
        """It is done, even if nobody waits for it any more."""
        pool = self._open()
        if len(self._writes) >= MOST_WRITING:
            raise StoreUnavailable("Too many requests wait for the database; send fewer at once.", retry_after_s=1)
        task = asyncio.get_running_loop().create_task(work(pool))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def _remove(self, pool: Pool, left: int | None) -> None:
        """What is left of a ref that nobody can find any more, in steps."""
        while left is not None:
            (done,) = await self._row(pool, asks.ERASE_ON, left, ROWS_A_STEP)
            left = None if done else left
