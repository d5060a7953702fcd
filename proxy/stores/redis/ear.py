"""The one connection of a store that listens for who moved up in lines, made again when it is lost.

One for all nodes: in a cluster what is published on one node is told on every node. Without it those who wait ask by
themselves now and then, so what befalls it is nobody's failure.
"""

import asyncio
from collections.abc import Callable, Sequence

import hiredis

from proxy.errors import StoreUnavailable
from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Connection, Link, Reply
from proxy.stores.redis.refusal import Refusal
from proxy.stores.waiting import Waiting

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
LOOK_S = 20.0
"""So often it is asked whether it lives: a server that is gone without a word says nothing for ever."""


class _Listening(Link):
    def __init__(self, address: Address, told: Callable[[Reply], None]) -> None:
        super().__init__(address, told)
        self.lost = asyncio.Event()

    def _forget(self, connection: Connection) -> None:
        super()._forget(connection)
        self.lost.set()


class Ear:
    """`addresses` gives the nodes to try. What is said on `channel` is a line's name."""

    def __init__(self, addresses: Callable[[], Sequence[Address]], channel: bytes, waiting: Waiting[bytes]) -> None:
        self._addresses = addresses
        self._channel = channel
        self._waiting = waiting
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """May be called again and again."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen())

    async def close(self) -> None:
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait((task,))

    async def _listen(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            for address in self._addresses():
                if await self._use(_Listening(address, self._hear)):
                    pause_s = FIRST_PAUSE_S
                    break
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LAST_PAUSE_S)

    async def _use(self, link: _Listening) -> bool:
        """Listens until it is lost; whether it ever could."""
        heard = False
        try:
            await link.ask("SUBSCRIBE", self._channel)
            heard = self._waiting.hearing = True
            # what happened before is heard by nobody
            self._waiting.hear_all()
            while not link.lost.is_set():
                try:
                    async with asyncio.timeout(LOOK_S):
                        await link.lost.wait()
                except TimeoutError:
                    if answer := link.tell("PING"):
                        await answer
        except (StoreUnavailable, Refusal, hiredis.HiredisError):
            # the next node, or the same one a little later
            return heard
        finally:
            self._waiting.hearing = False
            link.lost.set()
            await link.close()
        return heard

    def _hear(self, message: Reply) -> None:
        if isinstance(message, list) and isinstance(name := message[-1], bytes):
            self._waiting.hear(name)
