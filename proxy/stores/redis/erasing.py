"""The methods that erase a part of a ref, or all of it; and the sweep."""

from collections.abc import Sequence
from typing import cast

from proxy.conversation.entry import Preamble
from proxy.stores.contract import Redaction, Ref
from proxy.stores.redis import pruning, rows, writing
from proxy.stores.redis.calls import Calls
from proxy.stores.redis.keys import TAG_BYTES, Keys
from proxy.stores.redis.link import Argument
from proxy.stores.redis.nodes import Nodes

REFS_AT_ONCE = 100


class Erasing(Calls):
    async def redact(
        self, ref: Ref, redactions: Sequence[Redaction], *, preamble: tuple[bytes, Preamble] | None
    ) -> bool:
        id, rules = (preamble[0], rows.pack_preamble(preamble[1])) if preamble else (b"", b"")
        told: list[Argument] = []
        for each in redactions:
            entry = each.entry
            told += [rows.key_of(entry.id) or b"", rows.pack(entry), rows.pack_facts(entry, entry.facts), each.note]
        self._cache.drop(ref)
        return await self._run(pruning.REDACT, ref, self._clock(), id, rules, *told) == 1

    async def prune(self, ref: Ref, entry: str) -> bool:
        return await self._surely(self._prune(ref, entry))

    async def _prune(self, ref: Ref, entry: str) -> bool:
        _, keys, _ = self._nodes()
        tag = keys.tag(ref)
        self._cache.drop(ref)
        reply = await self._run(pruning.PRUNE, ref, self._clock(), rows.key_of(entry) or b"", tag)
        known, *gone = cast("list[object]", reply)
        await self._unname(tag, gone)
        return bool(known)

    async def erase(self, ref: Ref) -> bool:
        return await self._surely(self._erase(ref))

    async def _erase(self, ref: Ref) -> bool:
        nodes, keys, _ = self._nodes()
        tag = keys.tag(ref)
        self._cache.drop(ref)
        reply = await nodes.run(writing.ERASE_REF, self._keys(nodes, keys, tag), self._ms(), tag)
        known, *gone = cast("list[object]", reply)
        await self._unname(tag, gone)
        return bool(known)

    async def _unname(self, tag: bytes, gone: Sequence[object]) -> None:
        """In a cluster, of a ref that was erased: its generation, its member of the list of refs, the list of labels
        and its member there lie elsewhere."""
        nodes, keys, _ = self._nodes()
        if nodes.cluster and gone:
            made, *names = cast("list[bytes | None]", gone)
            if made:
                await nodes.ask(keys.due, b"ZREM", keys.due, tag + made)
            await self._unlist(nodes, keys, names)

    async def _unlist(self, nodes: Nodes, keys: Keys, names: Sequence[bytes | None]) -> None:
        member, labels, label = (*names, None, None, None)[:3]
        if member:
            await nodes.ask(keys.listed, b"ZREM", keys.listed, member)
        if labels and label:
            await nodes.ask(labels, b"ZREM", labels, label)

    async def expire(self, limit: int) -> int:
        gone = 0
        while gone < limit:
            nodes, keys, _ = self._nodes()
            most = min(limit - gone, REFS_AT_ONCE)
            due = cast(
                "Sequence[bytes]",
                await nodes.ask(keys.due, b"ZRANGEBYSCORE", keys.due, b"-inf", self._ms(), b"LIMIT", 0, most),
            )
            for member in due:
                if gone >= limit:
                    break
                gone += await self._sweep(member[:TAG_BYTES], member[TAG_BYTES:], limit - gone)
            if len(due) < most:
                break
        return gone

    async def _sweep(self, tag: bytes, made: bytes, limit: int) -> int:
        nodes, keys, _ = self._nodes()
        to = self._keys(nodes, keys, tag)
        reply = await nodes.run(writing.SWEEP, to, self._ms(), self._clock(), limit, made, tag)
        gone, look, *names = cast("tuple[int, int | None, bytes | None]", reply)
        if nodes.cluster:
            await self._unlist(nodes, keys, names)
            if look is None:
                await nodes.ask(keys.due, b"ZREM", keys.due, tag + made)
            else:
                await nodes.ask(keys.due, b"ZADD", keys.due, look, tag + made)
        return gone
