"""Calls of one function that are made at the same time travel together: one round trip, one transaction, one commit.

A call by itself costs the driver and the server most of their time for what is around it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import cast

import asyncpg

from proxy.errors import StoreUnavailable
from proxy.stores.postgres import failures
from proxy.stores.postgres.pool import Connection, Pool

MOST_AT_ONCE = 32
MOST_UNDER_WAY = 3
"""Batches; what is asked for meanwhile makes up the next one."""
MOST_WAITING = 10_000
WAIT_S = 5.0
"""What has not begun by then is given up: the server has failed those before."""

Values = Sequence[object]
Answer = asyncio.Future[asyncpg.Record]


class Batcher:
    """Of `sql`, which gives one row. Those with one `key` are asked in the order in which they came; those of a batch
    in the order of their keys: transactions that lock rows in one order never wait for each other in a circle."""

    def __init__(self, pool: Pool, sql: str, key: Callable[[Values], tuple[object, ...]] | None = None) -> None:
        self._pool = pool
        self._sql = sql
        self._key = key
        self._busy: set[object] = set()
        """The keys of what is under way."""
        self._waiting: list[tuple[float, Values, Answer]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._called = False

    def ask(self, values: Values) -> Answer:
        """The row to come. Cancelling it does not stop the work. StoreUnavailable at once if too much waits."""
        if len(self._waiting) >= MOST_WAITING:
            raise StoreUnavailable("Too many requests wait for the database; send fewer at once.", retry_after_s=1)
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        self._waiting.append((loop.time(), values, answer))
        if not self._called and len(self._tasks) < MOST_UNDER_WAY:
            self._called = True
            loop.call_soon(self._send)
        return answer

    async def drain(self) -> None:
        """Returns when all that was asked for is answered."""
        while self._waiting or self._tasks:
            self._send()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _send(self) -> None:
        self._called = False
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._tasks) < MOST_UNDER_WAY:
            jobs = self._next(loop.time() - WAIT_S)
            if not jobs:
                return
            keys: set[object] = {self._key(values) for values, _ in jobs} if self._key else set()
            self._busy |= keys
            task = loop.create_task(self._serve(jobs))
            self._tasks.add(task)
            task.add_done_callback(partial(self._served, keys))

    def _next(self, latest: float) -> list[tuple[Values, Answer]]:
        """The oldest that need wait for none before them; who asked before `latest` is told so."""
        jobs: list[tuple[Values, Answer]] = []
        left: list[tuple[float, Values, Answer]] = []
        passed: set[object] = set()
        for n, (at, values, answer) in enumerate(self._waiting):
            if len(jobs) == MOST_AT_ONCE:
                left += self._waiting[n:]
                break
            key = self._key(values) if self._key else None
            if at < latest:
                self._late(answer)
            elif key is not None and (key in self._busy or key in passed):
                passed.add(key)
                left.append((at, values, answer))
            else:
                jobs.append((values, answer))
        self._waiting = left
        return jobs

    def _late(self, answer: Answer) -> None:
        _fail(answer, StoreUnavailable(f"{self._pool.shown} does not keep up with the requests.", retry_after_s=1))

    def _served(self, keys: set[object], task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._busy -= keys
        self._send()

    async def _serve(self, jobs: list[tuple[Values, Answer]]) -> None:
        if len(jobs) == 1:
            await self._alone(*jobs[0])
            return
        if key := self._key:
            jobs.sort(key=lambda job: cast("tuple[str, ...]", key(job[0])))
        try:
            rows = await self._pool.use(self._all([values for values, _ in jobs]))
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked
            cause = error.__cause__ if isinstance(error, StoreUnavailable) else error
            if isinstance(error, StoreUnavailable) and not failures.of_one(cause):
                for _, answer in jobs:
                    _fail(answer, error)
            else:
                # one of them spoils it for all: each by itself
                await asyncio.gather(*[self._each(some) for some in self._by_key(jobs)])
            return
        for (_, answer), row in zip(jobs, rows, strict=True):
            if not answer.done():
                answer.set_result(row)

    def _all(self, values: list[Values]) -> Callable[[Connection], Awaitable[list[asyncpg.Record]]]:
        return lambda connection: connection.fetchmany(self._sql, values)

    def _by_key(self, jobs: list[tuple[Values, Answer]]) -> list[list[tuple[Values, Answer]]]:
        found: dict[object, list[tuple[Values, Answer]]] = {}
        for n, job in enumerate(jobs):
            found.setdefault(self._key(job[0]) if self._key else n, []).append(job)
        return list(found.values())

    async def _each(self, jobs: list[tuple[Values, Answer]]) -> None:
        for job in jobs:
            await self._alone(*job)

    async def _alone(self, values: Values, answer: Answer) -> None:
        try:
            row = await self._pool.use(lambda connection: connection.fetchrow(self._sql, *values))
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked
            _fail(answer, error)
        else:
            if row is not None and not answer.done():
                answer.set_result(row)


def _fail(answer: Answer, error: Exception) -> None:
    if answer.done():
        return
    if isinstance(error, StoreUnavailable):
        # each has its own: who waits may change it
        cause = error.__cause__
        error = StoreUnavailable(error.message, retry_after_s=error.retry_after_s)
        error.__cause__ = cause
    answer.set_exception(error)
