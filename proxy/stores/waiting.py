"""Those of this process who wait in lines that a server keeps, and what they were told since they last asked."""

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
"""What tells lines apart."""

MOST_LINES = 10_000
"""Of which is remembered what was heard."""
LEAST_S = 0.05
"""Nobody is sent to ask more often than this because a place may have lapsed."""


class _Stand:
    """What is known here of one line."""

    __slots__ = ("behind", "due", "heard")

    def __init__(self) -> None:
        self.behind: set[str] = set()
        """Holders of this process that wait."""
        self.heard = False
        """Somebody may have moved up since this process last asked."""
        self.due: float | None = None
        """When the first one loses its place, unless it comes again; on the loop's clock."""


class Waiting(Generic[Key]):
    """Where it is not `hearing`, waiting ends after `deaf_s`."""

    def __init__(self, deaf_s: float) -> None:
        self._deaf_s = deaf_s
        self.hearing = False
        self._stands: dict[Key, _Stand] = {}
        self._futures: dict[Key, set[asyncio.Future[None]]] = {}

    def asking(self, line: Key) -> None:
        """What is heard from here on may not be in the answer."""
        stand = self._stands.setdefault(line, _Stand())
        stand.heard = False
        if len(self._stands) > MOST_LINES:
            del self._stands[next(iter(self._stands))]

    def behind(self, line: Key, holder: str, left_ms: int) -> None:
        """The answer: there is somebody before."""
        if stand := self._stands.get(line):
            stand.behind.add(holder)
            stand.due = asyncio.get_running_loop().time() + max(left_ms / 1000, LEAST_S)

    def done(self, line: Key, holder: str) -> None:
        """It need not wait, or does not any more."""
        if stand := self._stands.get(line):
            stand.behind.discard(holder)
            if not stand.behind:
                del self._stands[line]

    async def moved(self, line: Key, timeout_s: float) -> None:
        """See `Store.moved`."""
        stand = self._stands.get(line)
        if stand and stand.heard:
            stand.heard = False
            # else who comes again and again would hold everybody up
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        if stand and stand.due is not None:
            timeout_s = min(timeout_s, max(stand.due - loop.time(), LEAST_S))
        if not self.hearing:
            timeout_s = min(timeout_s, self._deaf_s)
        future: asyncio.Future[None] = loop.create_future()
        futures = self._futures.setdefault(line, set())
        futures.add(future)
        try:
            await asyncio.wait((future,), timeout=max(timeout_s, 0))
        finally:
            futures.discard(future)
            if not futures and self._futures.get(line) is futures:
                del self._futures[line]

    def hear(self, line: Key) -> None:
        """Somebody moved up in this line."""
        if stand := self._stands.get(line):
            stand.heard = True
        for future in self._futures.get(line, ()):
            if not future.done():
                future.set_result(None)

    def hear_all(self) -> None:
        """Something may have been missed."""
        for line in {*self._stands, *self._futures}:
            self.hear(line)

    def close(self) -> None:
        self.hear_all()
        self._stands.clear()
        self.hearing = False
