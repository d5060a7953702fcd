"""Work beside the requests: one errand at a time for each key, the newest cause counts, failures are tried again later.

Nobody waits for an errand, and none outlives the proxy: what is unfinished at the end is begun anew by a later reply.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

ERRANDS_AT_MOST = 1000
"""Under way at once, waiting ones included; what comes beyond is left to a later reply."""
AT_WORK_AT_MOST = 16
"""That do something, and do not wait to try again."""
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0
GRACE_S = 1.0
TRIES = 12
"""About four minutes; then a later reply begins anew."""

C = TypeVar("C")


class Failed(Exception):
    """The work could not be done now."""


class Errands(Generic[C]):
    """`C` is what causes an errand and holds all that it needs."""

    def __init__(
        self,
        work: Callable[[C], Awaitable[None]],
        broke: Callable[[Exception], None],
        *,
        at_most: int = ERRANDS_AT_MOST,
        tries: int = TRIES,
        grace_s: float = GRACE_S,
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`work` may raise Failed. Any other error ends the errand, and `broke` is told of it. `rest` waits."""
        self._work = work
        self._broke = broke
        self._at_most = at_most
        self._tries = tries
        self._grace_s = grace_s
        self._wait = rest
        self._newest: dict[Hashable, C] = {}
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._resting: set[Hashable] = set()
        self._changed = asyncio.Event()
        self._free = asyncio.Semaphore(AT_WORK_AT_MOST)

    def begin(self, key: Hashable, cause: C) -> None:
        """Has the work done for `cause`, soon; if an errand of this key is under way, after it and once."""
        if key in self._tasks:
            self._newest[key] = cause
        elif len(self._tasks) < self._at_most:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._run(key, cause))

    @property
    def count(self) -> int:
        """Under way, those that wait included."""
        return len(self._tasks)

    async def idle(self) -> None:
        """Until nothing is under way but what waits to try again."""
        while self._tasks.keys() - self._resting:
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Ends those under way; what works just now may go on for a moment."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.idle(), self._grace_s)
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, key: Hashable, cause: C) -> None:
        try:
            pause, failures = FIRST_RETRY_S, 0
            while True:
                try:
                    async with self._free:
                        await self._work(cause)
                    failures, pause = 0, FIRST_RETRY_S
                except Failed:
                    failures += 1
                    if failures >= self._tries:
                        return
                    await self._rest(key, pause)
                    pause = min(2 * pause, LAST_RETRY_S)
                    cause = self._newest.pop(key, cause)
                    continue
                if key not in self._newest:
                    return
                cause = self._newest.pop(key)
        except Exception as error:  # noqa: BLE001 - nobody awaits this task, so it has to be told here
            self._broke(error)
        finally:
            self._newest.pop(key, None)
            del self._tasks[key]
            self._changed.set()

    async def _rest(self, key: Hashable, pause: float) -> None:
        self._resting.add(key)
        self._changed.set()
        try:
            await self._wait(pause)
        finally:
            self._resting.discard(key)
