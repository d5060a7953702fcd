"""The newest entries of the sessions in use, decoded, so that a load need not send and decode them each time.

Entries change only with their ref's revision; the server is asked where the ref stands, and sends only what is not
held.
"""

from bisect import bisect_right
from operator import attrgetter

import msgspec

from proxy.conversation.entry import Entry, Preamble
from proxy.stores.contract import Ref
from proxy.stores.picking import kept_from

MOST_BYTES = 32 * 1024 * 1024
OVERHEAD_BYTES = 1000
"""Of an entry, beside its bytes."""
SPARE = 64
"""Entries that may be held beyond twice a window, before the oldest are let go."""

_position = attrgetter("upto")
_tokens = attrgetter("tokens_upto")


class Held(msgspec.Struct, frozen=True, gc=False):
    """The end of a ref's chain."""

    n: int
    """The ref's own number, which no other ref ever has."""
    entries: tuple[Entry, ...]
    """Oldest first, without gaps."""
    preamble_id: bytes | None
    preamble: Preamble | None
    """In force at the last of the entries."""
    revision: int
    bytes: int

    @property
    def first(self) -> int:
        return self.entries[0].first

    @property
    def tokens(self) -> int:
        """On the chain before the first entry."""
        return self.entries[0].tokens_upto - self.entries[0].tokens


def window(entries: tuple[Entry, ...], key: str, reach: int | None) -> tuple[Entry, ...]:
    """Of a chain that goes back far enough, what `Store.load` promises."""
    head = entries[-1]
    low = kept_from(head, key)
    if low is not None or reach is None:
        start = bisect_right(entries, low or 0, key=_position)
    else:
        start = bisect_right(entries, head.tokens_upto - reach, key=_tokens)
    start = min(start, len(entries) - 1)
    return entries[start:] if start else entries


class Cache:
    def __init__(self) -> None:
        self._held: dict[Ref, Held] = {}
        self._bytes = 0

    def get(self, ref: Ref) -> Held | None:
        return self._held.get(ref)

    def put(
        self,
        ref: Ref,
        n: int,
        entries: tuple[Entry, ...],
        preamble_id: bytes | None,
        preamble: Preamble | None,
        revision: int,
        used: int,
    ) -> None:
        """`used` of the entries were asked for, the last ones."""
        if used * 2 + SPARE < len(entries):
            entries = entries[-used:]
        before = self._held.get(ref)
        same = before and before.entries is entries and before.preamble_id == preamble_id and before.n == n
        if before and same and before.revision == revision:
            return
        size = sum([len(each.wire) + len(each.packed) for each in entries]) + OVERHEAD_BYTES * len(entries)
        size += len(preamble.wire) if preamble else 0
        self._set(ref, Held(n, entries, preamble_id, preamble, revision, size))

    def grown(self, ref: Ref, n: int, entry: Entry, preamble_id: bytes | None, preamble: Preamble | None) -> None:
        """`entry` was appended as the new head."""
        held = self._held.get(ref)
        if held is None:
            return
        # once something was erased, another preamble than the one that is held may be kept under an id
        fits = not held.revision or preamble_id == held.preamble_id
        if held.n != n or held.entries[-1].id != entry.parent or not fits:
            self.drop(ref)
            return
        size = held.bytes + len(entry.wire) + len(entry.packed) + OVERHEAD_BYTES
        if preamble_id == held.preamble_id:
            preamble = held.preamble
        else:
            size += len(preamble.wire) if preamble else 0
        self._set(ref, Held(n, (*held.entries, entry), preamble_id, preamble, held.revision, size))

    def drop(self, ref: Ref) -> None:
        held = self._held.pop(ref, None)
        if held is not None:
            self._bytes -= held.bytes

    def clear(self) -> None:
        self._held.clear()
        self._bytes = 0

    def _set(self, ref: Ref, held: Held) -> None:
        self.drop(ref)
        self._held[ref] = held
        self._bytes += held.bytes
        while self._bytes > MOST_BYTES:
            # the one that was set longest ago
            self.drop(next(iter(self._held)))
