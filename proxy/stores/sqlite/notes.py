"""Notes on entries, and entries found by their ids alone."""

import sqlite3

from proxy.conversation.entry import Entry
from proxy.stores.contract import Noted, Ref, tag
from proxy.stores.sqlite.rows import key_of, unpack_one

_FIND = """
SELECT r.kind, r.name, e.row, coalesce(o.note, x'') FROM entries e JOIN refs r ON r.n = e.ref
LEFT JOIN notes o ON o.n = e.n
WHERE e.id = ? AND r.tenant = ? AND (r.expires IS NULL OR r.expires > ?)"""

_ENTRY = """
SELECT e.n, e.ref FROM refs r JOIN entries e ON e.ref = r.n AND e.id = ?
WHERE r.tenant = ? AND r.kind = ? AND r.name = ? AND (r.expires IS NULL OR r.expires > ?)"""


def find(db: sqlite3.Connection, now: int, tenant: str, tag_: str, entry: str) -> Noted | None:
    """See `Store.find`. An id stands on more than one ref only where a session was imported twice."""
    for kind, name, row, note in db.execute(_FIND, (key_of(entry), tenant, now)).fetchall():
        ref = Ref(tenant, kind.decode(), name.decode())
        if tag(ref) == tag_:
            return Noted(ref, unpack_one(row), note)
    return None


def note_of(db: sqlite3.Connection, ref: int, entry: Entry) -> bytes:
    """b"" for an entry without one."""
    found = db.execute(
        "SELECT o.note FROM entries e JOIN notes o ON o.n = e.n WHERE e.id = ? AND e.ref = ?", (key_of(entry.id), ref)
    ).fetchone()
    return bytes(found[0]) if found else b""


def annotate(db: sqlite3.Connection, now: int, ref: Ref, entry: bytes | None, note: bytes) -> bool:
    """See `Store.annotate`."""
    found = entry and db.execute(_ENTRY, (entry, ref.tenant, ref.kind, ref.name, now)).fetchone()
    if not found:
        return False
    if note:
        db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (*found, note))
    else:
        db.execute("DELETE FROM notes WHERE n = ?", found[:1])
    return True
