"""Responses that are still being made (the table `responses`; `runs` is one of the index), and their logs."""
# ruff: noqa: S608 - statements are put together from what stands in this file; every value is bound

import sqlite3
from collections.abc import Sequence

import msgspec

from proxy.stores.contract import Ref, Run, tag
from proxy.stores.sqlite.asks import BeginRun, LogRun
from proxy.stores.sqlite.removal import LOG, bury_response
from proxy.stores.sqlite.rows import REF, key_of

_THERE = "(s.keep OR s.until IS NULL OR s.until > ?)"
"""The run is not over: it goes with its log, whether or not that was swept."""
_SHOWN = "s.id, s.owner, s.state, s.ended, s.cancelled, s.beat, s.events"

_OF = f"SELECT s.n, {_SHOWN} FROM refs r JOIN responses s ON s.ref = r.n AND s.id = ? WHERE {REF} AND {_THERE}"
_FIND = f"""
SELECT r.kind, r.name, {_SHOWN} FROM responses s JOIN refs r ON r.n = s.ref
WHERE s.id = ? AND r.tenant = ? AND (r.expires IS NULL OR r.expires > ?) AND {_THERE}"""
_STALE = f"""
SELECT r.tenant, r.kind, r.name, {_SHOWN} FROM responses s CROSS JOIN refs r ON r.n = s.ref
WHERE NOT s.ended AND s.beat <= ? AND (r.expires IS NULL OR r.expires > ?) LIMIT ?"""
_CHUNKS = f"""
SELECT e.n - (s.n << {LOG}), e.chunk FROM refs r JOIN responses s ON s.ref = r.n AND s.id = ?
CROSS JOIN events e ON e.n < s.n + 1 << {LOG} AND e.n >= coalesce(
    (SELECT max(n) FROM events WHERE n >= s.n << {LOG} AND n <= (s.n << {LOG}) + ?), s.n << {LOG})
WHERE {REF} AND (s.until IS NULL OR s.until > ?) ORDER BY e.n LIMIT ?"""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[bytes]).decode

_Shown = tuple[bytes, bytes, bytes, int, int, int, int]


def _run(ref: Ref, shown: _Shown) -> Run:
    id, owner, state, ended, cancelled, beat, events = shown
    return Run(
        ref=ref,
        entry=id.hex(),
        owner=owner.decode(),
        state=state,
        ended=bool(ended),
        cancelled=bool(cancelled),
        beat_ms=beat,
        events=events,
    )


def _of(db: sqlite3.Connection, now: int, ref: Ref, entry: bytes | None) -> tuple[int, Run] | None:
    found = entry and db.execute(_OF, (entry, ref.tenant, ref.kind, ref.name, now, now)).fetchone()
    return (found[0], _run(ref, found[1:])) if found else None


def begin(db: sqlite3.Connection, now: int, ref: int, ask: BeginRun) -> tuple[bool, list[int]]:
    """In the ref of this number: (whether it was begun, the numbers of what is to be removed in steps)."""
    entry = db.execute("SELECT 1 FROM entries WHERE id = ? AND ref = ?", (ask.entry, ref)).fetchone()
    if _of(db, now, ask.ref, ask.entry) or (entry is not None) is not ask.recorded:
        return False, []
    over = db.execute("SELECT n FROM responses WHERE id = ? AND ref = ?", (ask.entry, ref)).fetchall()
    buried = [bury_response(db, n) for (n,) in over]
    db.execute(
        "INSERT INTO responses (ref, id, ended, cancelled, keep, beat, events, owner, state)"
        " VALUES (?, ?, 0, 0, 1, ?, 0, ?, ?)",
        (ref, ask.entry, now, ask.owner, ask.state),
    )
    return True, buried


def log(db: sqlite3.Connection, now: int, ask: LogRun) -> Run | None:
    """See `Store.log_run`."""
    found = _of(db, now, ask.ref, ask.entry)
    if found is None or found[1].ended or found[1].owner != ask.owner:
        return None
    n, run = found
    if ask.events:
        db.execute("INSERT INTO events VALUES (?, ?)", ((n << LOG) + run.events, _pack(ask.events)))
    run = msgspec.structs.replace(
        run,
        state=run.state if ask.state is None else ask.state,
        ended=ask.end is not None,
        beat_ms=now,
        events=run.events + len(ask.events),
    )
    db.execute("UPDATE responses SET beat = ?, events = ? WHERE n = ?", (now, run.events, n))
    if ask.state is not None:
        db.execute("UPDATE responses SET state = ? WHERE n = ?", (ask.state, n))
    if ask.end:
        until = now + int(ask.end.log_s * 1000)
        db.execute("UPDATE responses SET ended = 1, keep = ?, until = ? WHERE n = ?", (ask.end.keep, until, n))
    return run


def cancel(db: sqlite3.Connection, now: int, ref: Ref, entry: bytes | None) -> Run | None:
    """See `Store.cancel_run`."""
    found = _of(db, now, ref, entry)
    if found is None or found[1].ended:
        return found and found[1]
    db.execute("UPDATE responses SET cancelled = 1 WHERE n = ?", (found[0],))
    return msgspec.structs.replace(found[1], cancelled=True)


def drop(db: sqlite3.Connection, now: int, ref: Ref, entry: bytes | None) -> list[int]:
    """The numbers of what is to be removed in steps; none if there is no such run."""
    found = _of(db, now, ref, entry)
    return [bury_response(db, found[0])] if found else []


def find(db: sqlite3.Connection, now: int, tenant: str, tag_: str, entry: str) -> Run | None:
    """See `Store.find_run`."""
    for kind, name, *shown in db.execute(_FIND, (key_of(entry), tenant, now, now)).fetchall():
        ref = Ref(tenant, kind.decode(), name.decode())
        if tag(ref) == tag_:
            return _run(ref, tuple(shown))
    return None


def events(db: sqlite3.Connection, now: int, ref: Ref, entry: str, after: int, most: int) -> Sequence[bytes]:
    """See `Store.run_events`."""
    id = key_of(entry)
    found: list[bytes] = []
    if id is None or most <= 0:
        return found
    for first, chunk in db.execute(_CHUNKS, (id, after + 1, ref.tenant, ref.kind, ref.name, now, now, most)):
        found += _unpack(chunk)[max(0, after + 1 - first) :]
        if len(found) >= most:
            break
    return found[:most]


def stale(db: sqlite3.Connection, now: int, silent_ms: int, most: int) -> list[Run]:
    """See `Store.stale_runs`."""
    return [
        _run(Ref(tenant.decode(), kind.decode(), name.decode()), tuple(shown))
        for tenant, kind, name, *shown in db.execute(_STALE, (now - silent_ms, now, most)).fetchall()
    ]
