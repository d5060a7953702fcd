"""What is done to the tables inside one transaction.

An append whose ref is known from before (where it stands, on which branch, under which preamble) needs no look at the
file: its UPDATE says what is believed, and if the file knows better (another process wrote), the transaction fails
with `Stale`, to be done again by one that takes nothing on trust.
"""

import sqlite3

import msgspec

from proxy.conversation.entry import Entry, Preamble
from proxy.stores.contract import STICKY_MS, Appended, Conflict, Ref
from proxy.stores.sqlite import index, merge, notes
from proxy.stores.sqlite.asks import Adding, Annotate, Indexing, Keep
from proxy.stores.sqlite.rows import key_of

ROWS_A_STEP = 128
"""Entries that are removed in one transaction: an erasure must not hold appends up."""
HOUR_MS = 3_600_000


class Line(msgspec.Struct, gc=False):
    """Where a ref stands."""

    n: int
    head: int | None
    head_id: str
    branch: int
    preamble: int | None
    preamble_id: bytes
    anchor: tuple[str, int] | None
    whole: bool
    hour: int | None
    replay: str
    """The key of the head's replay if it is not sticky, "" for none."""


class Stale(Exception):
    """The file knows better what was believed of a ref."""


class Transaction:
    """Nothing is written for certain before `flush`. `known` is not changed."""

    def __init__(self, db: sqlite3.Connection, now: int, known: dict[Ref, Line]) -> None:
        self._db = db
        self._now = now
        self._known = known
        (self._next,) = db.execute("SELECT coalesce(max(n), 0) + 1 FROM entries").fetchone()
        self.bytes = 0
        """About how many it puts into the log."""
        self.learnt: dict[Ref, Line | None] = {}
        """Where refs stand after it; None: there is no such ref any more."""
        self.grown: list[tuple[Ref, int, int | None, int, Entry, int | None, Preamble | None]] = []
        """(ref, its number, the head before, the new head, its entry, the preamble): what `Cache.grown` wants."""
        self.buried: list[int] = []
        """Refs that are unknown after it, whose rows are to be removed."""
        self.crowded: list[int] = []
        """The numbers of refs whose index wants merging."""
        self._heads: list[tuple[int, int, int | None, int, int, bool, int | None, int]] = []
        self._entries: list[tuple[int, int, int | None, int, int, int, bytes, bytes, bytes, bytes]] = []
        self._digests: list[tuple[int, bytes, int]] = []
        self._replays: list[tuple[int, int, str, bool, int, bytes]] = []
        self._notes: list[tuple[int, int, bytes]] = []
        self._over: list[tuple[int, str]] = []

    def _line(self, ref: Ref) -> Line | None:
        return self.learnt[ref] if ref in self.learnt else self._known.get(ref)

    def append(self, adding: Adding) -> Appended | Conflict:
        append, entry = adding.append, adding.entry
        self.bytes += 12_000 + len(adding.row) + len(append.plan) + len(append.note) + len(adding.replay or b"")
        expires = None if append.ttl_s is None else self._now + append.ttl_s * 1000
        line = self._line(append.ref)
        if (
            line is None
            or line.head is None
            or not append.moves
            or append.expected != line.head_id
            or entry.parent != line.head_id
            or (append.whole and not line.whole)
            or adding.preamble != line.preamble_id
            or adding.anchor != line.anchor
            or (expires and expires // HOUR_MS) != line.hour
        ):
            return self._append_with_a_look(adding, expires)
        n, replay = self._next, append.replay
        self._next += 1
        self._heads.append((n, self._now, expires, line.n, line.head, line.whole, line.hour, self._now))
        self._add_rows(adding, n, line.n, line.branch, line.whole)
        if line.replay:
            self._over.append((line.head, line.replay))
        self.grown.append((append.ref, line.n, line.head, n, entry, line.preamble, append.preamble))
        self.learnt[append.ref] = Line(
            line.n,
            n,
            entry.id,
            line.branch,
            line.preamble,
            line.preamble_id,
            line.anchor,
            line.whole,
            line.hour,
            replay.key if replay and not replay.sticky else "",
        )
        return Appended()

    def _add_rows(self, adding: Adding, n: int, ref: int, branch: int | None, whole: bool) -> None:
        append, entry = adding.append, adding.entry
        self._entries.append(
            (
                n,
                ref,
                branch,
                entry.upto,
                entry.tokens_upto,
                entry.turn,
                adding.id,
                entry.digest,
                adding.row,
                append.plan,
            )
        )
        if append.note:
            self._notes.append((n, ref, append.note))
        if whole and branch is not None:
            self._digests.append((ref, entry.digest, n))
        if append.replay and adding.replay is not None:
            self._replays.append((n, ref, append.replay.key, append.replay.sticky, self._now, adding.replay))

    def flush(self) -> None:
        """Writes what was gathered: many rows in one call each."""
        run = self._db.executemany
        if self._heads:
            changed = run(
                "UPDATE refs SET head = ?, updated = ?, expires = ?"
                " WHERE n = ? AND head = ? AND whole = ? AND hour IS ? AND (expires IS NULL OR expires > ?)",
                self._heads,
            ).rowcount
            if changed != len(self._heads):
                raise Stale
            self._heads.clear()
        if self._entries:
            run("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._entries)
            self._entries.clear()
        if self._digests:
            run("INSERT INTO digests VALUES (?, ?, ?)", self._digests)
            self._digests.clear()
        if self._replays:
            run("INSERT INTO replays VALUES (?, ?, ?, ?, ?, ?)", self._replays)
            self._replays.clear()
        if self._notes:
            run("INSERT INTO notes VALUES (?, ?, ?)", self._notes)
            self._notes.clear()
        if self._over:
            run("DELETE FROM replays WHERE n = ? AND key = ?", self._over)
            self._over.clear()

    def _look(self, ref: Ref) -> Line | None:
        """Where the file says that the ref stands. A ref whose time is over is cleared away."""
        self.flush()
        found = self._db.execute(
            "SELECT r.n, r.head, h.id, h.branch, r.preamble, p.id, r.anchor, r.resume, r.whole, r.expires, r.hour,"
            " l.key FROM refs r LEFT JOIN entries h ON h.n = r.head LEFT JOIN preambles p ON p.n = r.preamble"
            " LEFT JOIN replays l ON l.n = r.head AND NOT l.sticky"
            " WHERE r.tenant = ? AND r.kind = ? AND r.name = ?",
            (ref.tenant, ref.kind, ref.name),
        ).fetchone()
        if found is None:
            return None
        n, head, id, branch, preamble, preamble_id, anchor, resume, whole, expires, hour, key = found
        if expires is not None and expires <= self._now:
            self._bury(n)
            self.learnt[ref] = None
            return None
        return Line(
            n,
            head,
            id.hex() if id else "",
            branch or 0,
            preamble,
            preamble_id or b"",
            None if anchor is None else (anchor, resume),
            bool(whole),
            hour,
            key or "",
        )

    def _append_with_a_look(self, adding: Adding, expires: int | None) -> Appended | Conflict:
        append, entry = adding.append, adding.entry
        line = self._look(append.ref)
        if line and self._db.execute("SELECT 1 FROM entries WHERE id = ? AND ref = ?", (adding.id, line.n)).fetchone():
            self.learnt[append.ref] = line
            return Appended(again=True)
        head_id = line.head_id or None if line else None
        if append.moves and append.expected != head_id:
            return Conflict(head_id)
        parent = line and self._parent(line, entry.parent)
        if entry.parent and not parent:
            if append.moves:
                raise ValueError(f"the parent of entry {entry.id} is not on its ref")
            return Conflict(head_id)
        n = self._next
        self._next += 1
        hour = None if expires is None else expires // HOUR_MS
        if line is None:
            line = self._new(append.ref)
        line.hour = hour
        if append.whole and not line.whole:
            line.whole = True
            self._db.execute(
                "INSERT INTO digests SELECT ref, digest, n FROM entries WHERE ref = ? AND branch > 0", (line.n,)
            )
        preamble = self._keep_preamble(line, adding)
        branch: int | None = None
        if append.moves:
            branch = self._branch(line, parent, n) if parent else n
            if line.replay and line.head is not None:
                self._over.append((line.head, line.replay))
            before = line.head if entry.parent == line.head_id else None
            self.grown.append((append.ref, line.n, before, n, entry, preamble, append.preamble))
            line.head, line.head_id, line.branch = n, entry.id, branch
            line.preamble, line.preamble_id, line.anchor = preamble, adding.preamble, adding.anchor
            line.replay = append.replay.key if append.replay and not append.replay.sticky else ""
        self._add_rows(adding, n, line.n, branch, line.whole)
        key, resume = line.anchor or (None, None)
        self._db.execute(
            "UPDATE refs SET head = ?, preamble = ?, anchor = ?, resume = ?, whole = ?, updated = ?, expires = ?,"
            " hour = ? WHERE n = ?",
            (line.head, line.preamble, key, resume, line.whole, self._now, expires, hour, line.n),
        )
        self.learnt[append.ref] = line
        return Appended()

    def _new(self, ref: Ref) -> Line:
        n = self._db.execute(
            "INSERT INTO refs (tenant, kind, name, whole, created, updated) VALUES (?, ?, ?, 0, ?, ?)",
            (ref.tenant, ref.kind, ref.name, self._now, self._now),
        ).lastrowid
        return Line(n or 0, None, "", 0, None, b"", None, False, None, "")

    def _parent(self, line: Line, id: str) -> tuple[int, int] | None:
        """The parent's branch and position; None if it is not on a branch of the ref."""
        key = key_of(id)
        found = (
            key
            and self._db.execute(
                "SELECT branch, upto FROM entries WHERE id = ? AND ref = ? AND branch IS NOT NULL", (key, line.n)
            ).fetchone()
        )
        return found or None

    def _branch(self, line: Line, parent: tuple[int, int], n: int) -> int:
        """The branch that entry `n` is on: its parent's if that ends there, else a new one that leaves it."""
        branch, upto = parent
        if not self._db.execute(
            "SELECT 1 FROM entries WHERE ref = ? AND branch = ? AND upto > ? LIMIT 1", (line.n, branch, upto)
        ).fetchone():
            return branch
        self._db.execute("INSERT INTO branches VALUES (?, ?, ?)", (n, branch, upto))
        return n

    def _keep_preamble(self, line: Line, adding: Adding) -> int | None:
        preamble, id = adding.append.preamble, adding.preamble
        if preamble is None or not id:
            return None
        if id == line.preamble_id:
            return line.preamble
        found = self._db.execute("SELECT n FROM preambles WHERE ref = ? AND id = ?", (line.n, id)).fetchone()
        if found:
            return int(found[0])
        return self._db.execute(
            "INSERT INTO preambles (ref, id, wire, tokens) VALUES (?, ?, ?, ?)",
            (line.n, id, preamble.wire, preamble.tokens),
        ).lastrowid

    def keep(self, keep: Keep) -> bool:
        ref = keep.entry and self._number(keep.ref)
        if (
            not ref
            or not self._db.execute(
                "SELECT 1 FROM entries WHERE id = ? AND ref = ? AND branch IS NOT NULL", (keep.entry, ref)
            ).fetchone()
        ):
            return False
        self.bytes += 12_000 + len(keep.row)
        n = self._db.execute(
            "INSERT INTO summaries (ref, id, upto, row) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING n",
            (ref, keep.id, keep.upto, keep.row),
        ).fetchall()
        if n:
            self._db.execute("UPDATE refs SET summary = ? WHERE n = ?", (*n[0], ref))
        return True

    def index(self, indexing: Indexing) -> None:
        ref = self._number(indexing.ref)
        if ref:
            self.bytes += index.write(self._db, ref, indexing)
            if merge.crowded(self._db, ref):
                self.crowded.append(ref)

    def merge_some(self, ref: int) -> bool:
        """One step of merging a ref's index; True if there was nothing left to do."""
        self.bytes += 1_000_000
        return merge.merge_some(self._db, ref)

    def _number(self, ref: Ref) -> int | None:
        """The ref's own, if it is known to the file and its time is not over."""
        self.flush()
        found = self._db.execute(
            "SELECT n FROM refs WHERE tenant = ? AND kind = ? AND name = ? AND (expires IS NULL OR expires > ?)",
            (ref.tenant, ref.kind, ref.name, self._now),
        ).fetchone()
        return found and int(found[0])

    def deliver(self, ref: Ref, key: str) -> None:
        line = self._line(ref) or self._look(ref)
        if line and line.head is not None and line.replay == key:
            self._over.append((line.head, key))
            self.learnt[ref] = msgspec.structs.replace(line, replay="")

    def annotate(self, ask: Annotate) -> bool:
        self.flush()
        self.bytes += 8192 + len(ask.note)
        return notes.annotate(self._db, self._now, ask.ref, ask.entry, ask.note)

    def erase(self, ref: Ref) -> bool:
        line = self._look(ref)
        if line is None:
            return False
        self._bury(line.n)
        self.learnt[ref] = None
        return True

    def expire(self, limit: int, under_way: set[int]) -> int:
        """Buries up to `limit` refs whose time is over, except those whose rows are being removed."""
        self.flush()
        found = self._db.execute(
            "SELECT n FROM refs WHERE hour <= ? AND expires <= ? ORDER BY hour LIMIT ?",
            (self._now // HOUR_MS, self._now, limit + len(under_way)),
        ).fetchall()
        refs = [n for (n,) in found if n not in under_way][:limit]
        for n in refs:
            self._bury(n)
        replays = self._db.execute(
            "DELETE FROM replays WHERE n IN (SELECT n FROM replays WHERE sticky AND at <= ? LIMIT ?)",
            (self._now - STICKY_MS, limit - len(refs)),
        ).rowcount
        return len(refs) + replays

    def ping(self) -> None:
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'ping'", (self._now,))

    def _bury(self, n: int) -> None:
        """From here on the ref is unknown, whatever happens to this process; its rows are removed in steps."""
        self._db.execute("DELETE FROM replays WHERE n = (SELECT head FROM refs WHERE n = ?)", (n,))
        self._db.execute("DELETE FROM replays WHERE ref = ? AND sticky", (n,))
        self._db.execute(
            "UPDATE refs SET tenant = '', kind = '', name = n, head = NULL, preamble = NULL, anchor = NULL,"
            " summary = NULL,"
            " expires = 0, hour = 0 WHERE n = ?",
            (n,),
        )
        self.buried.append(n)

    def remove_some(self, ref: int) -> bool:
        """Removes some of a buried ref's rows; True if these were the last."""
        if not index.remove_some(self._db, ref):
            self.bytes += 1_000_000
            return False
        rows = self._db.execute("SELECT n, digest FROM entries WHERE ref = ? LIMIT ?", (ref, ROWS_A_STEP)).fetchall()
        numbers = [(n,) for n, _ in rows]
        run = self._db.executemany
        run("DELETE FROM digests WHERE ref = ? AND digest = ? AND n = ?", [(ref, digest, n) for n, digest in rows])
        run("DELETE FROM branches WHERE n = ?", numbers)
        run("DELETE FROM entries WHERE n = ?", numbers)
        self.bytes += 8192 * len(rows)
        if len(rows) == ROWS_A_STEP:
            return False
        self._db.execute("DELETE FROM preambles WHERE ref = ?", (ref,))
        self._db.execute("DELETE FROM refs WHERE n = ?", (ref,))
        return True
