"""The store: entries, refs and what is kept beside them. Passes the same laws as every store."""

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice

from proxy.conversation.entry import Chain, Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.errors import SettingsError
from proxy.stores.contract import (
    STICKY_MS,
    Append,
    Appended,
    Conflict,
    Label,
    Noted,
    Record,
    Redaction,
    Ref,
    RefInfo,
    Replay,
)
from proxy.stores.contract import tag as tag_of
from proxy.stores.memory.places import Standing
from proxy.stores.memory.runs import Running
from proxy.stores.memory.search import Searching
from proxy.stores.picking import kept_from, shown


def from_url(url: str) -> "MemoryStore":
    if url.lower() != "memory:":
        raise SettingsError(f"store: {url!r}: memory: takes nothing behind it")
    return MemoryStore()


class MemoryStore(Searching, Running, Standing):
    searches = frozenset({"keywords", "embeddings"})

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(now=now)
        self._secret = os.urandom(32)

    async def open(self) -> None:
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        self._end_waiting()

    async def secret(self) -> bytes:
        return self._secret

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
            revision=line.revision,
        )

    async def read(self, ref: Ref, entry: str, first: int, upto: int) -> Sequence[Entry]:
        line = self._line(ref)
        return line.between(entry, first, upto) if line else []

    async def noted(self, ref: Ref, first: int, upto: int) -> Sequence[Noted]:
        line = self._line(ref)
        return [line.noted(ref, each) for each in line.between(line.head, first, upto)] if line else []

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
        line, entry = self._line(append.ref), append.entry
        if line and entry.id in line.entries:
            self.step_out(append.ref, append.holder)
            return Appended(again=True)
        head = line.head or None if line else None
        if append.holder and self._first(append.ref) not in (append.holder, None):
            return Conflict(head)
        if append.moves and append.expected != head:
            return Conflict(head)
        if entry.parent and not (line and entry.parent in line.branched):
            return Conflict(head)
        if line is None:
            if append.ref.kind == "conversation":
                return Conflict(None)
            line = self._begin(append.ref, append.ttl_s)
        now = line.updated = self._ms()
        line.expires = None if append.ttl_s is None else now + append.ttl_s * 1000
        line.whole = line.whole or append.whole
        if append.preamble:
            line.preambles[entry.facts.preamble] = append.preamble
        line.entries[entry.id] = entry, append.plan
        line.note(entry.id, append.note)
        if append.moves:
            line.branched[entry.id] = entry
            line.digests[entry.digest] = entry.id
            line.head = entry.id
            line.last = None
        if append.replay and append.replay.sticky:
            line.sticky[append.replay.key] = now, append.replay
        elif append.replay and append.moves:
            line.last = append.replay
        self.step_out(append.ref, append.holder)
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

    async def keep_summary(self, ref: Ref, summary: Summary, *, revision: int) -> bool:
        line = self._line(ref)
        if not line or line.revision != revision or summary.entry not in line.branched:
            return False
        line.summaries.setdefault(summary.id, summary)
        return True

    async def summaries(self, ref: Ref) -> Sequence[Summary]:
        line = self._line(ref)
        return list(line.summaries.values()) if line else []

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
        for id in tuple(line.entries) if line else ():
            if line and id in line.entries:
                yield line.record(id)

    async def find(self, tenant: str, tag: str, entry: str) -> Noted | None:
        for ref in [ref for ref, line in self._lines.items() if ref.tenant == tenant and entry in line.entries]:
            if (line := self._line(ref)) and tag_of(ref) == tag:
                return line.noted(ref, line.entries[entry][0])
        return None

    async def annotate(self, ref: Ref, entry: str, note: bytes) -> bool:
        line = self._line(ref)
        if not line or entry not in line.entries:
            return False
        line.note(entry, note)
        return True

    async def redact(
        self, ref: Ref, redactions: Sequence[Redaction], *, preamble: tuple[bytes, Preamble] | None
    ) -> bool:
        line = self._line(ref)
        if not line or any(each.entry.id not in line.entries for each in redactions):
            return False
        line.redact(redactions, preamble)
        return True

    async def prune(self, ref: Ref, entry: str) -> bool:
        line = self._line(ref)
        if not line or entry not in line.entries:
            return False
        line.note(entry, b"")
        if line.prune():
            del self._lines[ref]
        return True

    async def label(self, ref: Ref, label: bytes, *, new: bool, ttl_s: int | None = None) -> bool:
        line = self._line(ref)
        if new is (line is not None):
            return False
        (line or self._begin(ref, ttl_s)).label = label
        return True

    async def labelled(self, ref: Ref) -> Label | None:
        line = self._line(ref)
        return Label(ref, line.label or b"", line.created) if line else None

    async def labels(
        self, tenant: str, kind: str, *, after: str | None, most: int, newest_first: bool
    ) -> Sequence[Label]:
        self._check()
        found = sorted(
            (line.created, ref.name, Label(ref, line.label, line.created))
            for ref in self._lines
            if (ref.tenant, ref.kind) == (tenant, kind) and (line := self._line(ref)) and line.label is not None
        )
        if newest_first:
            found.reverse()
        if after is not None:
            last = self._line(Ref(tenant, kind, after))
            if last is None:
                return []
            place = last.created, after
            found = [each for each in found if (each[:2] < place if newest_first else each[:2] > place)]
        return [label for _, _, label in found[:most]]

    async def erase(self, ref: Ref) -> bool:
        known = self._line(ref) is not None
        self._lines.pop(ref, None)
        return known

    async def expire(self, limit: int) -> int:
        self._check()
        self._sweep_places()
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
        return gone + self._expire_logs(limit - gone)

    async def ping(self) -> None:
        self._check()
