"""The methods of labels. A list of labels may lie on another node than its refs: each that is read is looked up."""

import asyncio
from collections.abc import Sequence
from typing import cast

from proxy.stores.contract import Label, Ref
from proxy.stores.redis import rows, running
from proxy.stores.redis.calls import Calls
from proxy.stores.redis.keys import born_ms, generation
from proxy.stores.redis.link import Argument
from proxy.stores.redis.listing import STRAY_MS

LABELS_A_PAGE = 100


class Labels(Calls):
    def _making(self, ref: Ref, now_ms: int, ttl_s: int | None) -> tuple[bytes, bytes, list[Argument]]:
        """The generation of a ref that may be made, its member of the list of refs, and what `make` is told."""
        _, keys, _ = self._nodes()
        made = generation(now_ms)
        member = rows.member(ref, made) if ref.kind == "session" else b""
        expires = b"" if ttl_s is None else now_ms + ttl_s * 1000
        guarded = b"1" if self._guarded else b"0"
        return made, member, [made, member, rows.pack_ident(ref), keys.tag(ref), expires, guarded]

    async def label(self, ref: Ref, label: bytes, *, new: bool, ttl_s: int | None = None) -> bool:
        return await self._surely(self._label(ref, label, new=new, ttl_s=ttl_s))

    async def _label(self, ref: Ref, label: bytes, *, new: bool, ttl_s: int | None) -> bool:
        nodes, keys, _ = self._nodes()
        now = self._ms()
        labels, prefix = keys.labels(ref.tenant, ref.kind), rows.label_prefix(ref.name)
        made, member, making = self._making(ref, now, ttl_s)
        if nodes.cluster and new:
            # named before it is: a name without a ref does no harm
            await nodes.ask(labels, b"ZADD", labels, now, prefix + made)
            if member:
                await nodes.ask(keys.listed, b"ZADD", keys.listed, 0, member)
        sure = b""
        while True:
            told = (now, label, b"1" if new else b"0", labels, prefix, sure, *making)
            reply = await nodes.run(running.LABEL, self._keys(nodes, keys, keys.tag(ref)), *told)
            done, *of = cast("tuple[int, bytes, int]", reply)
            if done != 2:
                break
            sure, created = cast("tuple[bytes, int]", of)
            await nodes.ask(labels, b"ZADD", labels, created, prefix + sure)
        if nodes.cluster and new and not done:
            await nodes.ask(labels, b"ZREM", labels, prefix + made)
        elif nodes.cluster and new and ttl_s is not None:
            await nodes.ask(keys.due, b"ZADD", keys.due, b"LT", now + ttl_s * 1000, keys.tag(ref) + made)
        return done == 1

    async def labelled(self, ref: Ref) -> Label | None:
        expired, (made, label, created) = await self._get(ref, b"G", b"A", b"C")
        return None if expired or made is None else Label(ref, label or b"", int(created or 0))

    async def labels(
        self, tenant: str, kind: str, *, after: str | None, most: int, newest_first: bool
    ) -> Sequence[Label]:
        nodes, keys, _ = self._nodes()
        key = keys.labels(tenant, kind)
        range, end = (b"ZREVRANGEBYSCORE", b"-inf") if newest_first else (b"ZRANGEBYSCORE", b"+inf")
        start: Argument = b"+inf" if newest_first else b"-inf"
        place: tuple[int, bytes] | None = None
        if after is not None:
            expired, (made, created) = await self._get(Ref(tenant, kind, after), b"G", b"C")
            if expired or made is None:
                return []
            start = int(created or 0)
            place = start, rows.label_prefix(after) + made
        found: list[Label] = []
        skipped = 0
        while len(found) < most:
            size = min(most + 1, LABELS_A_PAGE)
            told = await nodes.ask(key, range, key, start, end, b"WITHSCORES", b"LIMIT", skipped, size)
            page = _pairs(cast("Sequence[bytes]", told))
            behind = [each for each in page if place is None or (each < place if newest_first else each > place)]
            looks = [self._look(key, tenant, kind, member) for _, member in behind]
            found += [label for label in await asyncio.gather(*looks) if label is not None]
            if len(page) < size:
                break
            # those of one moment are told in the order of their members; the place says which of them were had
            last = page[-1]
            skipped = skipped + size if last[0] == start else 0
            start, place = last[0], behind[-1] if behind else place
        return found[:most]

    async def _look(self, key: bytes, tenant: str, kind: str, member: bytes) -> Label | None:
        nodes, _, _ = self._nodes()
        name, generation = rows.unpack_label(member)
        ref = Ref(tenant, kind, name)
        expired, (made, label, created) = await self._get(ref, b"G", b"A", b"C")
        if made != generation:
            if born_ms(generation) < self._ms() - STRAY_MS:
                await nodes.ask(key, b"ZREM", key, member)
            return None
        return None if expired or label is None else Label(ref, label, int(created or 0))


def _pairs(told: Sequence[bytes]) -> list[tuple[int, bytes]]:
    return [(int(score), member) for member, score in zip(told[::2], told[1::2], strict=True)]
