"""The file: its tables as a numbered list of steps, how it is opened, and what its errors mean to who reads a log."""

import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from proxy.errors import SettingsError, StoreUnavailable

APPLICATION_ID = 0x52656D6F  # "Remo"
BUSY_S = 10.0

MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
    INSERT INTO meta VALUES ('secret', randomblob(32)), ('ping', 0);

    -- n is never used twice: a ref that was erased and made anew is another ref.
    -- An erased one waits without its name, its time over, until all its rows are gone.
    CREATE TABLE refs (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
        head INTEGER,                       -- entries.n
        preamble INTEGER,                   -- preambles.n, in force at the head
        anchor TEXT, resume INTEGER,        -- of the head
        whole INTEGER NOT NULL,
        created INTEGER NOT NULL, updated INTEGER NOT NULL, expires INTEGER,
        hour INTEGER,                       -- of expires, rounded down; indexed, so written once an hour, not each turn
        UNIQUE (tenant, kind, name)
    );
    CREATE INDEX refs_hour ON refs (hour) WHERE hour IS NOT NULL;

    -- A branch is a run of entries, each the child of the one before, named by its first entry's n.
    CREATE TABLE entries (
        n INTEGER PRIMARY KEY,
        ref INTEGER NOT NULL,
        branch INTEGER,                     -- NULL: a failed exchange, on no branch
        upto INTEGER NOT NULL, tokens_upto INTEGER NOT NULL, turn INTEGER NOT NULL,
        id BLOB NOT NULL, digest BLOB NOT NULL,
        row BLOB NOT NULL,                  -- the whole entry, see rows.py
        plan BLOB NOT NULL
    );
    CREATE UNIQUE INDEX entries_id ON entries (id, ref);      -- ids begin with the time, so it grows at its end
    CREATE INDEX entries_chain ON entries (ref, branch, upto, turn);

    -- Where a branch leaves another; a branch that starts at a root has no row.
    CREATE TABLE branches (n INTEGER PRIMARY KEY, parent INTEGER NOT NULL, at INTEGER NOT NULL);

    -- Only of refs whose clients send their whole history: nobody else asks for them.
    CREATE TABLE digests (ref INTEGER, digest BLOB, n INTEGER, PRIMARY KEY (ref, digest, n)) WITHOUT ROWID;

    CREATE TABLE preambles (
        n INTEGER PRIMARY KEY, ref INTEGER NOT NULL, id BLOB NOT NULL, wire BLOB NOT NULL, tokens INTEGER NOT NULL,
        UNIQUE (ref, id)
    );

    -- n is the entry's. Those that are not sticky live for moments, so the table stays small.
    CREATE TABLE replays (
        n INTEGER PRIMARY KEY, ref INTEGER NOT NULL, key TEXT NOT NULL, sticky INTEGER NOT NULL, at INTEGER NOT NULL,
        row BLOB NOT NULL
    );
    CREATE INDEX replays_sticky ON replays (ref, key) WHERE sticky;
    CREATE INDEX replays_at ON replays (at) WHERE sticky;
    """,
    """
    CREATE TABLE summaries (
        n INTEGER PRIMARY KEY, ref INTEGER NOT NULL, id BLOB NOT NULL, upto INTEGER NOT NULL,
        row BLOB NOT NULL,                  -- the whole summary, see rows.py
        UNIQUE (ref, id)
    );
    ALTER TABLE refs ADD COLUMN summary INTEGER;    -- summaries.n of the newest, of whichever branch

    -- Which entries have words (model '') or vectors. words: of the chain up to and with this entry.
    CREATE TABLE indexed (
        ref INTEGER, branch INTEGER, model TEXT, upto INTEGER, words INTEGER NOT NULL,
        PRIMARY KEY (ref, branch, model, upto)
    ) WITHOUT ROWID;

    -- A ref's messages are numbered in the order in which they are indexed, whatever their branches.
    -- A run is a row of them that lie one behind the other: number start + i is position first + i on the branch.
    CREATE TABLE runs (
        ref INTEGER, start INTEGER, branch INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (ref, start)
    ) WITHOUT ROWID;

    -- The words of one entry each, freshly indexed. pairs: a term of 8 bytes and a posting of 8 bytes, which is that of
    -- the contract with the message's number in place of its position.
    CREATE TABLE bags (n INTEGER PRIMARY KEY, ref INTEGER NOT NULL, start INTEGER NOT NULL, pairs BLOB NOT NULL);
    CREATE INDEX bags_ref ON bags (ref);

    -- Bags merged, and parts merged: level n is made of level n - 1. A part has 2 ** bits buckets, named by the first
    -- bits of the terms in them. One that is being made holds the terms whose first 32 bits are below done; the others
    -- are still in those that it is made of, which lie between its first and upto.
    CREATE TABLE parts (
        n INTEGER PRIMARY KEY, ref INTEGER NOT NULL, first INTEGER NOT NULL, upto INTEGER NOT NULL,
        level INTEGER NOT NULL, postings INTEGER NOT NULL, bits INTEGER NOT NULL, done INTEGER
    );
    CREATE INDEX parts_ref ON parts (ref, first);
    -- n: the part's, 24 bits to the left, and the bucket's.
    CREATE TABLE buckets (n INTEGER PRIMARY KEY, pairs BLOB NOT NULL);

    -- Of one entry each.
    CREATE TABLE vectors (
        n INTEGER PRIMARY KEY, ref INTEGER NOT NULL, branch INTEGER NOT NULL, model TEXT NOT NULL,
        upto INTEGER NOT NULL, positions BLOB NOT NULL, matrix BLOB NOT NULL
    );
    CREATE INDEX vectors_chain ON vectors (ref, branch, model, upto);
    """,
    """
    -- n is the entry's.
    CREATE TABLE notes (n INTEGER PRIMARY KEY, ref INTEGER NOT NULL, note BLOB NOT NULL);
    CREATE INDEX notes_ref ON notes (ref);
    """,
    """
    -- How often something was erased of the ref's entries: what was read of it under another one is not true any more.
    ALTER TABLE refs ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
    -- Another text stands here than the one that the id was made of.
    ALTER TABLE preambles ADD COLUMN redacted INTEGER NOT NULL DEFAULT 0;

    -- n is the ref's; what finds and orders it is repeated here, for the index.
    CREATE TABLE labels (
        n INTEGER PRIMARY KEY, tenant TEXT NOT NULL, kind TEXT NOT NULL, created INTEGER NOT NULL, name TEXT NOT NULL,
        label BLOB NOT NULL
    );
    CREATE INDEX labels_order ON labels (tenant, kind, created, name);

    -- What the contract calls runs. n is never used twice: the rows of a log are named by it.
    CREATE TABLE responses (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        ref INTEGER NOT NULL,
        id BLOB,                            -- of the entry that it may become; NULL: its rows are being removed
        ended INTEGER NOT NULL, cancelled INTEGER NOT NULL,
        keep INTEGER NOT NULL,              -- 0, once it has ended: it goes with its log
        beat INTEGER NOT NULL,
        until INTEGER,                      -- when its log is kept no longer; NULL: it has not ended, or there is none
        events INTEGER NOT NULL,
        owner BLOB NOT NULL, state BLOB NOT NULL
    );
    CREATE UNIQUE INDEX responses_id ON responses (id, ref);
    CREATE INDEX responses_ref ON responses (ref);
    CREATE INDEX responses_going ON responses (n) WHERE NOT ended;
    CREATE INDEX responses_until ON responses (until) WHERE until IS NOT NULL;
    -- Events that came together. n: the response's, 32 bits to the left, and the number of the first of them.
    CREATE TABLE events (n INTEGER PRIMARY KEY, chunk BLOB NOT NULL);
    """,
    """
    -- The lines for refs, which need not exist; n orders each of them. Few rows: a place is kept for seconds.
    CREATE TABLE places (
        tenant TEXT, kind TEXT, name TEXT, n INTEGER,
        until INTEGER NOT NULL,
        holder TEXT NOT NULL,
        PRIMARY KEY (tenant, kind, name, n)
    ) WITHOUT ROWID;
    """,
    """
    -- The postings of a term that a part holds often; its bucket says how many. See merge.py.
    CREATE TABLE common (
        part INTEGER, term BLOB, docs BLOB NOT NULL, PRIMARY KEY (part, term)
    ) WITHOUT ROWID;
    """,
)


def connect(path: str, *, synchronous: str = "full", create: bool = False) -> sqlite3.Connection:
    """A connection to be used by one thread at a time, in autocommit. The file must exist, unless `create`."""
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode={'rwc' if create else 'rw'}",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA cache_size = -16000")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(path: str) -> bytes:
    """Makes the file if there is none, and brings it up to date; the store's secret. Any number of processes may do
    so at once. Raises SettingsError in one line."""
    _make(path)
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection = connect(path, create=True)
            try:
                return _migrate(connection, path)
            finally:
                connection.close()
        except sqlite3.Error as error:
            # the switch to WAL does not wait for other processes as statements do
            if _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > deadline:
                raise SettingsError(f"store: {_meaning(error, path) or f'{path}: {error}'}") from error
            time.sleep(0.01)


def _make(path: str) -> None:
    """Nobody but this user shall read conversations; SQLite gives its two other files the same rights. A file that is
    there is not touched: to close it here would undo the locks that SQLite holds on it in this process."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        folder = Path(path).absolute().parent
        if not folder.is_dir():
            raise SettingsError(f"store: there is no folder {folder}; make it, or name another file") from None
        why = f"cannot be made ({error.strerror}); set the folder's rights"
        raise SettingsError(f"store: {path} {why}, or name another file") from None


def _migrate(connection: sqlite3.Connection, path: str) -> bytes:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise SettingsError(f"store: the file system of {path} cannot share a SQLite log (WAL); use a local disk")
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        _check(path, version, foreign=application != APPLICATION_ID and bool(tables))
        for step in MIGRATIONS[version:]:
            for statement in _statements(step):
                connection.execute(statement)
        if version < len(MIGRATIONS):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        secret = read_secret(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return secret


def _check(path: str, version: int, *, foreign: bool) -> None:
    if foreign:
        raise SettingsError(f"store: {path} is a database of another program; name another file")
    if version > len(MIGRATIONS):
        made = f"was made by a newer Remora (schema {version}, this one knows {len(MIGRATIONS)})"
        raise SettingsError(f"store: {path} {made}; update Remora, or name another file")


def read_secret(connection: sqlite3.Connection) -> bytes:
    (secret,) = connection.execute("SELECT value FROM meta WHERE key = 'secret'").fetchone()
    return bytes(secret)


def _statements(step: str) -> list[str]:
    # executescript would commit the transaction that keeps other processes out
    found, start = [], 0
    for at, letter in enumerate(step):
        if letter == ";" and sqlite3.complete_statement(step[start : at + 1]):
            found.append(step[start : at + 1])
            start = at + 1
    return found


def _code(error: sqlite3.Error) -> int:
    """The primary code; SQLITE_ERROR for what the module itself raised."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def unavailable(error: Exception, path: str) -> StoreUnavailable | None:
    """The storage failure that `error` tells of; None if it tells of a mistake in this program."""
    meaning = _meaning(error, path) if isinstance(error, sqlite3.Error) else None
    return StoreUnavailable(meaning) if meaning else None


def _meaning(error: sqlite3.Error, path: str) -> str | None:
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return f"The disk that holds {path} is full; free some space on it."
        case sqlite3.SQLITE_IOERR:
            return f"The disk that holds {path} fails or is full ({error}); check it."
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return f"Another program holds {path} for longer than {BUSY_S:.0f} s; end it."
        case sqlite3.SQLITE_CANTOPEN:
            return f"{path} cannot be opened; check that it is there and that its rights allow it."
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return f"{path} is read-only; give write permission for the file and its folder."
        case sqlite3.SQLITE_NOTADB:
            return f"{path} is not a SQLite database; name another file."
        case sqlite3.SQLITE_CORRUPT:
            return f"{path} is damaged; put a backup in its place."
        case _:
            return None
