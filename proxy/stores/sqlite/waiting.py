"""Those of this process who wait in lines: told at once by one another, and by looking at the file of what other
processes do. All of them share one look."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from proxy.errors import StoreUnavailable
from proxy.stores.contract import Place, Ref

FIRST_S = 0.05
LAST_S = 0.25
SLOWER = 1.5
MOST_REFS = 10_000
"""Whose holders are remembered."""


class _Wait:
    """Those who wait in one line."""

    __slots__ = ("due", "futures", "pause_s")

    def __init__(self, now: float) -> None:
        self.futures: set[asyncio.Future[Exception | None]] = set()
        self.pause_s = FIRST_S
        self.due = now + FIRST_S


class Waiting:
    def __init__(self, firsts: Callable[[Sequence[Ref]], Awaitable[Sequence[str | None]]]) -> None:
        """`firsts` tells of each ref whose turn it is, None for nobody's."""
        self._firsts = firsts
        self._waits: dict[Ref, _Wait] = {}
        self._behind: dict[Ref, set[str]] = {}
        """The holders of this process that do not know yet that it is their turn."""
        self._looking: asyncio.Task[None] | None = None

    def stands(self, ref: Ref, holder: str, place: Place) -> None:
        """What `holder` was told of its place."""
        if not place.kept or not place.ahead:
            self._forget(ref, holder)
            return
        self._behind.setdefault(ref, set()).add(holder)
        if len(self._behind) > MOST_REFS:
            del self._behind[next(iter(self._behind))]

    def left(self, ref: Ref, holder: str) -> None:
        self._forget(ref, holder)
        self.wake(ref)

    def _forget(self, ref: Ref, holder: str) -> None:
        behind = self._behind.get(ref)
        if behind is not None:
            behind.discard(holder)
            if not behind:
                del self._behind[ref]

    async def moved(self, ref: Ref, timeout_s: float) -> None:
        """See `Store.moved`."""
        loop = asyncio.get_running_loop()
        wait = self._waits.setdefault(ref, _Wait(loop.time()))
        future: asyncio.Future[Exception | None] = loop.create_future()
        wait.futures.add(future)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait((future,), timeout=max(0, timeout_s))
            if future.done() and (error := future.result()):
                raise error
        finally:
            wait.futures.discard(future)
            if not wait.futures and self._waits.get(ref) is wait:
                del self._waits[ref]
            if not self._waits and self._looking:
                self._looking.cancel()
                self._looking = None

    def wake(self, ref: Ref, error: Exception | None = None) -> None:
        wait = self._waits.get(ref)
        for future in wait.futures if wait else ():
            if not future.done():
                future.set_result(error)

    def close(self) -> None:
        for ref in self._waits:
            self.wake(ref, StoreUnavailable("The store is closed; the proxy is stopping, send the request again."))
        self._behind.clear()

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(FIRST_S)
            refs = [ref for ref, wait in self._waits.items() if wait.due <= now()]
            if not refs:
                continue
            try:
                firsts = await self._firsts(refs)
            except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
                for ref in refs:
                    self.wake(ref, error)
                continue
            for ref, first in zip(refs, firsts, strict=True):
                self._looked(ref, first, now())

    def _looked(self, ref: Ref, first: str | None, now: float) -> None:
        if first is None:
            self._behind.pop(ref, None)
        if first is None or first in self._behind.get(ref, ()):
            self.wake(ref)
        if wait := self._waits.get(ref):
            wait.pause_s = min(wait.pause_s * SLOWER, LAST_S)
            wait.due = now + wait.pause_s
