"""The methods of lines."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

from proxy.stores.contract import Place, Ref
from proxy.stores.redis import lines
from proxy.stores.redis.address import Address
from proxy.stores.redis.calls import Calls
from proxy.stores.redis.ear import Ear
from proxy.stores.redis.keys import Keys
from proxy.stores.redis.link import MOST_WAITING, Answer
from proxy.stores.redis.nodes import Nodes
from proxy.stores.waiting import Waiting

DEAF_S = 0.25


class Lining(Calls):
    def __init__(self, address: Address, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(address, now=now)
        self._waiting = Waiting[bytes](DEAF_S)
        self._ear: Ear | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        """Until the server has answered."""

    def _start_lines(self, nodes: Nodes, keys: Keys) -> None:
        self._ear = Ear(nodes.addresses, keys.moved, self._waiting)

    async def line_up(self, ref: Ref, holder: str, *, keep_ms: int, wait: bool) -> Place:
        nodes, keys, _ = self._nodes()
        main = keys.main(keys.tag(ref))
        self._waiting.asking(main)
        told = (self._ms(), self._clock(), holder, keep_ms, b"1" if wait else b"0")
        # it is done once it is sent; a place that nobody knows of is given up by who asked for it
        reply = await nodes.run(lines.LINE_UP, (main,), *told)
        ahead, kept, left_ms = cast("tuple[int, int, int]", reply)
        if kept and ahead:
            self._waiting.behind(main, holder, left_ms)
            self._listen()
        else:
            self._waiting.done(main, holder)
        return Place(ahead, bool(kept))

    def step_out(self, ref: Ref, holder: str) -> None:
        if self._opened is None or len(self._leaving) >= MOST_WAITING:
            # in the second case it lapses
            return
        nodes, keys, _ = self._opened
        main = keys.main(keys.tag(ref))
        self._waiting.done(main, holder)
        # who is woken now asks behind it
        self._waiting.hear(main)
        # whole, not by its digest: tried again, it would come behind a new place
        script = lines.STEP_OUT.text
        answer = nodes.tell(main, b"EVAL", script, 1, main, self._ms(), holder)
        leaving = asyncio.get_running_loop().create_task(self._leave(nodes, main, holder, answer))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._left)

    async def _leave(self, nodes: Nodes, main: bytes, holder: str, answer: Answer | None) -> None:
        if answer is None or not isinstance(await answer, None | int):
            # there was no connection, or the key lies on another node by now
            await nodes.run(lines.STEP_OUT, (main,), self._ms(), holder)

    def _left(self, leaving: "asyncio.Task[None]") -> None:
        self._leaving.discard(leaving)
        if not leaving.cancelled():
            # seen: if it failed, the place lapses
            leaving.exception()

    async def moved(self, ref: Ref, timeout_s: float) -> None:
        _, keys, _ = self._nodes()
        self._listen()
        await self._waiting.moved(keys.main(keys.tag(ref)), timeout_s)
        self._nodes()

    def _listen(self) -> None:
        if self._ear:
            self._ear.open()

    async def _have_left(self) -> None:
        """Returns when all that stepped out is answered."""
        if self._leaving:
            await asyncio.wait(tuple(self._leaving))

    async def _stop_lines(self) -> None:
        self._waiting.close()
        ear, self._ear = self._ear, None
        if ear:
            await ear.close()
        await self._have_left()
