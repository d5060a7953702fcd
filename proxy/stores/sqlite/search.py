"""What is read of the index: where words stand on a chain, and its vectors. Called in the reader's thread."""
# ruff: noqa: S608 - statements are put together from what stands in this file; every value is bound

import sqlite3
from bisect import bisect_left
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
Labels = NDArray[np.int64]
Ranges = list[tuple[int, int, int]]

_position = attrgetter("upto")
_SHIFT = np.uint64(24)
_HALF = np.uint64(32)
_AT_ONCE = 255
"""Terms that are told apart in one go."""
_LABEL = np.uint64(56)
"""Where a term's own number stands above a posting, whose position is below 2 ** 32."""
_NUMBER = np.uint64((1 << 56) - 1)

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
SELECT {RUN} FROM entries e WHERE e.n IN (
    SELECT (SELECT u.n FROM entries u WHERE u.ref = ?1 AND u.branch = ?2 AND u.upto > p.value ORDER BY u.upto LIMIT 1)
    FROM json_each(?3) p)"""

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
    if length is None or not terms:
        return Postings(messages, length or 0, (b"",) * len(terms))
    wanted = np.frombuffer(b"".join(terms), ">u8") >> _HALF
    (held,) = db.execute(_HELD, (ref, f"[{','.join(map(str, wanted.tolist()))}]")).fetchone()
    ranges, whole = _ranges(db, ref, dict(parts))
    return Postings(messages, length, tuple(_told_apart(held, terms, None if whole else ranges)))


def _told_apart(held: bytes, terms: Sequence[bytes], ranges: Ranges | None) -> list[bytes]:
    """Of pairs in any order: the postings of each term, as `_placed` tells, ascending."""
    # a bucket holds the terms of many others, so first a look at two bytes of each, in a place where these terms differ
    joined = b"".join(terms)
    lanes = np.frombuffer(joined, "<u2").reshape(-1, 4)
    lane = next((lane for lane in (3, 2, 1, 0) if len(set(lanes[:, lane].tolist())) == len(terms)), None)
    if lane is None or len(terms) > _AT_ONCE:
        half = len(terms) // 2
        return _told_apart(held, terms[:half], ranges) + _told_apart(held, terms[half:], ranges)
    known = np.zeros(1 << 16, dtype=bool)
    known[lanes[:, lane]] = True
    at = known.take(np.frombuffer(held, "<u2")[lane::8]).nonzero()[0]
    pairs = np.frombuffer(held, "V16").take(at).view("<u8").reshape(-1, 2)
    labels = np.zeros(1 << 16, dtype=np.uint8)
    labels[lanes[:, lane]] = np.arange(len(terms))
    label = labels.take(pairs.view("<u2")[:, lane]).astype(np.int64)
    same = pairs[:, 0] == np.frombuffer(joined, "<u8").take(label)
    if not same.all():
        pairs, label = pairs[same], label[same]
    numbers, label = _placed(pairs[:, 1], label, ranges)
    # one sort for all of them, by the term and then by the position
    numbers = numbers | label.view(np.uint64) << _LABEL
    numbers.sort()
    ends = numbers.searchsorted(np.arange(1, len(terms), dtype=np.uint64) << _LABEL).tolist()
    whole = (numbers & _NUMBER).astype("<u8", copy=False).tobytes()
    return [whole[8 * start : 8 * end] for start, end in zip([0, *ends], [*ends, len(numbers)], strict=True)]


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


def _ranges(db: sqlite3.Connection, ref: int, tops: dict[int, int]) -> tuple[Ranges, bool]:
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


def _placed(numbers: Numbers, label: Labels, ranges: Ranges | None) -> tuple[Numbers, Labels]:
    """Postings by numbers as postings by positions; those that are not in a range are left out. None: all positions
    are the numbers."""
    if ranges is None:
        return numbers, label
    starts, ends, shifts = np.array(ranges, dtype=np.int64).reshape(-1, 3).T
    messages = (numbers >> _SHIFT).astype(np.int64)
    at = np.searchsorted(starts, messages, side="right") - 1
    kept = (at >= 0) & (messages < ends[at])
    moved = (shifts[at[kept]] << 24).astype(np.uint64)
    return numbers[kept] - moved, label[kept]


def pick(db: sqlite3.Connection, ref: int, parts: Parts, positions: Sequence[int]) -> list[Entry]:
    found: list[Entry] = []
    waiting = sorted(position for position in positions if position >= 0)
    for branch, top in reversed(parts):
        # up to here the chain runs along this branch
        upto = bisect_left(waiting, top)
        if upto:
            wanted = f"[{','.join(map(str, waiting[:upto]))}]"
            found += unpack(db.execute(_PICK, (ref, branch, wanted)).fetchone()[0])
            del waiting[:upto]
    return sorted(found, key=_position)


def vectors(db: sqlite3.Connection, ref: int, parts: Parts, model: str) -> Vectors:
    positions, matrix = db.execute(_VECTORS, (*parts[0], ref, model)).fetchone()
    places = np.frombuffer(positions, "<u4")
    if not len(places) or bool((places[1:] > places[:-1]).all()):
        return Vectors(positions, matrix)
    order = np.argsort(places)
    rows = np.frombuffer(matrix, f"V{len(matrix) // len(places)}")
    return Vectors(places[order].tobytes(), rows[order].tobytes())
