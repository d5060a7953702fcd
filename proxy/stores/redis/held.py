"""The newest entries of the sessions in use, decoded. Entries change only with their ref's revision, so it is
enough to ask the server whether the ref still stands where they end; a window costs its bytes once, not each turn."""

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

import msgspec

from proxy.conversation.entry import Chain, Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.stores.contract import Append, Ref
from proxy.stores.picking import kept_from, shown

MOST_BYTES = 32 * 1024 * 1024
OVERHEAD_BYTES = 1000
"""Of an entry, beside its bytes."""
SPARE = 64
"""Entries that may be held beyond twice a window, before the oldest are let go."""

_position = attrgetter("upto")
_tokens = attrgetter("tokens_upto")


class Held(msgspec.Struct, frozen=True, gc=False):
    """The end of a ref's chain."""

    generation: bytes
    entries: list[Entry]
    """Oldest first, without gaps. Only the first `size` belong to it: the list is shared with later states."""
    size: int
    preamble: Preamble | None
    kept: int
    """Summaries that the ref had, of whichever branch."""
    named: str
    """The summary from which on those are held; "": all that end behind the beginning of what is held."""
    summaries: tuple[Summary, ...]
    revision: int
    weight: int
    """Bytes, about."""

    @property
    def stamp(self) -> bytes:
        """Where the ref must stand for this to be true of it, as `reading.LOAD` compares it."""
        head = bytes.fromhex(self.entries[self.size - 1].id)
        return b"%b%b%d.%d" % (self.generation, head, self.kept, self.revision)

    def window(self, key: str, reach: int | None) -> list[Entry] | None:
        """What a load answers; None if not all of it is here."""
        entries, size = self.entries, self.size
        head, first = entries[size - 1], entries[0]
        low = kept_from(head, key)
        if low is None and reach is not None:
            border = head.tokens_upto - reach
            start = bisect_right(entries, border, hi=size, key=_tokens)
            known = first.tokens_upto - first.tokens <= border or not first.parent
        else:
            start = bisect_right(entries, low or 0, hi=size, key=_position)
            known = first.first <= (low or 0)
        if self.kept and self.named:
            anchor = head.facts.anchor
            named = anchor.summary if anchor is not None else ""
            known = known and (named == self.named or any(each.id == named for each in self.summaries))
        return entries[min(start, size - 1) : size] if known else None

    def chain(self, kept: Sequence[Entry], *, whole: bool) -> Chain:
        head = kept[-1]
        return Chain(
            head=head,
            entries=tuple(kept),
            preamble=self.preamble,
            ref_head=head.id,
            whole=whole,
            summaries=shown(head, kept, self.summaries) if self.summaries else (),
            revision=self.revision,
        )


def hold(
    generation: bytes,
    entries: list[Entry],
    preamble: Preamble | None,
    kept: int,
    summaries: tuple[Summary, ...],
    revision: int = 0,
) -> Held:
    """What a load answered, with its head as the ref's."""
    anchor = entries[-1].facts.anchor
    named = anchor.summary if anchor is not None else ""
    size = len(preamble.wire) if preamble else 0
    size += sum(len(each.wire) + len(each.packed) + OVERHEAD_BYTES for each in entries)
    size += sum(len(each.text) * 4 + OVERHEAD_BYTES for each in summaries)
    return Held(generation, entries, len(entries), preamble, kept, named, summaries, revision, size)


class Cache:
    """For one event loop."""

    def __init__(self) -> None:
        self._held: dict[Ref, Held] = {}
        self._bytes = 0

    def get(self, ref: Ref) -> Held | None:
        return self._held.get(ref)

    def put(self, ref: Ref, held: Held) -> None:
        self.drop(ref)
        self._held[ref] = held
        self._bytes += held.weight
        while self._bytes > MOST_BYTES:
            # the one that was set longest ago
            self.drop(next(iter(self._held)))

    def used(self, ref: Ref, held: Held, kept: Sequence[Entry]) -> None:
        """A window of what is held was asked for; what is far before it is let go."""
        if len(kept) * 2 + SPARE < held.size:
            self.put(ref, hold(held.generation, list(kept), held.preamble, held.kept, held.summaries, held.revision))

    def grown(self, append: Append, generation: bytes) -> None:
        """It was recorded as the ref's head. What does not fit together is forgotten."""
        ref, entry = append.ref, append.entry
        held = self._held.get(ref)
        if held is None:
            return
        fits = held.generation == generation and held.entries[held.size - 1].id == entry.parent
        # once something was erased, another preamble than the one that was sent may be kept under its id
        fits = fits and (not held.revision or append.preamble == held.preamble)
        if not fits or len(held.entries) != held.size:
            self.drop(ref)
            return
        held.entries.append(entry)
        size = held.weight + len(entry.wire) + len(entry.packed) + OVERHEAD_BYTES
        if append.preamble != held.preamble:
            size += len(append.preamble.wire) if append.preamble else 0
            size -= len(held.preamble.wire) if held.preamble else 0
        self.put(
            ref,
            msgspec.structs.replace(held, size=held.size + 1, preamble=append.preamble, weight=size),
        )

    def drop(self, ref: Ref) -> None:
        held = self._held.pop(ref, None)
        if held is not None:
            self._bytes -= held.weight
