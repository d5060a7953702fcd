"""What is kept about refs themselves, and its listing."""
# ruff: noqa: S608 - statements are put together from what stands in this file; every value is bound

import sqlite3

from proxy.stores.contract import Label, Ref
from proxy.stores.sqlite.rows import REF

_LINE = """
SELECT l.name, l.label, l.created FROM labels l CROSS JOIN refs r ON r.n = l.n
WHERE l.tenant = ? AND l.kind = ? AND (l.created, l.name) {behind} (?, ?) AND (r.expires IS NULL OR r.expires > ?)
ORDER BY l.created {order}, l.name {order} LIMIT ?"""
_OLDEST_FIRST = _LINE.format(behind=">", order="ASC")
_NEWEST_FIRST = _LINE.format(behind="<", order="DESC")
_FIRST = -1
_LAST = 1 << 62


def put(db: sqlite3.Connection, ref: int, label: bytes) -> None:
    """Called in the writer's thread, inside a transaction."""
    db.execute(
        "INSERT INTO labels SELECT n, tenant, kind, created, name, ? FROM refs WHERE n = ?"
        " ON CONFLICT DO UPDATE SET label = excluded.label",
        (label, ref),
    )


def labelled(db: sqlite3.Connection, now: int, ref: Ref) -> Label | None:
    """See `Store.labelled`."""
    found = db.execute(
        f"SELECT coalesce(l.label, x''), r.created FROM refs r LEFT JOIN labels l ON l.n = r.n WHERE {REF}",
        (ref.tenant, ref.kind, ref.name, now),
    ).fetchone()
    return Label(ref, *found) if found else None


def labels(
    db: sqlite3.Connection, now: int, *, tenant: str, kind: str, after: str | None, most: int, newest_first: bool
) -> list[Label]:
    """See `Store.labels`."""
    created = _LAST if newest_first else _FIRST
    if after is not None:
        found = labelled(db, now, Ref(tenant, kind, after))
        if found is None:
            return []
        created = found.created_ms
    rows = db.execute(_NEWEST_FIRST if newest_first else _OLDEST_FIRST, (tenant, kind, created, after or "", now, most))
    return [Label(Ref(tenant, kind, name.decode()), label, made) for name, label, made in rows.fetchall()]
