"""What is read from the file: each method runs in the reader's thread, in as few statements as will do."""
# ruff: noqa: S608 - statements are put together from what stands in this file; every value is bound

import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TypeVar

import msgspec

from proxy.conversation.entry import Chain, Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.errors import StoreUnavailable
from proxy.stores.contract import STICKY_MS, Noted, Ref, Replay
from proxy.stores.picking import kept_from, shown
from proxy.stores.sqlite import schema
from proxy.stores.sqlite.cache import NOTHING_TOLD, Cache, Held, Told
from proxy.stores.sqlite.link import Link
from proxy.stores.sqlite.listing import preamble_of
from proxy.stores.sqlite.notes import note_of
from proxy.stores.sqlite.rows import REF, RUN, key_of, unpack, unpack_one, unpack_summary
from proxy.stores.sqlite.search import Parts
from proxy.stores.sqlite.thread import Job

T = TypeVar("T")
Read = Callable[["Reader"], object]

DIGESTS_AT_ONCE = 64
SPARE = 64
"""Entries that may be held beyond twice a window, before the oldest are let go."""


_HEAD = f"""
SELECT r.n, r.head, r.whole, r.anchor = ?1, r.resume, h.branch, h.upto, h.tokens_upto, r.preamble, p.wire, p.tokens,
    r.summary, r.revision, (
    SELECT {RUN} FROM entries e
    WHERE e.ref = r.n AND e.branch = h.branch AND e.upto <= h.upto AND e.upto > CASE
        WHEN r.anchor = ?1 THEN min(r.resume, h.upto - 1)
        WHEN ?2 THEN 0
        ELSE h.upto - 1 END)
FROM refs r JOIN entries h ON h.n = r.head LEFT JOIN preambles p ON p.n = r.preamble
WHERE r.tenant = ?3 AND r.kind = ?4 AND r.name = ?5 AND (r.expires IS NULL OR r.expires > ?6)"""

_STAND = (
    f"SELECT r.n, r.head, r.whole, r.anchor = ?, r.resume, r.preamble, r.summary, r.revision FROM refs r WHERE {REF}"
)

_ENTRY = f"""
SELECT r.n, r.whole, h.id, e.branch, e.upto, e.tokens_upto, e.row, r.summary, r.revision
FROM refs r JOIN entries h ON h.n = r.head JOIN entries e ON e.ref = r.n AND e.id = ?
WHERE e.branch IS NOT NULL AND {REF}"""

_SPOT = f"""
SELECT r.n, e.branch, e.upto, EXISTS (SELECT 1 FROM branches b WHERE b.n = e.branch)
FROM refs r JOIN entries e ON e.ref = r.n AND e.id = ? WHERE e.branch IS NOT NULL AND {REF}"""

_RANGE = f"""
WITH RECURSIVE line (branch, top) AS (
    VALUES (?1, ?2)
    UNION ALL
    SELECT b.parent, b.at FROM line JOIN branches b ON b.n = line.branch WHERE b.at > ?3
)
SELECT {RUN} FROM line CROSS JOIN entries e
WHERE e.ref = ?4 AND e.branch = line.branch AND e.upto > ?3 AND e.upto <= min(line.top, coalesce(
    (SELECT u.upto FROM entries u WHERE u.ref = ?4 AND u.branch = line.branch AND u.upto >= ?5 ORDER BY u.upto LIMIT 1),
    line.top))"""

_position = attrgetter("upto")
_tokens = attrgetter("tokens_upto")
_replay = msgspec.msgpack.Decoder(Replay).decode


def _named(head: Entry) -> str:
    anchor = head.facts.anchor
    return anchor.summary if anchor is not None else ""


def _tells(told: Told, named: str) -> bool:
    return not named or named == told.named or any(each.id == named for each in told.summaries)


class Reader:
    def __init__(self, link: Link, now_ms: Callable[[], int], cache: Cache) -> None:
        self._link = link
        self._now_ms = now_ms
        self._cache = cache
        self._db: sqlite3.Connection
        self._seen: sqlite3.Connection | None = None

    def serve(self, jobs: list[Job[Read]]) -> tuple[list[Job[Read]], bool]:
        for job in jobs:
            try:
                self._connect()
                if len(jobs) > 1:
                    self._begin()
                job.answer = job.ask(self)
            except (sqlite3.Error, StoreUnavailable) as error:
                job.error = schema.unavailable(error, self._link.path) or error
                self._link.drop()
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked
                job.error = error
        try:
            self._end()
        except sqlite3.Error:
            # the answers are complete; whether the file can be read again, the next ones will tell
            self._link.drop()
        return jobs, False

    def finish(self) -> None:
        self._link.drop()

    def _connect(self) -> None:
        self._db = self._link.get()
        if self._db is not self._seen:
            # perhaps another file: numbers may mean something else in it
            self._cache.clear()
            self._seen = self._db

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN")

    def _end(self) -> None:
        if self._link.connected and self._db.in_transaction:
            self._db.execute("COMMIT")

    def load(self, ref: Ref, key: str, reach: int | None) -> Chain | None:
        held = self._cache.get(ref)
        return (held and self._load_held(held, ref, key, reach)) or self._load(ref, key, reach)

    def _load_held(self, held: Held, ref: Ref, key: str, reach: int | None) -> Chain | None:
        """From what is held, if the ref still stands where that ends and it goes back far enough."""
        found = self._db.execute(_STAND, (key, ref.tenant, ref.kind, ref.name, self._now_ms())).fetchone()
        if found is None:
            return None
        n, head_n, whole, anchored, resume, preamble_n, newest, revision = found
        told = held.told
        if (n, head_n, preamble_n, newest, revision) != (
            held.n,
            held.head,
            held.preamble_n,
            told.newest,
            held.revision,
        ):
            return None
        entries, size = held.entries, held.size
        head = entries[size - 1]
        first = entries[0]
        if anchored or reach is None:
            low = resume if anchored else 0
            start = bisect_right(entries, low, hi=size, key=_position)
            known = first.first <= low
        else:
            border = head.tokens_upto - reach
            start = bisect_right(entries, border, hi=size, key=_tokens)
            known = first.tokens_upto - first.tokens <= border or not first.parent
        if not known or (newest is not None and not _tells(told, _named(head))):
            return None
        kept = entries[min(start, size - 1) : size]
        if len(kept) * 2 + SPARE < size:
            self._cache.put(ref, n, head_n, kept.copy(), preamble_n, held.preamble, told, revision)
        return Chain(
            head=head,
            entries=tuple(kept),
            preamble=held.preamble,
            ref_head=head.id,
            whole=bool(whole),
            summaries=shown(head, kept, told.summaries) if told.summaries else (),
            revision=revision,
        )

    def _load(self, ref: Ref, key: str, reach: int | None) -> Chain | None:
        found = self._db.execute(_HEAD, (key, reach is None, ref.tenant, ref.kind, ref.name, self._now_ms())).fetchone()
        if found is None:
            return None
        n, head_n, whole, anchored, resume, branch, upto, tokens_upto, preamble_n, wire, tokens, newest, *rest = found
        revision, run = rest
        entries = unpack(run)
        entries.sort(key=_position)
        low = resume if anchored else 0
        border = reach is not None and not anchored
        short = border or (entries[0].parent and entries[0].first > low)
        if (short or newest is not None) and not self._db.in_transaction:
            # more statements are needed, and they must all see the same
            self._begin()
            return self._load(ref, key, reach)
        if short:
            if border:
                low = self._border(n, branch, upto, tokens_upto - (reach or 0))
            entries = self._range(n, branch, upto, min(low, upto - 1), upto)
        head = entries[-1]
        preamble = None if wire is None else Preamble(wire, tokens)
        told = NOTHING_TOLD if newest is None else self._told(n, newest, head, entries[0].first)
        self._cache.put(ref, n, head_n, entries, preamble_n, preamble, told, revision)
        return Chain(
            head=head,
            entries=tuple(entries),
            preamble=preamble,
            ref_head=head.id,
            whole=bool(whole),
            summaries=shown(head, entries, told.summaries) if told.summaries else (),
            revision=revision,
        )

    def _told(self, ref: int, newest: int, head: Entry, first: int) -> Told:
        named = _named(head)
        found = self._db.execute(
            "SELECT row FROM summaries WHERE ref = ? AND (upto > ? OR id = ?) ORDER BY n", (ref, first, key_of(named))
        ).fetchall()
        return Told(newest, named, tuple(unpack_summary(row) for (row,) in found))

    def load_entry(self, ref: Ref, key: str, reach: int | None, entry: str) -> Chain | None:
        self._begin()
        found = self._entry(ref, entry)
        if found is None:
            return None
        n, whole, ref_head, branch, upto, tokens_upto, row, newest, revision = found
        head = unpack_one(row)
        low = kept_from(head, key)
        if low is None:
            low = 0 if reach is None else self._border(n, branch, upto, tokens_upto - reach)
        entries = self._range(n, branch, upto, min(low, upto - 1), upto)
        told = NOTHING_TOLD if newest is None else self._told(n, newest, head, entries[0].first)
        return Chain(
            head=head,
            entries=tuple(entries),
            preamble=preamble_of(self._db, n, head),
            ref_head=ref_head.hex(),
            whole=bool(whole),
            summaries=shown(head, entries, told.summaries) if told.summaries else (),
            revision=revision,
        )

    def summaries(self, ref: Ref) -> list[Summary]:
        found = self._db.execute(
            f"SELECT s.row FROM refs r JOIN summaries s ON s.ref = r.n WHERE {REF} ORDER BY s.n",
            (ref.tenant, ref.kind, ref.name, self._now_ms()),
        )
        return [unpack_summary(row) for (row,) in found.fetchall()]

    def read(self, ref: Ref, entry: str, first: int, upto: int) -> list[Entry]:
        self._begin()
        found = self._entry(ref, entry) if first < upto else None
        if found is None:
            return []
        n, _, _, branch, top, *_ = found
        # the entry that crosses `upto` may be the last of a branch that was left before: cut off what is above it
        return [each for each in self._range(n, branch, top, max(first, 0), upto) if each.first < upto]

    def noted(self, ref: Ref, first: int, upto: int) -> list[Noted]:
        self._begin()
        head = self._head(ref) if first < upto else None
        if head is None:
            return []
        entries = self._range(*head, max(first, 0), upto)
        return [Noted(ref, each, note_of(self._db, head[0], each)) for each in entries if each.first < upto]

    def search(self, ref: Ref, entry: str, ask: "Callable[[sqlite3.Connection, int, Parts], T]") -> T | None:
        """What `ask` finds on the chain that ends with `entry`, given the ref's number; None if it is unknown."""
        self._begin()
        id = key_of(entry)
        values = (id, ref.tenant, ref.kind, ref.name, self._now_ms())
        found = self._db.execute(_SPOT, values).fetchone() if id else None
        if found is None:
            return None
        n, branch, top, leaves = found
        return ask(self._db, n, self._parts(branch, top) if leaves else [(branch, top)])

    def _entry(self, ref: Ref, entry: str) -> tuple[int, int, bytes, int, int, int, bytes, int | None, int] | None:
        id = key_of(entry)
        found = id and self._db.execute(_ENTRY, (id, ref.tenant, ref.kind, ref.name, self._now_ms())).fetchone()
        return found or None

    def _range(self, ref: int, branch: int, top: int, low: int, upto: int) -> list[Entry]:
        """Of the chain that comes down from `top` on `branch`: the entries that reach above `low`, up to the one that
        reaches `upto`; oldest first."""
        (run,) = self._db.execute(_RANGE, (branch, top, low, ref, upto)).fetchone()
        return sorted(unpack(run), key=_position)

    def _border(self, ref: int, branch: int, top: int, tokens: int) -> int:
        """The position below which the chain holds at most `tokens`."""
        for part, end in self._parts(branch, top):
            found = self._db.execute(
                "SELECT upto FROM entries WHERE ref = ? AND branch = ? AND upto <= ? AND tokens_upto <= ?"
                " ORDER BY upto DESC LIMIT 1",
                (ref, part, end, tokens),
            ).fetchone()
            if found:
                return int(found[0])
        return 0

    def _parts(self, branch: int, top: int) -> "list[tuple[int, int]]":
        """The branches that a chain runs along, newest first, each with the position up to which it belongs to it."""
        return self._db.execute(
            "WITH RECURSIVE line (branch, top) AS (VALUES (?, ?) UNION ALL"
            " SELECT b.parent, b.at FROM line JOIN branches b ON b.n = line.branch)"
            " SELECT branch, top FROM line ORDER BY top DESC",
            (branch, top),
        ).fetchall()

    def find_digests(self, ref: Ref, digests: Sequence[bytes]) -> dict[bytes, str]:
        self._begin()
        found = self._db.execute(
            f"SELECT r.n, r.whole FROM refs r WHERE {REF}", (ref.tenant, ref.kind, ref.name, self._now_ms())
        ).fetchone()
        if found is None:
            return {}
        n, whole = found
        known: dict[bytes, str] = {}
        marks = ",".join("?" * DIGESTS_AT_ONCE)
        if whole:
            newest = f"SELECT digest, max(n) AS n FROM digests WHERE ref = ? AND digest IN ({marks}) GROUP BY digest"
        else:
            newest = (
                "SELECT digest, max(n) AS n FROM entries"
                f" WHERE ref = ? AND branch > 0 AND digest IN ({marks}) GROUP BY digest"
            )
        for at in range(0, len(digests), DIGESTS_AT_ONCE):
            some = digests[at : at + DIGESTS_AT_ONCE]
            # always as many, so that the statement is compiled once
            some = [*some, *([some[-1]] * (DIGESTS_AT_ONCE - len(some)))]
            for digest, id in self._db.execute(
                f"SELECT d.digest, e.id FROM ({newest}) d JOIN entries e ON e.n = d.n", (n, *some)
            ).fetchall():
                known[digest] = id.hex()
        return known

    def find_turn(self, ref: Ref, turn: int) -> tuple[Entry | None, Entry | None] | None:
        self._begin()
        head = self._head(ref)
        if head is None:
            return None
        n, branch, top = head
        after: Entry | None = None
        on = "SELECT row FROM entries WHERE ref = ? AND branch = ? AND upto <= ?"
        for part, end in self._parts(branch, top):
            found = self._one(f"{on} AND turn <= ? ORDER BY upto DESC LIMIT 1", (n, part, end, turn))
            first = f"{on} AND upto > ? ORDER BY upto LIMIT 1"
            after = self._one(first, (n, part, end, found.upto if found else 0)) or after
            if found:
                return found, after
        return None, after

    def _head(self, ref: Ref) -> tuple[int, int, int] | None:
        """(the ref's number, the branch and position of its head)"""
        found = self._db.execute(
            f"SELECT r.n, h.branch, h.upto FROM refs r JOIN entries h ON h.n = r.head WHERE {REF}",
            (ref.tenant, ref.kind, ref.name, self._now_ms()),
        ).fetchone()
        return found or None

    def _one(self, sql: str, values: tuple[int, ...]) -> Entry | None:
        found = self._db.execute(sql, values).fetchone()
        return unpack_one(found[0]) if found else None

    def find_replay(self, ref: Ref, key: str, *, over: bool) -> Replay | None:
        """`over`: the head's own was delivered, only a sticky one counts."""
        now = self._now_ms()
        found = self._db.execute(
            f"SELECT p.row FROM refs r JOIN replays p ON p.n = r.head AND NOT p.sticky AND p.key = ?"
            f" WHERE NOT ? AND {REF}"
            " UNION ALL SELECT row FROM (SELECT p.row FROM refs r JOIN replays p ON p.ref = r.n AND p.key = ?"
            f" AND p.sticky AND p.at > ? WHERE {REF} ORDER BY p.n DESC LIMIT 1) LIMIT 1",
            (key, over, ref.tenant, ref.kind, ref.name, now, key, now - STICKY_MS, ref.tenant, ref.kind, ref.name, now),
        ).fetchone()
        return _replay(found[0]) if found else None

    def ask(self, ask: "Callable[[sqlite3.Connection, int], T]") -> T:
        """What `ask` finds, given the time."""
        self._begin()
        return ask(self._db, self._now_ms())
