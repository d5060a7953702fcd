"""A store in plain dicts: for tests and for trying things. All is gone when the process ends."""

import os
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from proxy.conversation.entry import Chain, Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.conversation.words import Words
from proxy.errors import SettingsError, StoreUnavailable
from proxy.stores.contract import (
    STICKY_MS,
    Append,
    Appended,
    Conflict,
    Index,
    Noted,
    Postings,
    Record,
    Ref,
    RefInfo,
    Replay,
    Vectors,
    kept_from,
    posting,
    shown,
)
from proxy.stores.contract import tag as tag_of

T = TypeVar("T")


def from_url(url: str) -> "MemoryStore":
    if url.lower() != "memory:":
        raise SettingsError(f"store: {url!r}: memory: takes nothing behind it")
    return MemoryStore()


@dataclass(slots=True)
class _Line:
    """A ref and all that hangs on it."""

    created: int
    updated: int = 0
    expires: int | None = None
    head: str = ""
    whole: bool = False
    entries: dict[str, Record] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)
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


def _index(known: dict[str, tuple[T, ...]], entry: Entry, of_each: tuple[T, ...]) -> None:
    if entry.id in known or (entry.parent and entry.parent not in known):
        return
    if len(of_each) != entry.count:
        raise ValueError(f"entry {entry.id} has {entry.count} messages, not {len(of_each)}")
    known[entry.id] = of_each


class MemoryStore:
    """Passes the same laws as every store; nothing here waits, so each method is atomic."""

    searches = frozenset({"keywords", "embeddings"})

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lines: dict[Ref, _Line] = {}
        self._secret = os.urandom(32)
        self._closed = False

    async def open(self) -> None:
        self._closed = False

    async def close(self) -> None:
        self._closed = True

    async def secret(self) -> bytes:
        return self._secret

    def _ms(self) -> int:
        return int(self._now() * 1000)

    def _line(self, ref: Ref) -> _Line | None:
        if self._closed:
            raise StoreUnavailable("The store is closed; the proxy is stopping, send the request again.")
        line = self._lines.get(ref)
        if line is None or (line.expires is not None and line.expires <= self._ms()):
            return None
        return line

    async def load(self, ref: Ref, *, key: str, reach: int | None, entry: str | None = None) -> Chain | None:
        line = self._line(ref)
        head = line and line.branched.get(line.head if entry is None else entry)
        if not line or not head:
            return None
        low = kept_from(head, key)
        border = head.tokens_upto - reach if low is None and reach is not None else -1
        kept = [head]
        for each in islice(line.back(head), 1, None):
            if each.upto <= (low or 0) or each.tokens_upto <= border:
                break
            kept.append(each)
        kept.reverse()
        return Chain(
            head=head,
            entries=tuple(kept),
            preamble=line.preambles.get(head.facts.preamble),
            ref_head=line.head,
            whole=line.whole,
            summaries=shown(head, kept, tuple(line.summaries.values())) if line.summaries else (),
        )

    async def read(self, ref: Ref, entry: str, first: int, upto: int) -> Sequence[Entry]:
        line = self._line(ref)
        last = line and line.branched.get(entry)
        if not line or not last or first >= upto:
            return []
        found = []
        for each in line.back(last):
            if each.upto <= first:
                break
            if each.first < upto:
                found.append(each)
        return found[::-1]

    async def find_digests(self, ref: Ref, digests: Sequence[bytes]) -> dict[bytes, str]:
        line = self._line(ref)
        return {each: line.digests[each] for each in digests if each in line.digests} if line else {}

    async def find_turn(self, ref: Ref, turn: int) -> tuple[Entry | None, Entry | None] | None:
        line = self._line(ref)
        if not line or not line.head:
            return None
        after: Entry | None = None
        for each in line.back(line.branched[line.head]):
            if each.turn <= turn:
                return each, after
            after = each
        return None, after

    async def append(self, append: Append) -> Appended | Conflict:
        line, entry, now = self._line(append.ref), append.entry, self._ms()
        if line and entry.id in line.entries:
            return Appended(again=True)
        head = line.head or None if line else None
        if append.moves and append.expected != head:
            return Conflict(head)
        if entry.parent and not (line and entry.parent in line.branched):
            if append.moves:
                raise ValueError(f"the parent of entry {entry.id} is not on its ref")
            return Conflict(head)
        if line is None:
            line = self._lines[append.ref] = _Line(created=now)
        line.updated = now
        line.expires = None if append.ttl_s is None else now + append.ttl_s * 1000
        line.whole = line.whole or append.whole
        if append.preamble:
            line.preambles[entry.facts.preamble] = append.preamble
        line.entries[entry.id] = Record(entry, append.plan, append.preamble)
        if append.note:
            line.notes[entry.id] = append.note
        if append.moves:
            line.branched[entry.id] = entry
            line.digests[entry.digest] = entry.id
            line.head = entry.id
            line.last = None
        if append.replay and append.replay.sticky:
            line.sticky[append.replay.key] = now, append.replay
        elif append.replay and append.moves:
            line.last = append.replay
        return Appended()

    async def find_replay(self, ref: Ref, key: str) -> Replay | None:
        line = self._line(ref)
        if not line:
            return None
        if line.last and line.last.key == key:
            return line.last
        at, replay = line.sticky.get(key, (0, None))
        return replay if replay and at > self._ms() - STICKY_MS else None

    def delivered(self, ref: Ref, key: str) -> None:
        line = self._lines.get(ref)
        if line and line.last and line.last.key == key:
            line.last = None

    async def keep_summary(self, ref: Ref, summary: Summary) -> bool:
        line = self._line(ref)
        if not line or summary.entry not in line.branched:
            return False
        line.summaries.setdefault(summary.id, summary)
        return True

    async def summaries(self, ref: Ref) -> Sequence[Summary]:
        line = self._line(ref)
        return list(line.summaries.values()) if line else []

    async def index(self, ref: Ref, indexes: Sequence[Index]) -> None:
        line = self._line(ref)
        for each in indexes:
            entry = line and line.branched.get(each.entry)
            if not line or not entry:
                continue
            if each.words:
                _index(line.words, entry, each.words)
            if each.vectors:
                _index(line.vectors.setdefault(each.model, {}), entry, each.vectors)

    async def unindexed(self, ref: Ref, entry: str, *, model: str, most: int) -> Sequence[Entry]:
        line = self._line(ref)
        if not line:
            return []
        known = line.vectors.get(model, {}) if model else line.words
        return [each for each in line.chain(entry) if each.id not in known][:most]

    async def postings(self, ref: Ref, entry: str, terms: Sequence[bytes]) -> Postings | None:
        line = self._line(ref)
        chain = line and line.chain(entry)
        if not line or not chain:
            return None
        length = 0
        found: dict[bytes, list[bytes]] = {term: [] for term in terms}
        for each in chain:
            for position, words in enumerate(line.words.get(each.id, ()), each.first):
                length += words.length
                for term, count in words.terms:
                    if term in found:
                        found[term].append(posting(position, words.length, count).to_bytes(8, "little"))
        return Postings(chain[-1].upto, length, tuple(b"".join(found[term]) for term in terms))

    async def vectors(self, ref: Ref, entry: str, model: str) -> Vectors | None:
        line = self._line(ref)
        chain = line and line.chain(entry)
        if not line or not chain:
            return None
        kept = line.vectors.get(model, {})
        all = [item for each in chain for item in enumerate(kept.get(each.id, ()), each.first) if item[1]]
        return Vectors(b"".join(at.to_bytes(4, "little") for at, _ in all), b"".join(vector for _, vector in all))

    async def pick(self, ref: Ref, entry: str, positions: Sequence[int]) -> Sequence[Entry]:
        line = self._line(ref)
        chain = line.chain(entry) if line else []
        at = {bisect_right(chain, position, key=lambda each: each.upto) for position in positions if position >= 0}
        return [chain[n] for n in sorted(at) if n < len(chain)]

    async def list(self, *, tenant: str | None = None, name: str | None = None) -> AsyncIterator[RefInfo]:
        sessions = [ref for ref in self._lines if ref.kind == "session"]
        for ref in sorted(sessions, key=lambda ref: (ref.tenant, ref.name)):
            if tenant in (None, ref.tenant) and name in (None, ref.name) and (line := self._line(ref)):
                head = line.branched.get(line.head)
                yield RefInfo(
                    ref=ref,
                    head=line.head,
                    turns=head.turn if head else 0,
                    messages=head.upto if head else 0,
                    tokens=head.tokens_upto if head else 0,
                    created_ms=line.created,
                    updated_ms=line.updated,
                    expires_ms=line.expires,
                )

    async def records(self, ref: Ref) -> AsyncIterator[Record]:
        line = self._line(ref)
        for record in tuple(line.entries.values()) if line else ():
            yield record

    async def find(self, tenant: str, tag: str, entry: str) -> Noted | None:
        for ref in [ref for ref, line in self._lines.items() if ref.tenant == tenant and entry in line.entries]:
            if (line := self._line(ref)) and tag_of(ref) == tag:
                return Noted(ref, line.entries[entry].entry, line.notes.get(entry, b""))
        return None

    async def annotate(self, ref: Ref, entry: str, note: bytes) -> bool:
        line = self._line(ref)
        if not line or entry not in line.entries:
            return False
        line.notes[entry] = note
        return True

    async def erase(self, ref: Ref) -> bool:
        known = self._line(ref) is not None
        self._lines.pop(ref, None)
        return known

    async def expire(self, limit: int) -> int:
        self._line(Ref("", "", ""))
        now, gone = self._ms(), 0
        for ref in [ref for ref, line in self._lines.items() if line.expires is not None and line.expires <= now]:
            if gone >= limit:
                return gone
            del self._lines[ref]
            gone += 1
        for line in self._lines.values():
            for key in [key for key, (at, _) in line.sticky.items() if at <= now - STICKY_MS]:
                if gone >= limit:
                    return gone
                del line.sticky[key]
                gone += 1
        return gone

    async def ping(self) -> None:
        self._line(Ref("", "", ""))
