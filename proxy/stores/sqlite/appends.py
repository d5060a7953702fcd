"""How appends get into the tables: many rows in one call each.

An append whose ref is known from before (where it stands, on which branch, under which preamble) needs no look at the
file: its UPDATE says what is believed, and if the file knows better (another process wrote), the transaction fails
with `Stale`, to be done again by one that takes nothing on trust.
"""

import sqlite3

import msgspec

from proxy.conversation.entry import Entry, Preamble
from proxy.stores.contract import Appended, Conflict, Ref
from proxy.stores.sqlite import removal
from proxy.stores.sqlite.asks import Adding
from proxy.stores.sqlite.removal import HOUR_MS
from proxy.stores.sqlite.rows import key_of


class Line(msgspec.Struct, gc=False):
    """Where a ref stands."""

    n: int
    head: int | None
    head_id: str
    branch: int
    preamble: int | None
    preamble_id: bytes
    """b"\\0", which is none, of one that was redacted."""
    anchor: tuple[str, int] | None
    whole: bool
    hour: int | None
    replay: str
    """The key of the head's replay if it is not sticky, "" for none."""
    revision: int


class Stale(Exception):
    """The file knows better what was believed of a ref."""


class Appends:
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
        """The numbers of what is unknown after it, and whose rows are to be removed (see `removal`)."""
        self.replaced = False
        """Content was overwritten or removed at once."""
        self.changed: list[Ref] = []
        """Refs of which what was read is not true any more."""
        self.crowded: list[int] = []
        """The numbers of refs whose index wants merging."""
        self._heads: list[tuple[int, int, int | None, int, int, bool, int | None, int, int]] = []
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
        self._heads.append((n, self._now, expires, line.n, line.head, line.whole, line.hour, line.revision, self._now))
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
            line.revision,
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
                " WHERE n = ? AND head = ? AND whole = ? AND hour IS ? AND revision = ?"
                " AND (expires IS NULL OR expires > ?)",
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
            "SELECT r.n, r.head, h.id, h.branch, r.preamble, CASE WHEN p.redacted THEN x'00' ELSE p.id END, r.anchor,"
            " r.resume, r.whole, r.expires, r.hour, l.key, r.revision"
            " FROM refs r LEFT JOIN entries h ON h.n = r.head LEFT JOIN preambles p ON p.n = r.preamble"
            " LEFT JOIN replays l ON l.n = r.head AND NOT l.sticky"
            " WHERE r.tenant = ? AND r.kind = ? AND r.name = ?",
            (ref.tenant, ref.kind, ref.name),
        ).fetchone()
        if found is None:
            return None
        n, head, id, branch, preamble, preamble_id, anchor, resume, whole, expires, hour, key, revision = found
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
            revision,
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
            return Conflict(head_id)
        if line is None and append.ref.kind == "conversation":
            return Conflict(None)
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
        return Line(n or 0, None, "", 0, None, b"", None, False, None, "", 0)

    def _made(self, ref: Ref, ttl_s: int | None) -> Line:
        """A new ref, without a head."""
        line = self.learnt[ref] = self._new(ref)
        if ttl_s is not None:
            expires = self._now + ttl_s * 1000
            line.hour = expires // HOUR_MS
            self._db.execute("UPDATE refs SET expires = ?, hour = ? WHERE n = ?", (expires, line.hour, line.n))
        return line

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
        found = self._db.execute("SELECT n, redacted FROM preambles WHERE ref = ? AND id = ?", (line.n, id)).fetchone()
        if found and not found[1]:
            return int(found[0])
        if found:
            # said again; under another number, so that nobody takes it for what he holds
            self._db.execute("DELETE FROM preambles WHERE n = ?", found[:1])
        return self._db.execute(
            "INSERT INTO preambles (ref, id, wire, tokens) VALUES (?, ?, ?, ?)",
            (line.n, id, preamble.wire, preamble.tokens),
        ).lastrowid

    def _bury(self, n: int) -> None:
        removal.bury(self._db, n)
        self.buried.append(n)
