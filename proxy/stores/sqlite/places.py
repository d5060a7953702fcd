"""Lines for refs. Each step is atomic by its transaction; a place that lapsed counts as gone before it is removed."""
# ruff: noqa: S608 - statements are put together from what stands in this file; every value is bound

import sqlite3
from collections.abc import Sequence

from proxy.stores.contract import Place, Ref
from proxy.stores.sqlite.asks import LineUp

_LINE = "tenant = ? AND kind = ? AND name = ?"
_ALL = f"SELECT n, holder, until FROM places WHERE {_LINE} ORDER BY n"
_FIRST = f"SELECT holder FROM places WHERE {_LINE} AND until > ? ORDER BY n LIMIT 1"
_LAPSED = f"DELETE FROM places WHERE {_LINE} AND until <= ?"
_KEEP = f"UPDATE places SET until = ? WHERE {_LINE} AND n = ?"
_LEAVE = f"DELETE FROM places WHERE {_LINE} AND holder = ?"


def line_up(db: sqlite3.Connection, now: int, ask: LineUp) -> Place:
    """See `Store.line_up`."""
    of = ask.ref.tenant, ask.ref.kind, ask.ref.name
    found = db.execute(_ALL, of).fetchall()
    line = [(n, holder) for n, holder, until in found if until > now]
    if len(line) < len(found):
        db.execute(_LAPSED, (*of, now))
    until = now + ask.keep_ms
    for ahead, (n, holder) in enumerate(line):
        if holder == ask.holder:
            db.execute(_KEEP, (until, *of, n))
            return Place(ahead, kept=True)
    if line and not ask.wait:
        return Place(len(line), kept=False)
    db.execute("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?)", (*of, line[-1][0] + 1 if line else 1, until, ask.holder))
    return Place(len(line), kept=True)


def step_out(db: sqlite3.Connection, ref: Ref, holder: str) -> None:
    db.execute(_LEAVE, (ref.tenant, ref.kind, ref.name, holder))


def first(db: sqlite3.Connection, now: int, ref: Ref) -> str | None:
    """Whose turn it is; None: nobody is in the line."""
    found = db.execute(_FIRST, (ref.tenant, ref.kind, ref.name, now)).fetchone()
    return found and str(found[0])


def firsts(db: sqlite3.Connection, now: int, *, refs: Sequence[Ref]) -> list[str | None]:
    """For each of the refs whose turn it is. On the reader's connection, which fetches text as bytes."""
    rows = (db.execute(_FIRST, (ref.tenant, ref.kind, ref.name, now)).fetchone() for ref in refs)
    return [row and row[0].decode() for row in rows]


def sweep(db: sqlite3.Connection, now: int) -> None:
    """Removes the places that lapsed."""
    db.execute("DELETE FROM places WHERE until <= ?", (now,))
