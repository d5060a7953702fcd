"""Keeps the keyword index small to read: bags become a part, four parts a larger one.

Each step is a transaction of its own that leaves the index whole: a term is either in the part that is being made or
still in those that it is made of. So any process may go on where another one stopped, and readers never wait.
"""

import sqlite3

import msgspec
import numpy as np

BAGS = 64
"""That become a part."""
PARTS = 4
"""Of a level that become one of the next."""
POSTINGS_A_STEP = 8_192
"""About so many are moved in one transaction."""
POSTINGS_A_BUCKET = 32
"""At most about so many: small, since a search reads a bucket of each part for each of its terms."""
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
    _put(db, part or 0, _bits(postings), pairs)
    db.execute("DELETE FROM bags WHERE ref = ? AND n <= ?", (ref, last))


def _put(db: sqlite3.Connection, part: int, bits: int, held: bytes) -> None:
    """Writes buckets of a part, whole ones."""
    if not held:
        return
    pairs = np.frombuffer(held, "V16")
    terms = np.frombuffer(held, ">u8")[::2].astype(np.uint64)
    order = np.lexsort((np.frombuffer(held, "<u8")[1::2], terms))
    terms = terms[order]
    buckets = (terms >> np.uint64(64 - MOST_BITS)) >> np.uint64(MOST_BITS - bits)
    starts = [0, *(np.flatnonzero(buckets[1:] != buckets[:-1]) + 1).tolist()]
    ends = [*starts[1:], len(terms)]
    names = (buckets[starts] + np.uint64(part << PART)).tolist()
    rows = [(name, 16 * start, 16 * (end - start)) for name, start, end in zip(names, starts, ends, strict=True)]
    db.execute(_PUT, (pairs[order].tobytes(), _encode(rows).decode()))


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
    _put(db, part, bits, *db.execute(_TAKE, (ranges,)).fetchone())
    db.execute(_DROP, (ranges,))
    if below == ALL:
        db.execute("DELETE FROM parts WHERE ref = ? AND level = ? AND first >= ? AND first < ?", of)
    db.execute("UPDATE parts SET done = ? WHERE n = ?", (None if below == ALL else below, part))
