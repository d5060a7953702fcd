"""What a store holds, for listing and for export: refs, and everything that is kept about each entry."""
# ruff: noqa: S608 - statements are put together from what stands in this file; every value is bound

import sqlite3
from array import array

from proxy.conversation.entry import Entry, Preamble
from proxy.stores.contract import Record, Ref, RefInfo
from proxy.stores.sqlite.rows import REF, unpack_one


def refs(
    db: sqlite3.Connection, now: int, *, tenant: str | None, name: str | None, after: Ref, most: int
) -> list[RefInfo]:
    """The next `most` sessions behind `after`."""
    # the plus keeps the statement on the index's order: it would sort what is left for each page
    behind = "(r.tenant, r.kind, r.name) > (?2, ?3, ?4) AND +r.kind = 'session'"
    if tenant is not None:
        behind = "r.tenant = ?1 AND r.kind = 'session' AND r.name > ?4"
    found = db.execute(
        "SELECT r.tenant, r.name, h.id, h.turn, h.upto, h.tokens_upto, r.created, r.updated, r.expires"
        f" FROM refs r LEFT JOIN entries h ON h.n = r.head WHERE {behind}"
        " AND (?5 IS NULL OR r.name = ?5) AND (r.expires IS NULL OR r.expires > ?6)"
        " ORDER BY r.tenant, r.kind, r.name LIMIT ?7",
        (tenant, after.tenant, after.kind, after.name, name, now, most),
    ).fetchall()
    return [
        RefInfo(
            ref=Ref(tenant.decode(), "session", name.decode()),
            head=id.hex() if id else "",
            turns=turn or 0,
            messages=upto or 0,
            tokens=tokens or 0,
            created_ms=created,
            updated_ms=updated,
            expires_ms=expires,
        )
        for tenant, name, id, turn, upto, tokens, created, updated, expires in found
    ]


def numbers(db: sqlite3.Connection, now: int, ref: Ref) -> "tuple[int, array[int]]":
    """The ref's own number and those of its entries, in the order in which they were appended."""
    found = db.execute(f"SELECT r.n FROM refs r WHERE {REF}", (ref.tenant, ref.kind, ref.name, now)).fetchone()
    if found is None:
        return 0, array("q")
    entries = db.execute("SELECT n FROM entries WHERE ref = ? ORDER BY n", found)
    return found[0], array("q", [n for (n,) in entries])


def records(db: sqlite3.Connection, now: int, *, ref: int, numbers: "array[int]") -> "list[Record]":
    """Those of the entries that are still there."""
    if not db.execute("SELECT 1 FROM refs WHERE n = ? AND (expires IS NULL OR expires > ?)", (ref, now)).fetchone():
        return []
    preambles: dict[bytes, Preamble | None] = {}
    records = []
    for n in numbers:
        found = db.execute("SELECT row, plan FROM entries WHERE n = ? AND ref = ?", (n, ref)).fetchone()
        if found is None:
            continue
        entry = unpack_one(found[0])
        id = entry.facts.preamble
        if id not in preambles:
            preambles[id] = preamble_of(db, ref, entry)
        records.append(Record(entry, found[1], preambles[id]))
    return records


def preamble_of(db: sqlite3.Connection, ref: int, entry: Entry) -> Preamble | None:
    id = entry.facts.preamble
    found = id and db.execute("SELECT wire, tokens FROM preambles WHERE ref = ? AND id = ?", (ref, id)).fetchone()
    return Preamble(*found) if found else None
