"""One exchange at a time on a session across processes: places in the store's lines, taken, kept and given up.

Inside a process the turnstile keeps the order; only who is first there stands in the store's line. A place is kept by
coming again in time: a process that dies, or pauses for too long, loses it, and an append that needs it is refused.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from proxy.errors import QueueTimeout, SessionBusy, StoreUnavailable
from proxy.stores.contract import Ref, Store

KEEP_S = 10.0
"""Who is not heard of for so long has lost its place."""
AT_ONCE = 32
"""Places that are kept at the same time."""


class _Held(NamedTuple):
    ref: Ref
    since: float
    """When it was last asked for, on the loop's clock: it lapses so long after that."""
    kept: bool = False
    """It was asked for more than once: the last time perhaps while it was given up with the append, which took it
    anew."""


class Lines:
    """The places of this process."""

    def __init__(self, store: Store, broke: Callable[[Exception], None], keep_s: float = KEEP_S) -> None:
        """`broke` is told of a bug in keeping them."""
        self._store = store
        self._broke = broke
        self._keep_s = keep_s
        self._keep_ms = round(keep_s * 1000)
        self._held: dict[str, _Held] = {}
        self._keeping: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))

    async def enter(self, ref: Ref, holder: str, *, wait: bool, until: float) -> None:
        """Returns when it is this holder's turn; `until` is on the loop's clock. Raises SessionBusy where it shall not
        `wait`, QueueTimeout, StoreUnavailable; then it has no place."""
        try:
            self._held[holder] = await self._entered(ref, holder, wait=wait, until=until)
        except BaseException:
            self._store.step_out(ref, holder)
            raise

    async def stand(self, ref: Ref, holder: str) -> None:
        """Takes a place that others wait behind, and waits for nobody itself. Raises StoreUnavailable."""
        since = asyncio.get_running_loop().time()
        try:
            await self._store.line_up(ref, holder, keep_ms=self._keep_ms, wait=True)
        except BaseException:
            self._store.step_out(ref, holder)
            raise
        self._held[holder] = _Held(ref, since)

    def holds(self, holder: str) -> bool:
        """The place cannot have lapsed yet."""
        held = self._held.get(holder)
        return held is not None and asyncio.get_running_loop().time() - held.since < self._keep_s

    async def _entered(self, ref: Ref, holder: str, *, wait: bool, until: float) -> _Held:
        loop = asyncio.get_running_loop()
        while True:
            since = loop.time()
            place = await self._store.line_up(ref, holder, keep_ms=self._keep_ms, wait=wait)
            if place.kept and not place.ahead:
                return _Held(ref, since)
            if not wait:
                raise SessionBusy(
                    'Another request on this session is running; wait for its end, or set concurrency = "queue".'
                )
            left_s = until - loop.time()
            if left_s <= 0:
                raise QueueTimeout("The session was busy for too long; send the request again.", retry_after_s=1)
            await self._store.moved(ref, min(left_s, self._keep_s / 3))

    def leave(self, holder: str, *, appended: bool) -> None:
        """The place is given up; `appended`: that happened with the append."""
        held = self._held.pop(holder, None)
        if held is not None and (held.kept or not appended):
            self._store.step_out(held.ref, holder)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._keep_s / 3)
            held = tuple(self._held.items())
            for at in range(0, len(held), AT_ONCE):
                done = await asyncio.gather(
                    *(self._kept(holder, each.ref) for holder, each in held[at : at + AT_ONCE]), return_exceptions=True
                )
                for each in done:
                    # a store that cannot be written now is tried again; a place lost meanwhile shows at the append
                    if isinstance(each, Exception) and not isinstance(each, StoreUnavailable):
                        self._broke(each)

    async def _kept(self, holder: str, ref: Ref) -> None:
        since = asyncio.get_running_loop().time()
        place = await self._store.line_up(ref, holder, keep_ms=self._keep_ms, wait=False)
        if (held := self._held.get(holder)) is None:
            # it left while its place was kept
            self._store.step_out(ref, holder)
        else:
            # one that has lapsed is a new place: others may have come and gone between
            since = since if place.kept and self.holds(holder) else held.since
            self._held[holder] = _Held(ref, since, kept=True)
