"""How the store calls the server: what each of its parts is built on."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar, cast

from proxy.errors import StoreUnavailable
from proxy.stores.contract import Ref
from proxy.stores.redis.address import Address
from proxy.stores.redis.held import Cache
from proxy.stores.redis.keys import Keys
from proxy.stores.redis.link import Argument, Reply
from proxy.stores.redis.nodes import Nodes
from proxy.stores.redis.script import Script

T = TypeVar("T")


class Calls:
    def __init__(self, address: Address, *, now: Callable[[], float] = time.time) -> None:
        """With a clock other than the machine's, the server is not told when to remove expired keys by itself, and what
        is compared between machines is compared by that clock, not by the server's."""
        self._address = address
        self._now = now
        self._guarded = now is time.time
        self._opened: tuple[Nodes, Keys, bytes] | None = None
        self._cache = Cache()
        self._writes: set[asyncio.Task[object]] = set()

    def _ms(self) -> int:
        return int(self._now() * 1000)

    def _clock(self) -> Argument:
        """What scripts are told to measure by: nothing, the server's own clock."""
        return b"" if self._guarded else self._ms()

    def _nodes(self) -> tuple[Nodes, Keys, bytes]:
        if self._opened is None:
            raise StoreUnavailable("The store is closed; the proxy is stopping, send the request again.")
        return self._opened

    async def _surely(self, work: Coroutine[object, object, T]) -> T:
        """It comes to its end whatever becomes of who waits: what takes several steps is not left between them."""
        task = asyncio.get_running_loop().create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: "asyncio.Task[object]") -> None:
        self._writes.discard(task)
        if not task.cancelled():
            # seen, even if nobody waits any more
            task.exception()

    async def _run(self, script: Script, ref: Ref, *arguments: Argument) -> Reply:
        nodes, keys, _ = self._nodes()
        return await nodes.run(script, self._keys(nodes, keys, keys.tag(ref)), self._ms(), *arguments)

    def _keys(self, nodes: Nodes, keys: Keys, tag: bytes) -> tuple[bytes, ...]:
        main = keys.main(tag)
        return (main,) if nodes.cluster else (main, keys.listed, keys.due)

    async def _get(self, ref: Ref, *fields: bytes) -> tuple[bool, Sequence[bytes | None]]:
        """Whether the ref is over, and fields of it."""
        nodes, keys, _ = self._nodes()
        main = keys.main(keys.tag(ref))
        expires, *got = cast("list[bytes | None]", await nodes.ask(main, b"HMGET", main, b"E", *fields))
        return expires is not None and int(expires) <= self._ms(), got
