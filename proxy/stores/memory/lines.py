"""Refs and all that hangs on them, in dicts."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from proxy.conversation.entry import Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.conversation.words import Words
from proxy.errors import StoreUnavailable
from proxy.stores.contract import Noted, Record, Redaction, Ref, Replay, Run


@dataclass(slots=True)
class Made:
    """A run."""

    run: Run
    """Without the number of its events."""
    log: list[bytes] = field(default_factory=list)
    given: int = 0
    """Events, whether or not they are still kept."""
    until: int | None = None
    """When its log is kept no longer, in milliseconds since 1970; None before it has ended."""
    keep: bool = True


@dataclass(slots=True)
class Line:
    """A ref and all that hangs on it."""

    created: int
    updated: int = 0
    expires: int | None = None
    head: str = ""
    whole: bool = False
    revision: int = 0
    label: bytes | None = None
    entries: dict[str, tuple[Entry, bytes]] = field(default_factory=dict)
    """Each with its plan, in the order in which they were appended."""
    notes: dict[str, bytes] = field(default_factory=dict)
    """Of those that have one."""
    branched: dict[str, Entry] = field(default_factory=dict)
    """The entries that are on a branch: all but the failed ones."""
    digests: dict[bytes, str] = field(default_factory=dict)
    preambles: dict[bytes, Preamble] = field(default_factory=dict)
    last: Replay | None = None
    """Of the head, not sticky."""
    sticky: dict[str, tuple[int, Replay]] = field(default_factory=dict)
    summaries: dict[str, Summary] = field(default_factory=dict)
    words: dict[str, tuple[Words, ...]] = field(default_factory=dict)
    """Of the entries that have them, by their ids."""
    vectors: dict[str, dict[str, tuple[bytes, ...]]] = field(default_factory=dict)
    """By model, then by entry."""
    runs: dict[str, Made] = field(default_factory=dict)
    """By the entry that each may become."""

    def back(self, entry: Entry) -> Iterator[Entry]:
        """The chain that ends with `entry`, newest first."""
        at: Entry | None = entry
        while at is not None:
            yield at
            at = self.branched.get(at.parent)

    def chain(self, entry: str) -> list[Entry]:
        """The chain that ends with `entry`, oldest first."""
        last = self.branched.get(entry)
        return list(self.back(last))[::-1] if last else []

    def between(self, entry: str, first: int, upto: int) -> list[Entry]:
        """Those of the chain that hold a position in [first, upto)."""
        last = self.branched.get(entry)
        found: list[Entry] = []
        if last is None or first >= upto:
            return found
        for each in self.back(last):
            if each.upto <= first:
                break
            if each.first < upto:
                found.append(each)
        return found[::-1]

    def record(self, id: str) -> Record:
        entry, plan = self.entries[id]
        return Record(entry, plan, self.preambles.get(entry.facts.preamble))

    def noted(self, ref: Ref, entry: Entry) -> Noted:
        return Noted(ref, entry, self.notes.get(entry.id, b""))

    def note(self, entry: str, note: bytes) -> None:
        if note:
            self.notes[entry] = note
        else:
            self.notes.pop(entry, None)

    def redact(self, redactions: Sequence[Redaction], preamble: tuple[bytes, Preamble] | None) -> None:
        for each in redactions:
            id = each.entry.id
            self.entries[id] = each.entry, self.entries[id][1]
            if id in self.branched:
                self.branched[id] = each.entry
            self.note(id, each.note)
        if preamble and preamble[0] in self.preambles:
            self.preambles[preamble[0]] = preamble[1]
        self.summaries.clear()
        self._forget({each.entry.id for each in redactions})

    def prune(self) -> bool:
        """Erases what no note holds; True if nothing is left."""
        kept: set[str] = set()
        for entry in reversed(self.branched.values()):
            if entry.id in self.notes or entry.id in kept:
                kept |= {entry.id, entry.parent}
        for id, (entry, _) in self.entries.items():
            if id not in self.branched and id in self.notes and (not entry.parent or entry.parent in kept):
                kept.add(id)
        gone = self.entries.keys() - kept
        if not gone:
            return False
        for id in gone:
            del self.entries[id]
            self.branched.pop(id, None)
            self.notes.pop(id, None)
        self.digests = {entry.digest: id for id, entry in self.branched.items()}
        used = {entry.facts.preamble for entry, _ in self.entries.values()}
        self.preambles = {id: each for id, each in self.preambles.items() if id in used}
        self.summaries = {id: each for id, each in self.summaries.items() if each.entry not in gone}
        self._forget(gone)
        if self.head in gone:
            self.head = next(reversed(self.branched), "")
        return not self.entries

    def _forget(self, entries: set[str]) -> None:
        """What was made from the content of these; and what finds entries, which can be made again."""
        if self.last and self.last.entry in entries:
            self.last = None
        self.sticky = {key: each for key, each in self.sticky.items() if each[1].entry not in entries}
        self.runs = {id: each for id, each in self.runs.items() if id not in entries or not each.run.ended}
        self.words.clear()
        self.vectors.clear()
        self.revision += 1


class Lines:
    """The refs that are known now. Nothing here waits, so each method of the store is atomic."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lines: dict[Ref, Line] = {}
        self._closed = False

    def _ms(self) -> int:
        return int(self._now() * 1000)

    def _check(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed; the proxy is stopping, send the request again.")

    def _line(self, ref: Ref) -> Line | None:
        self._check()
        line = self._lines.get(ref)
        if line is None or (line.expires is not None and line.expires <= self._ms()):
            return None
        return line

    def _begin(self, ref: Ref, ttl_s: int | None) -> Line:
        now = self._ms()
        self._lines[ref] = Line(now, updated=now, expires=None if ttl_s is None else now + ttl_s * 1000)
        return self._lines[ref]
