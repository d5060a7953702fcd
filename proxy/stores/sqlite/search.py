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
from proxy.conversation.words import Choose, Found, Postings, Wanted
from proxy.stores.contract import Vectors
from proxy.stores.picking import told
from proxy.stores.sqlite.merge import MARK, PART
from proxy.stores.sqlite.rows import RUN, unpack

Parts = Sequence[tuple[int, int]]
"""The branches that a chain runs along, newest first, each with the position up to which it belongs to it."""
Numbers = NDArray[np.uint64]
Ranges = list[tuple[int, int, int]]

_position = attrgetter("upto")
_SHIFT = np.uint64(24)
_HALF = np.uint64(32)

_HELD = f"""
WITH kept AS (
    SELECT b.pairs FROM (
        SELECT DISTINCT (p.n << {PART}) + (w.value >> (32 - p.bits)) AS n
        FROM parts p CROSS JOIN json_each(?2) w WHERE p.ref = ?1) k CROSS JOIN buckets b ON b.n = k.n
    UNION ALL
    SELECT pairs FROM bags WHERE ref = ?1
)
SELECT coalesce(group_concat(pairs, ''), x'') FROM kept"""

_COMMON = """
SELECT coalesce(group_concat(c.docs, ''), x'')
FROM parts p CROSS JOIN common c WHERE p.ref = ?1 AND c.part = p.n AND c.term = ?2"""

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
    found = _found(db, ref, parts, terms, lambda _, counts: [True] * len(counts))
    return Postings(found.messages, found.length, tuple(each for each in found.found if isinstance(each, bytes)))


def seek(
    db: sqlite3.Connection, ref: int, parts: Parts, terms: Sequence[bytes], wanted: Wanted, choose: Choose
) -> list[Entry]:
    positions = choose(_found(db, ref, parts, terms, wanted))
    return pick(db, ref, parts, positions) if positions else []


def _found(db: sqlite3.Connection, ref: int, parts: Parts, terms: Sequence[bytes], wanted: Wanted) -> Found:
    messages = parts[0][1]
    length = _length(db, ref, parts)
    if length is None or not terms:
        return told(Postings(messages, length or 0, (b"",) * len(terms)), wanted)
    firsts = np.frombuffer(b"".join(terms), ">u8") >> _HALF
    (held,) = db.execute(_HELD, (ref, f"[{','.join(map(str, firsts.tolist()))}]")).fetchone()
    numbers = _told_apart(held, terms)
    marked = [_marked(each) for each in numbers]
    ranges, whole = _ranges(db, ref, dict(parts))
    counts = [len(each) - marks + more for each, (marks, more) in zip(numbers, marked, strict=True)]
    # how many of them are on a branch can only be told by looking at them
    kept = wanted(messages, counts) if whole else [True] * len(terms)
    for at, ((marks, _), want) in enumerate(zip(marked, kept, strict=True)):
        if marks and want:
            docs = np.frombuffer(db.execute(_COMMON, (ref, terms[at])).fetchone()[0], "<u8")
            numbers[at] = np.sort(np.concatenate([numbers[at][:-marks], docs]))
    if not whole:
        numbers = [_placed(each, ranges) for each in numbers]
        counts = list(map(len, numbers))
        kept = wanted(messages, counts)
    found = zip(numbers, counts, kept, strict=True)
    return Found(messages, length, tuple(_bytes(each) if want else count for each, count, want in found))


def _told_apart(held: bytes, terms: Sequence[bytes]) -> list[Numbers]:
    """Of pairs in any order: the numbers of each term, ascending."""
    pairs = np.frombuffer(held, "<u8")
    of, numbers = np.ascontiguousarray(pairs[::2]), pairs[1::2]
    found = [numbers[of == term] for term in np.frombuffer(b"".join(terms), "<u8")]
    for each in found:
        each.sort()
    return found


def _marked(numbers: Numbers) -> tuple[int, int]:
    """How many marks stand at the end, and for how many numbers in rows of their own they stand."""
    if not len(numbers) or numbers[-1] < MARK:
        return 0, 0
    marks = numbers[numbers.searchsorted(MARK) :]
    return len(marks), int((marks - MARK).sum())


def _bytes(numbers: Numbers) -> bytes:
    return numbers.astype("<u8", copy=False).tobytes()


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


def _placed(numbers: Numbers, ranges: Ranges) -> Numbers:
    """Postings by numbers as postings by positions; those that are not in a range are left out."""
    starts, ends, shifts = np.array(ranges, dtype=np.int64).reshape(-1, 3).T
    messages = (numbers >> _SHIFT).astype(np.int64)
    at = np.searchsorted(starts, messages, side="right") - 1
    kept = (at >= 0) & (messages < ends[at]) if len(ends) else np.zeros(len(numbers), dtype=bool)
    # ascending still: a chain takes its messages in the order of their numbers
    return numbers[kept] - (shifts[at[kept]] << 24).astype(np.uint64)


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
