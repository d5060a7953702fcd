"""What is written to the file: everything that waits goes into one transaction, in the order in which it came.

An append whose ref this writer knows from before (where it stands, on which branch, under which preamble) needs no
look at the file: its UPDATE says what it believes, and if the file knows better (another process wrote), the whole
batch is undone and done again one by one, with a look. One by one is also how a failure finds the job that causes it.
"""

import sqlite3
from collections import deque
from collections.abc import Callable

import msgspec

from proxy.errors import StoreUnavailable
from proxy.stores.contract import STICKY_MS, Append, Appended, Conflict, Ref
from proxy.stores.sqlite import schema
from proxy.stores.sqlite.link import Link
from proxy.stores.sqlite.rows import key_of, pack
from proxy.stores.sqlite.thread import Job

MOST_KNOWN = 10_000
ROWS_A_STEP = 128
"""Entries that are removed in one transaction: an erasure must not hold appends up."""
HOUR_MS = 3_600_000


class Adding(msgspec.Struct, gc=False):
    """An append, with all that can be made ready before its turn comes."""

    append: Append
    id: bytes
    row: bytes
    preamble: bytes
    anchor: tuple[str, int] | None
    replay: bytes | None


class Delivered(msgspec.Struct, gc=False):
    replays: list[tuple[Ref, str]]


class Erase(msgspec.Struct, gc=False):
    ref: Ref


class Expire(msgspec.Struct, gc=False):
    limit: int


class Ping(msgspec.Struct, gc=False):
    pass


Write = Adding | Delivered | Erase | Expire | Ping


class _Line(msgspec.Struct, gc=False):
    """Where a ref stands."""

    n: int
    head: int | None
    head_id: str
    branch: int
    preamble: int | None
    preamble_id: bytes
    anchor: tuple[str, int] | None
    whole: bool
    expires: int | None
    hour: int | None
    replay: str
    """The key of the head's replay if it is not sticky, "" for none."""


class _Purge(msgspec.Struct):
    """Refs whose rows are to be removed, and who waits for it."""

    refs: list[int]
    job: Job[Write] | None


class _Stale(Exception):
    """Another process wrote where this one believed to know."""


_pack_replay = msgspec.msgpack.Encoder().encode


def adding(append: Append) -> Adding:
    """Raises ValueError if an id is none."""
    entry = append.entry
    id = key_of(entry.id)
    if id is None:
        raise ValueError(f"{entry.id!r} is no entry id: 32 hex digits")
    facts = entry.facts
    anchor = facts.anchor
    replay = append.replay if append.replay and (append.moves or append.replay.sticky) else None
    return Adding(
        append,
        id,
        pack(entry),
        facts.preamble,
        (anchor.key, anchor.resume) if anchor else None,
        _pack_replay(replay) if replay else None,
    )


class Writer:
    """`wrote` is told after each commit about how many bytes it has put into the log; `moved` is called when the file
    turned out to be gone; `purged` after content was removed."""

    def __init__(
        self,
        link: Link,
        now_ms: Callable[[], int],
        *,
        wrote: Callable[[int], None],
        moved: Callable[[], None],
        purged: Callable[[], None],
    ) -> None:
        self._link = link
        self._now_ms = now_ms
        self._wrote, self._moved, self._purged = wrote, moved, purged
        self._known: dict[Ref, _Line] = {}
        self._purging: deque[_Purge] = deque()
        # of the transaction that is open
        self._db: sqlite3.Connection
        self._careful = False
        self._began = False
        self._now = 0
        self._next = 0
        self._bytes = 0
        self._fresh: dict[Ref, _Line | None] = {}
        self._started: list[_Purge] = []
        self._heads: list[tuple[int, int, int | None, int, int | None, int]] = []
        self._entries: list[tuple[int, int, int | None, int, int, int, bytes, bytes, bytes, bytes]] = []
        self._digests: list[tuple[int, bytes, int]] = []
        self._replays: list[tuple[int, int, str, bool, int, bytes]] = []
        self._over: list[tuple[int, str]] = []

    def serve(self, jobs: list[Job[Write]]) -> tuple[list[Job[Write]], bool]:
        finished: list[Job[Write]] = []
        if jobs or self._purging:
            error = self._batch(jobs, finished)
            if error and self._began and jobs:
                for job in jobs:
                    # where not even a transaction begins, each further try would only take its time
                    job.error = self._batch([job], finished, careful=True) if self._began else error
            elif error:
                for job in jobs:
                    job.error = error
                finished += self._give_up(error)
        waits = {id(purge.job) for purge in self._purging}
        return finished + [job for job in jobs if id(job) not in waits], bool(self._purging)

    def finish(self) -> None:
        self._link.drop()

    def _batch(self, jobs: list[Job[Write]], finished: list[Job[Write]], careful: bool = False) -> Exception | None:
        """One transaction: all or nothing. `finished` gets the job whose removals are complete with it."""
        self._began, self._careful = False, careful
        purge = self._purging[0] if self._purging and not careful else None
        removed = False
        try:
            self._db = self._link.get()
            self._db.execute("BEGIN IMMEDIATE")
            self._began = True
            self._now = self._now_ms()
            (self._next,) = self._db.execute("SELECT coalesce(max(n), 0) + 1 FROM entries").fetchone()
            for job in jobs:
                job.answer = self._do(job)
            self._flush()
            if purge:
                removed = self._remove_some(purge.refs[-1])
            self._db.execute("COMMIT")
        except Exception as error:
            return self._failed(error)
        try:
            self._link.check()
        except StoreUnavailable as error:
            self._began = False
            return self._failed(error)
        self._keep()
        if purge and removed:
            purge.refs.pop()
            if not purge.refs:
                self._purging.popleft()
                self._purged()
                if purge.job:
                    finished.append(purge.job)
        return None

    def _failed(self, error: Exception) -> Exception:
        self._undo()
        failure = error if isinstance(error, StoreUnavailable) else schema.unavailable(error, self._link.path)
        if failure:
            self._link.drop()
            self._known.clear()
            self._moved()
        return failure or error

    def _undo(self) -> None:
        if self._link.connected and self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                # what cannot even be undone is undone by SQLite when the file is opened again
                self._link.drop()
        for ref in self._fresh:
            self._known.pop(ref, None)
        self._clear()

    def _keep(self) -> None:
        for ref, line in self._fresh.items():
            if line is None:
                self._known.pop(ref, None)
            else:
                self._known[ref] = line
        while len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._purging += self._started
        self._wrote(self._bytes)
        self._clear()

    def _clear(self) -> None:
        self._bytes = 0
        self._fresh = {}
        self._started = []
        for gathered in (self._heads, self._entries, self._digests, self._replays, self._over):
            gathered.clear()

    def _do(self, job: Job[Write]) -> object:
        match job.ask:
            case Adding():
                return self._append(job.ask)
            case Delivered(replays):
                for ref, key in replays:
                    self._deliver(ref, key)
                return None
            case Erase(ref):
                return self._erase(ref, job)
            case Expire(limit):
                return self._expire(limit, job)
            case Ping():
                self._db.execute("UPDATE meta SET value = ? WHERE key = 'ping'", (self._now,))
                return None

    def _line(self, ref: Ref) -> _Line | None:
        line = self._fresh.get(ref)
        return line if line is not None or ref in self._fresh else self._known.get(ref)

    def _append(self, adding: Adding) -> Appended | Conflict:
        append, entry = adding.append, adding.append.entry
        self._bytes += 12_000 + len(adding.row) + len(append.plan) + len(adding.replay or b"")
        expires = None if append.ttl_s is None else self._now + append.ttl_s * 1000
        line = None if self._careful else self._line(append.ref)
        if (
            line is None
            or line.head is None
            or (line.expires is not None and line.expires <= self._now)
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
        self._heads.append((n, self._now, expires, line.n, line.head, self._now))
        self._add_rows(adding, n, line.n, line.branch, line.whole)
        if line.replay:
            self._over.append((line.head, line.replay))
        self._fresh[append.ref] = _Line(
            line.n,
            n,
            entry.id,
            line.branch,
            line.preamble,
            line.preamble_id,
            line.anchor,
            line.whole,
            expires,
            line.hour,
            replay.key if replay and not replay.sticky else "",
        )
        return Appended()

    def _add_rows(self, adding: Adding, n: int, ref: int, branch: int | None, whole: bool) -> None:
        append, entry = adding.append, adding.append.entry
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
        if whole and branch is not None:
            self._digests.append((ref, entry.digest, n))
        if append.replay and adding.replay is not None:
            self._replays.append((n, ref, append.replay.key, append.replay.sticky, self._now, adding.replay))

    def _flush(self) -> None:
        """Writes what was gathered: many rows in one call each."""
        run = self._db.executemany
        if self._heads:
            changed = run(
                "UPDATE refs SET head = ?, updated = ?, expires = ?"
                " WHERE n = ? AND head = ? AND (expires IS NULL OR expires > ?)",
                self._heads,
            ).rowcount
            if changed != len(self._heads):
                raise _Stale
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
        if self._over:
            run("DELETE FROM replays WHERE n = ? AND key = ? AND NOT sticky", self._over)
            self._over.clear()

    def _look(self, ref: Ref) -> _Line | None:
        """Where the file says that the ref stands. A ref whose time is over is cleared away."""
        self._flush()
        found = self._db.execute(
            "SELECT r.n, r.head, h.id, h.branch, r.preamble, p.id, r.anchor, r.resume, r.whole, r.expires, r.hour, l.key"
            " FROM refs r LEFT JOIN entries h ON h.n = r.head LEFT JOIN preambles p ON p.n = r.preamble"
            " LEFT JOIN replays l ON l.n = r.head AND NOT l.sticky"
            " WHERE r.tenant = ? AND r.kind = ? AND r.name = ?",
            (ref.tenant, ref.kind, ref.name),
        ).fetchone()
        if found is None:
            return None
        n, head, id, branch, preamble, preamble_id, anchor, resume, whole, expires, hour, key = found
        if expires is not None and expires <= self._now:
            self._bury(n)
            self._fresh[ref] = None
            self._started.append(_Purge([n], None))
            return None
        return _Line(
            n,
            head,
            id.hex() if id else "",
            branch or 0,
            preamble,
            preamble_id or b"",
            None if anchor is None else (anchor, resume),
            bool(whole),
            expires,
            hour,
            key or "",
        )

    def _append_with_a_look(self, adding: Adding, expires: int | None) -> Appended | Conflict:
        append, entry = adding.append, adding.append.entry
        line = self._look(append.ref)
        if line and self._db.execute("SELECT 1 FROM entries WHERE id = ? AND ref = ?", (adding.id, line.n)).fetchone():
            self._fresh[append.ref] = line
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
        line.expires, line.hour = expires, hour
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
        self._fresh[append.ref] = line
        return Appended()

    def _new(self, ref: Ref) -> _Line:
        n = self._db.execute(
            "INSERT INTO refs (tenant, kind, name, whole, created, updated) VALUES (?, ?, ?, 0, ?, ?)",
            (ref.tenant, ref.kind, ref.name, self._now, self._now),
        ).lastrowid
        assert n is not None
        return _Line(n, None, "", 0, None, b"", None, False, None, None, "")

    def _parent(self, line: _Line, id: str) -> tuple[int, int] | None:
        """The parent's branch and position; None if it is not on a branch of the ref."""
        key = key_of(id)
        found = key and self._db.execute(
            "SELECT branch, upto FROM entries WHERE id = ? AND ref = ? AND branch IS NOT NULL", (key, line.n)
        ).fetchone()
        return found or None

    def _branch(self, line: _Line, parent: tuple[int, int], n: int) -> int:
        """The branch that entry `n` is on: its parent's if that ends there, else a new one that leaves it."""
        branch, upto = parent
        if not self._db.execute(
            "SELECT 1 FROM entries WHERE ref = ? AND branch = ? AND upto > ? LIMIT 1", (line.n, branch, upto)
        ).fetchone():
            return branch
        self._db.execute("INSERT INTO branches VALUES (?, ?, ?)", (n, branch, upto))
        return n

    def _keep_preamble(self, line: _Line, adding: Adding) -> int | None:
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

    def _deliver(self, ref: Ref, key: str) -> None:
        line = self._line(ref) or self._look(ref)
        if line and line.head is not None and line.replay == key:
            self._over.append((line.head, key))
            self._fresh[ref] = msgspec.structs.replace(line, replay="")

    def _erase(self, ref: Ref, job: Job[Write]) -> bool:
        line = self._look(ref)
        if line is None:
            return False
        self._bury(line.n)
        self._fresh[ref] = None
        self._started.append(_Purge([line.n], job))
        return True

    def _expire(self, limit: int, job: Job[Write]) -> int:
        self._flush()
        under_way = {n for purge in (*self._purging, *self._started) for n in purge.refs}
        refs = [
            n
            for (n,) in self._db.execute(
                "SELECT n FROM refs WHERE hour <= ? AND expires <= ? ORDER BY hour LIMIT ?",
                (self._now // HOUR_MS, self._now, limit + len(under_way)),
            )
            if n not in under_way
        ][:limit]
        for n in refs:
            self._bury(n)
        if refs:
            self._started.append(_Purge(refs.copy(), job))
        replays = self._db.execute(
            "DELETE FROM replays WHERE n IN (SELECT n FROM replays WHERE sticky AND at <= ? LIMIT ?)",
            (self._now - STICKY_MS, limit - len(refs)),
        ).rowcount
        return len(refs) + replays

    def _bury(self, n: int) -> None:
        """From here on the ref is unknown, whatever happens to this process; its rows are removed in steps."""
        self._db.execute("DELETE FROM replays WHERE n = (SELECT head FROM refs WHERE n = ?)", (n,))
        self._db.execute("DELETE FROM replays WHERE ref = ? AND sticky", (n,))
        self._db.execute(
            "UPDATE refs SET tenant = '', kind = '', name = n, head = NULL, preamble = NULL, anchor = NULL, expires = 0,"
            " hour = 0 WHERE n = ?",
            (n,),
        )

    def _remove_some(self, ref: int) -> bool:
        """Removes some of a buried ref's rows; True if these were the last."""
        rows = self._db.execute("SELECT n, digest FROM entries WHERE ref = ? LIMIT ?", (ref, ROWS_A_STEP)).fetchall()
        numbers = [(n,) for n, _ in rows]
        run = self._db.executemany
        run("DELETE FROM digests WHERE ref = ? AND digest = ? AND n = ?", [(ref, digest, n) for n, digest in rows])
        run("DELETE FROM branches WHERE n = ?", numbers)
        run("DELETE FROM entries WHERE n = ?", numbers)
        self._bytes += 8192 * len(rows)
        if len(rows) == ROWS_A_STEP:
            return False
        self._db.execute("DELETE FROM preambles WHERE ref = ?", (ref,))
        self._db.execute("DELETE FROM refs WHERE n = ?", (ref,))
        return True

    def _give_up(self, error: Exception) -> list[Job[Write]]:
        """Nobody waits for removals on a disk that fails: the refs are buried, and the sweep finds them again."""
        waiting = [purge.job for purge in self._purging if purge.job]
        self._purging.clear()
        for job in waiting:
            job.error = error
        return waiting
