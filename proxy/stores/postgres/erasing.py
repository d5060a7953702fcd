"""The methods that erase a part of a ref, or all of it."""

from collections.abc import Sequence
from functools import partial

from proxy.conversation.entry import Preamble
from proxy.stores.contract import STICKY_MS, Redaction, Ref
from proxy.stores.postgres import asks, calls
from proxy.stores.postgres.pool import Pool
from proxy.stores.postgres.rows import key_of


class Erasing(calls.Calls):
    async def redact(
        self, ref: Ref, redactions: Sequence[Redaction], *, preamble: tuple[bytes, Preamble] | None
    ) -> bool:
        self._cache.drop(ref)
        (known,) = await self._write(ref, asks.REDACT, *asks.redacting(redactions, preamble))
        return bool(known)

    async def prune(self, ref: Ref, entry: str) -> bool:
        self._cache.drop(ref)
        return await self._surely(partial(self._erase, ref, asks.PRUNE, (key_of(entry),)))

    async def erase(self, ref: Ref) -> bool:
        self._cache.drop(ref)
        return await self._surely(partial(self._erase, ref, asks.ERASE, ()))

    async def _erase(self, ref: Ref, sql: str, of: tuple[object, ...], pool: Pool) -> bool:
        values = (self._ms(), ref.tenant, ref.kind, ref.name, *of, calls.ROWS_A_STEP)
        known, left = await self._row(pool, sql, *values)
        await self._remove(pool, left)
        self._cache.drop(ref)
        return bool(known)

    async def expire(self, limit: int) -> int:
        total = 0
        more = True
        while more:
            values = (limit - total, calls.ROWS_A_STEP, STICKY_MS)
            gone, more = await self._row(self._open(), asks.EXPIRE, self._ms(), *values)
            total += gone
        return total
