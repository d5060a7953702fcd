"""Keeps the keyword index small to read: bags become a part, two parts a larger one.

Each step is a transaction of its own that leaves the index whole: a term is either in the part that is being made or
still in those that it is made of. So any process may go on where another one stopped, and readers never wait.
"""

# ruff: noqa: S608 - statements are put together from what stands in this file; every value is bound

import sqlite3

import msgspec
import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.void]
Numbers = NDArray[np.uint64]

BAGS = 64
"""That become a part."""
PARTS = 2
"""Of a level that become one of the next."""
POSTINGS_A_STEP = 8_192
"""About so many are moved in one transaction."""
POSTINGS_A_BUCKET = 32
"""At most about so many: small, since a search reads a bucket of each part for each of its terms."""
COMMON = 128
"""A term with at least so many postings in a part ..."""
COMMON_SHARE = 25
"""... and in at least one of so many of its messages is common there: a search that does not want it need not read
past it, and one that does reads nothing else with it."""
MARK = np.uint64(0xFF << 56)
"""In the bucket such a term has one posting: this and how many there are. No other is as large."""
MOST_BITS = 20
PART = 24
"""A bucket's number in the table: its part's, so many bits to the left, and its own."""
ALL = 1 << 32

_OF = "SELECT n, bits FROM parts WHERE ref = ? AND level = ? AND first >= ? AND first < ? ORDER BY first"

# one statement each, because each row that Python fetches or binds has to win the interpreter lock back
_TAKE = """
SELECT coalesce(cast(group_concat(b.pairs, '') AS BLOB), x'')
FROM json_each(?) r CROSS JOIN buckets b WHERE b.n >= json_extract(r.value, '$[0]')
    AND b.n < json_extract(r.value, '$[1]')"""
_DROP = """
DELETE FROM buckets WHERE n IN (
    SELECT b.n FROM json_each(?) r CROSS JOIN buckets b WHERE b.n >= json_extract(r.value, '$[0]')
    AND b.n < json_extract(r.value, '$[1]'))"""
_PUT = """
INSERT INTO buckets
SELECT r.n, substr(?1, 1 + r.at, r.size) FROM (
    SELECT json_extract(value, '$[0]') AS n, json_extract(value, '$[1]') AS at, json_extract(value, '$[2]') AS size
    FROM json_each(?2)) r"""
_COMMON_IN = "part = ? AND term >= ? AND term < ?"
_encode = msgspec.json.Encoder().encode


def crowded(db: sqlite3.Connection, ref: int) -> bool:
    """There are bags enough to be merged."""
    return db.execute("SELECT 1 FROM bags WHERE ref = ? LIMIT 1 OFFSET ?", (ref, BAGS - 1)).fetchone() is not None


def merge_some(db: sqlite3.Connection, ref: int) -> bool:
    """True if nothing is left to merge."""
    if not db.execute("SELECT 1 FROM refs WHERE n = ? AND kind <> ''", (ref,)).fetchone():
        return True
    making = db.execute(
        "SELECT n, level, first, upto, postings, bits, done FROM parts WHERE ref = ? AND done IS NOT NULL LIMIT 1",
        (ref,),
    ).fetchone()
    if making:
        _move(db, ref, *making)
        return False
    if crowded(db, ref):
        _merge_bags(db, ref)
        return False
    level = db.execute(
        "SELECT level FROM parts WHERE ref = ? GROUP BY level HAVING count(*) >= ? ORDER BY level LIMIT 1", (ref, PARTS)
    ).fetchone()
    if not level:
        return True
    first, upto, postings = db.execute(
        "SELECT min(first), max(upto), sum(postings)"
        " FROM (SELECT first, upto, postings FROM parts WHERE ref = ? AND level = ? ORDER BY first LIMIT ?)",
        (ref, *level, PARTS),
    ).fetchone()
    db.execute(
        "INSERT INTO parts (ref, first, upto, level, postings, bits, done) VALUES (?, ?, ?, ?, ?, ?, 0)",
        (ref, first, upto, level[0] + 1, postings, _bits(postings)),
    )
    return False


def _bits(postings: int) -> int:
    return min((postings // POSTINGS_A_BUCKET).bit_length(), MOST_BITS)


def _merge_bags(db: sqlite3.Connection, ref: int) -> None:
    last, first, end, pairs = db.execute(
        "SELECT max(n), min(start), max(start) + 1,"
        " cast(group_concat(pairs, '') AS BLOB)"
        " FROM (SELECT n, start, pairs FROM bags WHERE ref = ? ORDER BY n LIMIT ?)",
        (ref, BAGS),
    ).fetchone()
    postings = len(pairs) // 16
    part = db.execute(
        "INSERT INTO parts (ref, first, upto, level, postings, bits) VALUES (?, ?, ?, 1, ?, ?)",
        (ref, first, end, postings, _bits(postings)),
    ).lastrowid
    _put(db, part or 0, _bits(postings), pairs, end - first)
    db.execute("DELETE FROM bags WHERE ref = ? AND n <= ?", (ref, last))


def _put(db: sqlite3.Connection, part: int, bits: int, held: bytes, messages: int) -> None:
    """Writes buckets of a part of so many messages, whole ones."""
    if not held:
        return
    pairs = np.frombuffer(held, "V16")
    terms = np.frombuffer(held, ">u8")[::2].astype(np.uint64)
    order = np.lexsort((np.frombuffer(held, "<u8")[1::2], terms))
    pairs, terms = pairs[order], terms[order]
    pairs, terms = _without_common(db, part, pairs, terms, max(COMMON, messages // COMMON_SHARE))
    buckets = (terms >> np.uint64(64 - MOST_BITS)) >> np.uint64(MOST_BITS - bits)
    starts = [0, *(np.flatnonzero(buckets[1:] != buckets[:-1]) + 1).tolist()]
    ends = [*starts[1:], len(terms)]
    names = (buckets[starts] + np.uint64(part << PART)).tolist()
    rows = [(name, 16 * start, 16 * (end - start)) for name, start, end in zip(names, starts, ends, strict=True)]
    db.execute(_PUT, (pairs.tobytes(), _encode(rows).decode()))


def _without_common(
    db: sqlite3.Connection, part: int, pairs: Pairs, terms: Numbers, least: int
) -> tuple[Pairs, Numbers]:
    """Pairs in the order of their terms, without those of terms that have at least so many: these are written to rows
    of their own."""
    starts = np.concatenate([[0], np.flatnonzero(terms[1:] != terms[:-1]) + 1])
    counts = np.diff(starts, append=len(terms))
    common = counts >= least
    if not common.any():
        return pairs, terms
    numbers = pairs.view("<u8").reshape(-1, 2).copy()
    rows = [
        (part, int(terms[start]).to_bytes(8, "big"), numbers[start : start + count, 1].tobytes())
        for start, count in zip(starts[common].tolist(), counts[common].tolist(), strict=True)
    ]
    db.executemany("INSERT INTO common VALUES (?, ?, ?)", rows)
    numbers[starts[common], 1] = MARK + counts[common].astype(np.uint64)
    kept = ~np.repeat(common, counts)
    kept[starts] = True
    return numbers[kept].view("V16").reshape(-1), terms[kept]


def _take_common(db: sqlite3.Connection, part: int, first: int, below: int) -> bytes:
    """The pairs of a part's common terms whose first 32 bits lie between these; they are removed."""
    between = (part, first.to_bytes(4, "big"), below.to_bytes(4, "big") if below < ALL else b"\xff" * 9)
    found = db.execute(f"SELECT term, docs FROM common WHERE {_COMMON_IN}", between).fetchall()
    db.execute(f"DELETE FROM common WHERE {_COMMON_IN}", between)
    made = []
    for term, docs in found:
        pairs = np.frombuffer(term, "<u8").repeat(len(docs) // 4)
        pairs[1::2] = np.frombuffer(docs, "<u8")
        made.append(pairs.astype("<u8", copy=False).tobytes())
    return b"".join(made)


def _move(
    db: sqlite3.Connection, ref: int, part: int, level: int, first: int, upto: int, postings: int, bits: int, done: int
) -> None:
    of = (ref, level - 1, first, upto)
    made_of = db.execute(_OF, of).fetchall()
    # the coarsest buckets set the pace: those of the others, and of the new one, end where they end
    pace = ALL >> min(bits for _, bits in made_of)
    below = min(done + max(1, ALL // pace * POSTINGS_A_STEP // max(postings, 1)) * pace, ALL)
    ranges = _encode(
        [((n << PART) + (done >> (32 - bits)), (n << PART) + (below >> (32 - bits))) for n, bits in made_of]
    ).decode()
    (held,) = db.execute(_TAKE, (ranges,)).fetchone()
    db.execute(_DROP, (ranges,))
    pairs = np.frombuffer(held, "<u8").reshape(-1, 2)
    pairs = pairs[pairs[:, 1] < MARK]
    common = [_take_common(db, n, done, below) for n, _ in made_of]
    _put(db, part, bits, b"".join([pairs.tobytes(), *common]), upto - first)
    if below == ALL:
        db.execute("DELETE FROM parts WHERE ref = ? AND level = ? AND first >= ? AND first < ?", of)
    db.execute("UPDATE parts SET done = ? WHERE n = ?", (None if below == ALL else below, part))
