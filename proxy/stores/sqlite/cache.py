"""The newest entries of the sessions in use, decoded.

SQLite throws a connection's pages away whenever another connection has written, so a reader that follows a writer
reads the same rows again and again. Entries change only with their ref's revision: it is enough to ask the file where
the ref stands.
"""

import threading

import msgspec

from proxy.conversation.entry import Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.stores.contract import Ref

MOST_BYTES = 32 * 1024 * 1024
OVERHEAD_BYTES = 1000
"""Of an entry, beside its bytes."""


class Held(msgspec.Struct, frozen=True, gc=False):
    """The end of a ref's chain."""

    n: int
    """The ref's own number, which no other ref ever has."""
    head: int
    """The number of the newest entry."""
    entries: list[Entry]
    """Oldest first, without gaps. Only the first `size` belong to it: the list is shared with later states."""
    size: int
    preamble_n: int | None
    preamble: Preamble | None
    bytes: int
    told: "Told"
    revision: int
    """Of the ref."""


class Told(msgspec.Struct, frozen=True):
    """The summaries of a ref that may be shown with what is held."""

    newest: int | None = None
    """The number of the ref's newest summary, of whichever branch."""
    named: str = ""
    """The one that was looked for by name, whether or not it is there."""
    summaries: tuple[Summary, ...] = ()
    """That one, and those that end behind the beginning of what is held; in the order in which they were kept."""


NOTHING_TOLD = Told()


def _weight(preamble: Preamble | None) -> int:
    return len(preamble.wire) if preamble else 0


class Cache:
    """For the reader's thread and the writer's."""

    def __init__(self) -> None:
        self._held: dict[Ref, Held] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, ref: Ref) -> Held | None:
        return self._held.get(ref)

    def put(
        self,
        ref: Ref,
        n: int,
        head: int,
        entries: list[Entry],
        preamble_n: int | None,
        preamble: Preamble | None,
        told: Told = NOTHING_TOLD,
        revision: int = 0,
    ) -> None:
        size = _weight(preamble) + sum(len(e.wire) + len(e.packed) + OVERHEAD_BYTES for e in entries)
        size += sum(len(s.text) * 4 + OVERHEAD_BYTES for s in told.summaries)
        with self._lock:
            self._set(ref, Held(n, head, entries, len(entries), preamble_n, preamble, size, told, revision))

    def grown(
        self,
        ref: Ref,
        n: int,
        before: int | None,
        head: int,
        entry: Entry,
        preamble_n: int | None,
        preamble: Preamble | None,
    ) -> None:
        """`entry` was committed behind the one with the number `before`. What does not fit together is forgotten."""
        with self._lock:
            held = self._held.get(ref)
            if held is None:
                return
            if held.n != n or held.head != before or len(held.entries) != held.size:
                self._drop(ref)
                return
            held.entries.append(entry)
            size = held.bytes + len(entry.wire) + len(entry.packed) + OVERHEAD_BYTES
            if preamble_n != held.preamble_n:
                size += _weight(preamble) - _weight(held.preamble)
            held = Held(n, head, held.entries, held.size + 1, preamble_n, preamble, size, held.told, held.revision)
            self._set(ref, held)

    def drop(self, ref: Ref) -> None:
        with self._lock:
            self._drop(ref)

    def clear(self) -> None:
        with self._lock:
            self._held.clear()
            self._bytes = 0

    def _set(self, ref: Ref, held: Held) -> None:
        self._drop(ref)
        self._held[ref] = held
        self._bytes += held.bytes
        while self._bytes > MOST_BYTES:
            # the one that was set longest ago
            self._drop(next(iter(self._held)))

    def _drop(self, ref: Ref) -> None:
        held = self._held.pop(ref, None)
        if held is not None:
            self._bytes -= held.bytes
