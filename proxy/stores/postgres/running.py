"""The methods of labels, and of runs and their logs."""

from collections.abc import Sequence

from proxy.stores.contract import End, Label, Ref, Run, tag
from proxy.stores.postgres import asks
from proxy.stores.postgres.calls import Calls, Row
from proxy.stores.postgres.rows import key_of


class Running(Calls):
    async def label(self, ref: Ref, label: bytes, *, new: bool, ttl_s: int | None = None) -> bool:
        (done,) = await self._write(ref, asks.LABEL, tag(ref), label, new, _ms(ttl_s))
        return bool(done)

    async def labelled(self, ref: Ref) -> Label | None:
        found = await self._rows(asks.LABELLED, self._ms(), ref.tenant, ref.kind, ref.name)
        return Label(ref, found[0][0] or b"", found[0][1]) if found else None

    async def labels(
        self, tenant: str, kind: str, *, after: str | None, most: int, newest_first: bool
    ) -> Sequence[Label]:
        found = await self._rows(asks.LABELS, self._ms(), tenant, kind, after, most, newest_first)
        return [Label(Ref(tenant, kind, name), label, created) for name, label, created in found]

    async def begin_run(
        self, ref: Ref, entry: str, *, owner: str, state: bytes, ttl_s: int | None, recorded: bool = False
    ) -> bool:
        values = (tag(ref), asks.id_of(entry), owner, state, _ms(ttl_s), recorded)
        (begun,) = await self._write(ref, asks.BEGIN_RUN, *values)
        return bool(begun)

    async def log_run(
        self,
        ref: Ref,
        entry: str,
        *,
        owner: str,
        events: Sequence[bytes] = (),
        state: bytes | None = None,
        end: End | None = None,
    ) -> Run | None:
        over = (int(end.log_s * 1000), end.keep) if end else (None, None)
        values = (self._ms(), ref.tenant, ref.kind, ref.name, key_of(entry), owner, list(events), state, *over)
        return _run(ref, entry, await self._calls().logs.ask(values))

    async def find_run(self, tenant: str, tag: str, entry: str) -> Run | None:
        found = await self._rows(asks.FIND_RUN, self._ms(), tenant, tag, key_of(entry))
        return _found(found[0]) if found else None

    async def run_events(self, ref: Ref, entry: str, after: int, most: int) -> Sequence[bytes]:
        (events,) = await self._of(ref, asks.RUN_EVENTS, key_of(entry), after, most)
        return events or []

    async def cancel_run(self, ref: Ref, entry: str) -> Run | None:
        return _run(ref, entry, await self._write(ref, asks.CANCEL_RUN, key_of(entry)))

    async def drop_run(self, ref: Ref, entry: str) -> bool:
        (known,) = await self._write(ref, asks.DROP_RUN, key_of(entry))
        return bool(known)

    async def stale_runs(self, silent_ms: int, most: int) -> Sequence[Run]:
        return [_found(row) for row in await self._rows(asks.STALE_RUNS, self._ms(), silent_ms, most)]


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000


def _run(ref: Ref, entry: str, row: Row) -> Run | None:
    return None if row["o_owner"] is None else _made(ref, entry, *row)


def _found(row: Row) -> Run:
    tenant, kind, name, entry, *rest = row
    return _made(Ref(tenant, kind, name), entry.hex(), *rest)


def _made(
    ref: Ref, entry: str, owner: str, state: bytes, ended: bool, cancelled: bool, beat_ms: int, events: int
) -> Run:
    return Run(
        ref=ref,
        entry=entry,
        owner=owner,
        state=state,
        ended=ended,
        cancelled=cancelled,
        beat_ms=beat_ms,
        events=events,
    )
