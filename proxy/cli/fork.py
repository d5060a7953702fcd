"""A session copied under another name, whole or up to a turn; the two know nothing of each other afterwards."""

import time
from collections.abc import Container

import msgspec

from proxy.cli import CommandError
from proxy.exchange.identify import session_id
from proxy.stores.contract import Append, Appended, Conflict, Ref, RefInfo, Store

READ_AT_ONCE = 1000
"""Messages."""


class Forked(msgspec.Struct):
    entries: int = 0
    messages: int = 0


async def fork(store: Store, source: RefInfo, name: str, turn: int | None) -> Forked:
    """Copies entries with their plans, preambles and summaries, branches included; with `turn`, the line that leads to
    the end of that turn of the newest branch. Failed exchanges and what is kept for retries stay behind. The copy
    expires when its source does, until a turn of its own says otherwise.

    Raises CommandError if there is a session `name` already, InvalidSessionId for what is no name."""
    new = Ref(source.ref.tenant, source.ref.kind, session_id(name))
    if [info async for info in store.list(tenant=new.tenant, name=new.name)]:
        raise CommandError(f"there is a session {name!r} already; choose another name, or erase it first.")
    chain = await store.load(source.ref, key="", reach=0)
    if chain is None:
        raise CommandError(f"session {source.ref.name!r} has no turn to go on from.")
    kept = None if turn is None else await _line(store, source, turn)
    head, done = await _entries(store, source, new, kept, whole=chain.whole)
    copied = await store.load(new, key="", reach=0, entry=head)
    for summary in await store.summaries(source.ref):
        # one whose entry is not on the copy is refused by the store
        if copied is not None:
            await store.keep_summary(new, summary, revision=copied.revision)
    return done


async def _entries(
    store: Store, source: RefInfo, new: Ref, kept: Container[str] | None, *, whole: bool
) -> tuple[str | None, Forked]:
    done = Forked()
    head: str | None = None
    ttl_s = None if source.expires_ms is None else max(1, round(source.expires_ms / 1000 - time.time()))
    async for record in store.records(source.ref):
        entry = record.entry
        if entry.facts.state == "failed" or (kept is not None and entry.id not in kept):
            continue
        answer = await store.append(
            Append(
                ref=new,
                expected=head,
                entry=entry,
                preamble=record.preamble,
                plan=record.plan,
                whole=whole,
                ttl_s=ttl_s,
            )
        )
        if isinstance(answer, Conflict):
            raise CommandError(f"session {new.name!r} was used while it was made; erase it and fork again.")
        assert answer == Appended()
        head = entry.id
        done.entries += 1
        done.messages += entry.count
    return head, done


async def _line(store: Store, source: RefInfo, turn: int) -> frozenset[str]:
    """The ids of the entries from the root to the end of `turn`. Raises CommandError."""
    found = await store.find_turn(source.ref, turn)
    entry, after = found or (None, None)
    if turn < 1 or turn > source.turns or (entry is None and after is None):
        raise CommandError(f"session {source.ref.name!r} has no turn {turn}; it has {source.turns}.")
    if entry is None or entry.turn != turn:
        near = " or ".join(str(each.turn) for each in (entry, after) if each is not None)
        raise CommandError(f"turn {turn} came together with later ones; fork at turn {near}.")
    ids: set[str] = set()
    for first in range(0, entry.upto, READ_AT_ONCE):
        ids.update(each.id for each in await store.read(source.ref, entry.id, first, first + READ_AT_ONCE))
    return frozenset(ids)
