"""What is read of the index: where words stand on a chain, and its vectors. Called in the reader's thread."""
# ruff: noqa: S608 - statements are put together from what stands in this file; every value is bound

import sqlite3
from collections.abc import Sequence
from operator import attrgetter

import msgspec
import numpy as np
from numpy.typing import NDArray

from proxy.conversation.entry import Entry
from proxy.stores.contract import Postings, Vectors
from proxy.stores.sqlite.merge import PART
from proxy.stores.sqlite.rows import RUN, unpack

Parts = Sequence[tuple[int, int]]
"""The branches that a chain runs along, newest first, each with the position up to which it belongs to it."""
Numbers = NDArray[np.uint64]

_position = attrgetter("upto")
_SHIFT = np.uint64(24)
_HALF = np.uint64(32)
_BITS = 16
_LOW = np.uint64((1 << _BITS) - 1)

_HELD = f"""
WITH kept AS (
    SELECT b.pairs FROM (
        SELECT DISTINCT (p.n << {PART}) + (w.value >> (32 - p.bits)) AS n
        FROM parts p CROSS JOIN json_each(?2) w WHERE p.ref = ?1) k CROSS JOIN buckets b ON b.n = k.n
    UNION ALL
    SELECT pairs FROM bags WHERE ref = ?1
)
SELECT coalesce(group_concat(pairs, ''), x'') FROM kept"""

_VECTORS = """
WITH RECURSIVE line (branch, top) AS (
    VALUES (?1, ?2)
    UNION ALL
    SELECT b.parent, b.at FROM line JOIN branches b ON b.n = line.branch
)
SELECT coalesce(group_concat(v.positions, ''), x''), coalesce(group_concat(v.matrix, ''), x'')
FROM line CROSS JOIN vectors v
WHERE v.ref = ?3 AND v.branch = line.branch AND v.model = ?4 AND v.upto <= line.top"""

_PICK = f"""
WITH RECURSIVE line (branch, top) AS MATERIALIZED (
    VALUES (?1, ?2)
    UNION ALL
    SELECT b.parent, b.at FROM line JOIN branches b ON b.n = line.branch
)
SELECT {RUN} FROM entries e WHERE e.n IN (
    SELECT (
        SELECT u.n FROM entries u WHERE u.ref = ?3 AND u.upto > p.value
            AND u.branch = (SELECT line.branch FROM line WHERE line.top > p.value ORDER BY line.top LIMIT 1)
        ORDER BY u.upto LIMIT 1)
    FROM json_each(?4) p)"""

_runs = msgspec.json.Decoder(list[tuple[int, int, int, int]]).decode


def unindexed(db: sqlite3.Connection, ref: int, parts: Parts, model: str, most: int) -> list[Entry]:
    """The oldest of the chain that are not indexed; what is indexed of a chain is its beginning."""
    open: list[tuple[int, int, int]] = []
    for branch, top in parts:
        (upto,) = db.execute(
            "SELECT max(upto) FROM indexed WHERE ref = ? AND branch = ? AND model = ? AND upto <= ?",
            (ref, branch, model, top),
        ).fetchone()
        if upto != top:
            open.append((branch, upto or 0, top))
        if upto is not None:
            break
    found: list[Entry] = []
    for branch, low, top in reversed(open):
        (run,) = db.execute(
            f"SELECT {RUN} FROM (SELECT row FROM entries WHERE ref = ? AND branch = ? AND upto > ? AND upto <= ?"
            " ORDER BY upto LIMIT ?) e",
            (ref, branch, low, top, most - len(found)),
        ).fetchone()
        found += unpack(run)
        if len(found) >= most:
            break
    return sorted(found, key=_position)


def postings(db: sqlite3.Connection, ref: int, parts: Parts, terms: Sequence[bytes]) -> Postings:
    messages = parts[0][1]
    length = _length(db, ref, parts)
    if length is None:
        return Postings(messages, 0, (b"",) * len(terms))
    wanted = np.frombuffer(b"".join(terms), ">u8").astype(np.uint64)
    (held,) = db.execute(_HELD, (ref, f"[{','.join(map(str, (wanted >> _HALF).tolist()))}]")).fetchone()
    pairs = np.frombuffer(held, "<u8").reshape(-1, 2)
    names = np.frombuffer(b"".join(terms), "<u8")
    # a bucket holds the terms of many others: one look at a few bits of each leaves little to compare
    known = np.zeros(1 << _BITS, dtype=bool)
    known[names & _LOW] = True
    pairs = pairs[known[pairs[:, 0] & _LOW]]
    held_terms, numbers = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
    ranges, whole = _ranges(db, ref, dict(parts))
    found = [numbers[held_terms == term] for term in names]
    return Postings(messages, length, tuple(_placed(each, None if whole else ranges) for each in found))


def _length(db: sqlite3.Connection, ref: int, parts: Parts) -> int | None:
    """Words of the chain; None if nothing of it is indexed."""
    for branch, top in parts:
        found = db.execute(
            "SELECT words FROM indexed WHERE ref = ? AND branch = ? AND model = '' AND upto <= ?"
            " ORDER BY upto DESC LIMIT 1",
            (ref, branch, top),
        ).fetchone()
        if found:
            return int(found[0])
    return None


def _ranges(db: sqlite3.Connection, ref: int, tops: dict[int, int]) -> tuple[list[tuple[int, int, int]], bool]:
    """Which of the ref's messages are on the chain: (from, up to, number less position), ascending; and whether all
    are, numbered by their positions."""
    (found,) = db.execute(
        "SELECT '[' || group_concat('[' || start || ',' || branch || ',' || first || ',' || count || ']') || ']'"
        " FROM runs WHERE ref = ?",
        (ref,),
    ).fetchone()
    runs = sorted(_runs(found))
    ranges = []
    whole = True
    for start, branch, first, count in runs:
        upto = start + min(count, tops.get(branch, 0) - first)
        whole = whole and start == first and upto == start + count
        if upto > start:
            ranges.append((start, upto, start - first))
    return ranges, whole


def _placed(numbers: Numbers, ranges: list[tuple[int, int, int]] | None) -> bytes:
    """Postings by numbers, in any order, as postings by positions, ascending; those that are not in a range are left
    out. None: all positions are the numbers."""
    numbers = np.sort(numbers)
    if ranges is None:
        return numbers.tobytes()
    starts, ends, shifts = np.array(ranges, dtype=np.int64).reshape(-1, 3).T
    messages = (numbers >> _SHIFT).astype(np.int64)
    at = np.searchsorted(starts, messages, side="right") - 1
    kept = (at >= 0) & (messages < ends[at])
    moved = (shifts[at[kept]] << 24).astype(np.uint64)
    return (numbers[kept] - moved).astype("<u8").tobytes()


def pick(db: sqlite3.Connection, ref: int, parts: Parts, positions: Sequence[int]) -> list[Entry]:
    wanted = msgspec.json.encode([position for position in positions if position >= 0]).decode()
    (run,) = db.execute(_PICK, (*parts[0], ref, wanted)).fetchone()
    return sorted(unpack(run), key=_position)


def vectors(db: sqlite3.Connection, ref: int, parts: Parts, model: str) -> Vectors:
    positions, matrix = db.execute(_VECTORS, (*parts[0], ref, model)).fetchone()
    places = np.frombuffer(positions, "<u4")
    if not len(places) or bool((places[1:] > places[:-1]).all()):
        return Vectors(positions, matrix)
    order = np.argsort(places)
    rows = np.frombuffer(matrix, f"V{len(matrix) // len(places)}")
    return Vectors(places[order].tobytes(), rows[order].tobytes())
