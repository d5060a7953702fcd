"""The methods of lines."""

import asyncio
from collections.abc import Callable

from proxy.errors import StoreUnavailable
from proxy.stores.contract import Place, Ref, tag
from proxy.stores.postgres import asks
from proxy.stores.postgres.address import Address
from proxy.stores.postgres.calls import Calls, Row
from proxy.stores.postgres.ear import Ear
from proxy.stores.waiting import Waiting

DEAF_S = 0.25


class Lining(Calls):
    def __init__(self, address: Address, *, now: Callable[[], float] | None = None) -> None:
        super().__init__(address, now=now)
        self._waiting = Waiting[str](DEAF_S)
        self._ear: Ear | None = None
        self._leaving: set[asyncio.Future[Row]] = set()

    async def line_up(self, ref: Ref, holder: str, *, keep_ms: int, wait: bool) -> Place:
        line = tag(ref)
        self._waiting.asking(line)
        values = (self._ms(), ref.tenant, ref.kind, ref.name, line, holder, keep_ms, wait)
        ahead, kept, left_ms = await self._calls().lines.ask(values)
        if kept and ahead:
            self._waiting.behind(line, holder, left_ms)
            if self._ear:
                self._ear.open()
        else:
            self._waiting.done(line, holder)
        return Place(ahead, kept)

    def step_out(self, ref: Ref, holder: str) -> None:
        if self._batchers is None or self._pool is None:
            return
        line = tag(ref)
        self._waiting.done(line, holder)
        # who is woken now asks behind it
        self._waiting.hear(line)
        values = (self._ms(), ref.tenant, ref.kind, ref.name, line, holder, None, False)
        try:
            answer = self._batchers.lines.ask(values)
        except StoreUnavailable:
            # too much waits: the place lapses
            return
        self._leaving.add(answer)
        answer.add_done_callback(self._left)

    def _left(self, answer: "asyncio.Future[Row]") -> None:
        self._leaving.discard(answer)
        if not answer.cancelled():
            # seen: if it failed, the place lapses
            answer.exception()

    async def moved(self, ref: Ref, timeout_s: float) -> None:
        self._open()
        if self._ear:
            self._ear.open()
        await self._waiting.moved(tag(ref), timeout_s)
        self._open()

    async def ping(self) -> None:
        pool = self._open()
        if self._leaving:
            await asyncio.wait(tuple(self._leaving))
        await self._row(pool, asks.PING)

    async def _stop_listening(self) -> None:
        self._waiting.close()
        ear, self._ear = self._ear, None
        if ear:
            await ear.close()
