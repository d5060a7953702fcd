"""Which server is asked: the one that the URL names, or, if that belongs to a cluster, the one that holds the key."""

import asyncio
import binascii
from typing import cast

from proxy.errors import StoreUnavailable
from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Answer, Argument, Link, Reply
from proxy.stores.redis.refusal import Refusal
from proxy.stores.redis.script import Script

SLOTS = 16384
MOST_MOVES = 6
"""How often one command follows its key to another node, or waits for it."""
PAUSE_S = 0.1


def slot(key: bytes) -> int:
    """Redis Cluster specification, "Key distribution model": CRC16 (XMODEM) of the hash tag if there is one."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


class Nodes:
    def __init__(self, address: Address) -> None:
        self._seed = Link(address)
        self._links: dict[tuple[str, int], Link] = {}
        self._slots: list[Link] = []
        self.cluster = False

    async def open(self) -> None:
        """Raises StoreUnavailable."""
        try:
            await self._learn(self._seed)
        except Refusal as refusal:
            if refusal.kind not in ("ERR", "NOPERM"):
                raise
            self.cluster = False

    async def ask(self, key: bytes, *arguments: Argument) -> Reply:
        """Raises StoreUnavailable if there is no answer, Refusal (which is one) if it is not done."""
        if not self.cluster:
            return await self._seed.ask(*arguments)
        return await self._follow(slot(key), arguments)

    async def run(self, script: Script, keys: tuple[bytes, ...], *arguments: Argument) -> Reply:
        try:
            return await self.ask(keys[0], b"EVALSHA", script.sha, len(keys), *keys, *arguments)
        except Refusal as refusal:
            if refusal.kind != "NOSCRIPT":
                raise
        return await self.ask(keys[0], b"EVAL", script.text, len(keys), *keys, *arguments)

    def tell(self, key: bytes, *arguments: Argument) -> Answer | None:
        """Sent behind what was asked about this key before; nobody need look at the answer. None: not sent, for want of
        a connection."""
        link = self._slots[slot(key)] if self.cluster else self._seed
        answer = link.tell(*arguments)
        if answer is not None:
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        return answer

    def addresses(self) -> list[Address]:
        """Of all nodes."""
        return [link.address for link in dict.fromkeys((self._seed, *self._slots))]

    async def _follow(self, number: int, arguments: tuple[Argument, ...]) -> Reply:
        link, asking = self._slots[number], False
        for move in range(MOST_MOVES):
            try:
                return await (link.ask_away(*arguments) if asking else link.ask(*arguments))
            except Refusal as refusal:
                if move == MOST_MOVES - 1:
                    raise
                asking = refusal.kind == "ASK"
                if asking:
                    link = self._named(refusal, link)
                elif refusal.kind == "MOVED":
                    link = self._named(refusal, link)
                    self._slots[number] = link
                    await self._learn(link)
                elif refusal.kind in ("CLUSTERDOWN", "TRYAGAIN"):
                    await asyncio.sleep(PAUSE_S)
                    link = self._slots[number]
                else:
                    raise
            except StoreUnavailable:
                # another node may have taken its place; the next who asks shall know
                await self._learn_anywhere()
                raise
        raise AssertionError("unreachable")

    def _named(self, refusal: Refusal, link: Link) -> Link:
        """MOVED SLOT HOST:PORT, ASK SLOT HOST:PORT"""
        host, _, port = refusal.text.split(" ")[2].rpartition(":")
        return self._link(host or link.address.host, int(port))

    def _link(self, host: str, port: int) -> Link:
        known = self._links.get((host, port))
        if known is None:
            known = self._links[host, port] = Link(self._seed.address.at(host, port))
        return known

    async def _learn_anywhere(self) -> None:
        for link in [self._seed, *set(self._slots)]:
            try:
                await self._learn(link)
            except StoreUnavailable:
                # the next may know; if none does, the old map is as good as any
                continue
            return

    async def _learn(self, link: Link) -> None:
        ranges = cast("list[list[object]]", await link.ask("CLUSTER", "SLOTS"))
        seed = link.address.host or "127.0.0.1"
        slots: list[Link | None] = [None] * SLOTS
        for each in ranges:
            start, end, (host, port, *_) = cast("tuple[int, int, tuple[bytes | None, int]]", each[:3])
            name = host.decode() if host else seed
            slots[start : end + 1] = [self._link(name, port)] * (end + 1 - start)
        # a slot that nobody holds: whoever is asked says what is wrong
        self._slots = [each or link for each in slots]
        self.cluster = True
        used = set(self._slots)
        for place in [place for place, each in self._links.items() if each not in used]:
            await self._links.pop(place).close()

    async def close(self) -> None:
        for link in [self._seed, *self._links.values()]:
            await link.close()
