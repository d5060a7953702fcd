"""How what is erased goes: at once it is unknown, then its rows are removed in steps, each in a transaction of its own.

What waits has a number: a ref's, or that of a response (a run) as a negative one. It is marked in the file, so the
sweep finds what a process that died left.
"""

import sqlite3

from proxy.stores.contract import STICKY_MS
from proxy.stores.sqlite import index

ROWS_A_STEP = 128
"""Entries that are removed in one transaction: an erasure must not hold appends up."""
CHUNKS_A_STEP = 200
HOUR_MS = 3_600_000
LOG = 32
"""The number of a row of a log: its response's, so many bits to the left, and that of its first event."""


def bury(db: sqlite3.Connection, n: int) -> None:
    """From here on the ref is unknown, whatever happens to this process."""
    db.execute("DELETE FROM replays WHERE n = (SELECT head FROM refs WHERE n = ?)", (n,))
    db.execute("DELETE FROM replays WHERE ref = ? AND sticky", (n,))
    db.execute("DELETE FROM labels WHERE n = ?", (n,))
    db.execute(
        "UPDATE refs SET tenant = '', kind = '', name = n, head = NULL, preamble = NULL, anchor = NULL,"
        " summary = NULL,"
        " expires = 0, hour = 0 WHERE n = ?",
        (n,),
    )


def bury_index(db: sqlite3.Connection, ref: int) -> int:
    """Nothing of the ref is indexed from here on. Its index belongs to a buried ref now, whose number this returns."""
    (ghost,) = db.execute(
        "INSERT INTO refs (tenant, kind, name, whole, created, updated, expires, hour)"
        " VALUES ('', '', hex(randomblob(16)), 0, 0, 0, 0, 0) RETURNING n"
    ).fetchone()
    for table in ("parts", "bags", "vectors"):
        db.execute(f"UPDATE {table} SET ref = ? WHERE ref = ?", (ghost, ref))  # noqa: S608 - three names
    # small rows, needed at once by what is indexed next
    db.execute("DELETE FROM indexed WHERE ref = ?", (ref,))
    db.execute("DELETE FROM runs WHERE ref = ?", (ref,))
    return int(ghost)


def bury_response(db: sqlite3.Connection, n: int) -> int:
    """From here on the run is unknown; returns the number under which it waits."""
    db.execute("UPDATE responses SET id = NULL, ended = 1, keep = 0, until = 0, state = x'' WHERE n = ?", (n,))
    return -n


def remove_some(db: sqlite3.Connection, number: int) -> tuple[bool, int]:
    """(these were the last rows of what has this number, about how many bytes that puts into the log)."""
    if number < 0:
        return _remove_log(db, -number), 1_000_000
    if not index.remove_some(db, number):
        return False, 1_000_000
    response = db.execute("SELECT n FROM responses WHERE ref = ? LIMIT 1", (number,)).fetchone()
    if response:
        if _remove_chunks(db, response[0]):
            db.execute("DELETE FROM responses WHERE n = ?", response)
        return False, 1_000_000
    rows = db.execute("SELECT n, digest FROM entries WHERE ref = ? LIMIT ?", (number, ROWS_A_STEP)).fetchall()
    numbers = [(n,) for n, _ in rows]
    run = db.executemany
    run("DELETE FROM digests WHERE ref = ? AND digest = ? AND n = ?", [(number, digest, n) for n, digest in rows])
    run("DELETE FROM branches WHERE n = ?", numbers)
    run("DELETE FROM entries WHERE n = ?", numbers)
    if len(rows) < ROWS_A_STEP:
        db.execute("DELETE FROM preambles WHERE ref = ?", (number,))
        db.execute("DELETE FROM refs WHERE n = ?", (number,))
    return len(rows) < ROWS_A_STEP, 8192 * len(rows)


def _remove_log(db: sqlite3.Connection, response: int) -> bool:
    if not _remove_chunks(db, response):
        return False
    if not db.execute("DELETE FROM responses WHERE n = ? AND NOT keep", (response,)).rowcount:
        db.execute("UPDATE responses SET until = NULL WHERE n = ?", (response,))
    return True


def _remove_chunks(db: sqlite3.Connection, response: int) -> bool:
    """True if these were the last."""
    removed = db.execute(
        "DELETE FROM events WHERE n IN (SELECT n FROM events WHERE n >= ? AND n < ? LIMIT ?)",
        (response << LOG, response + 1 << LOG, CHUNKS_A_STEP),
    ).rowcount
    return removed < CHUNKS_A_STEP


def expire(db: sqlite3.Connection, now: int, limit: int, under_way: set[int]) -> tuple[int, list[int]]:
    """What has outlived its time, up to `limit`, except that whose rows are being removed: (how much it is, the numbers
    of those whose rows are to be removed)."""
    found = db.execute(
        "SELECT n FROM refs WHERE hour <= ? AND expires <= ? ORDER BY hour LIMIT ?",
        (now // HOUR_MS, now, limit + len(under_way)),
    ).fetchall()
    over = [n for (n,) in found if n not in under_way][:limit]
    for n in over:
        bury(db, n)
    replays = db.execute(
        "DELETE FROM replays WHERE n IN (SELECT n FROM replays WHERE sticky AND at <= ? LIMIT ?)",
        (now - STICKY_MS, limit - len(over)),
    ).rowcount
    logs = db.execute(
        "SELECT s.n FROM responses s JOIN refs r ON r.n = s.ref WHERE s.until <= ? AND r.kind <> '' LIMIT ?",
        (now, limit - len(over) - replays + len(under_way)),
    ).fetchall()
    silent = [-n for (n,) in logs if -n not in under_way][: limit - len(over) - replays]
    return len(over) + replays + len(silent), over + silent
