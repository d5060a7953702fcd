"""Rows as this store keeps and joins them, and how a ref is found."""

from proxy.conversation.entry import Entry
from proxy.stores.rows import key_of, pack, pack_summary, unpack_all, unpack_one, unpack_summary

__all__ = ["REF", "RUN", "key_of", "pack", "pack_summary", "unpack", "unpack_one", "unpack_summary"]

RUN = "count(*) || ':' || coalesce(group_concat(e.row, ''), '')"
"""Joined in SQL, because each row that Python fetches lets go of the interpreter lock and has to win it back. SQLite
joins blobs as bytes, whatever they hold, and the reader's connection fetches text as bytes."""

REF = "r.tenant = ? AND r.kind = ? AND r.name = ? AND (r.expires IS NULL OR r.expires > ?)"
"""The condition that finds a ref `r` that is not over: its tenant, kind and name, and the time."""


def unpack(run: bytes) -> list[Entry]:
    """`run` is `RUN` of some rows: their number, a colon, their blobs joined by nothing."""
    count, _, blobs = run.partition(b":")
    return unpack_all(int(count or b"0"), blobs)
