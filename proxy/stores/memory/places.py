"""Lines for refs: who is first there, and who waits to be."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from proxy.stores.contract import Place, Ref
from proxy.stores.memory.lines import Lines

POLL_S = 0.05
"""How often those who wait look whether places lapsed."""


@dataclass(slots=True)
class _Stand:
    """Somebody's place in a line."""

    until: int
    told: bool = False
    """It knows that it is first."""


class Standing(Lines):
    """See the contract."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(now=now)
        self._stands: dict[Ref, dict[str, _Stand]] = {}
        self._waits: dict[Ref, set[asyncio.Future[None]]] = {}

    def _standing(self, ref: Ref) -> dict[str, _Stand]:
        """Those in the line by now, the first one first. Who lapsed is removed."""
        now = self._ms()
        line = {holder: each for holder, each in self._stands.get(ref, {}).items() if each.until > now}
        if line:
            self._stands[ref] = line
        else:
            self._stands.pop(ref, None)
        return line

    def _first(self, ref: Ref) -> str | None:
        return next(iter(self._standing(ref)), None)

    async def line_up(self, ref: Ref, holder: str, *, keep_ms: int, wait: bool) -> Place:
        self._check()
        line = self._standing(ref)
        if holder not in line and line and not wait:
            return Place(len(line), kept=False)
        self._stands[ref] = line
        line.setdefault(holder, _Stand(0)).until = self._ms() + keep_ms
        ahead = list(line).index(holder)
        line[holder].told = not ahead
        return Place(ahead, kept=True)

    def step_out(self, ref: Ref, holder: str) -> None:
        line = self._stands.get(ref, {})
        if line.pop(holder, None):
            if not line:
                del self._stands[ref]
            self._wake(ref)

    async def moved(self, ref: Ref, timeout_s: float) -> None:
        self._check()
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        wait = loop.create_future()
        self._waits.setdefault(ref, set()).add(wait)
        try:
            while not wait.done() and (left_s := until - loop.time()) > 0:
                await asyncio.wait((wait,), timeout=min(left_s, POLL_S))
                line = self._standing(ref)
                if not line or not next(iter(line.values())).told:
                    break
        finally:
            waits = self._waits[ref]
            waits.discard(wait)
            if not waits:
                del self._waits[ref]
        self._check()

    def _wake(self, ref: Ref) -> None:
        for wait in self._waits.get(ref, ()):
            if not wait.done():
                wait.set_result(None)

    def _end_waiting(self) -> None:
        for ref in self._waits:
            self._wake(ref)

    def _sweep_places(self) -> None:
        for ref in tuple(self._stands):
            self._standing(ref)
