"""What is written to the index: the words and vectors of entries; and how they are removed. Called in the writer's
thread, inside a transaction."""

import sqlite3
import struct

import numpy as np

from proxy.stores.sqlite.asks import Found, Indexing
from proxy.stores.sqlite.merge import PART

ROWS_A_STEP = 1000
BLOBS_A_STEP = 200
"""Rows that are removed in one transaction: an erasure must not hold appends up."""


def write(db: sqlite3.Connection, ref: int, indexing: Indexing) -> int:
    """About how many bytes it puts into the log. Raises ValueError for a wrong number of words or vectors."""
    written = 0
    for each in indexing.found:
        found = (
            each.entry
            and db.execute(
                "SELECT branch, upto FROM entries WHERE id = ? AND ref = ? AND branch IS NOT NULL", (each.entry, ref)
            ).fetchone()
        )
        if found:
            written += _entry(db, ref, found[0], found[1], each)
    return written


def _entry(db: sqlite3.Connection, ref: int, branch: int, upto: int, each: Found) -> int:
    (first,) = db.execute(
        "SELECT max(upto) FROM entries WHERE ref = ? AND branch = ? AND upto < ?", (ref, branch, upto)
    ).fetchone()
    parent = (branch, first)
    if first is None:
        # the first of its branch; a branch that leaves none starts at a root
        parent = db.execute("SELECT parent, at FROM branches WHERE n = ?", (branch,)).fetchone() or (0, 0)
        first = parent[1]
    for count in (each.counted, len(each.positions)):
        if count not in (0, upto - first):
            raise ValueError(f"an entry has {upto - first} messages, not {count}")
    written = 0
    if each.counted and _mark(db, ref, branch, upto, parent, "", each.length):
        start = _number(db, ref, branch, first, each.counted)
        if each.terms:
            pairs = np.frombuffer(each.terms, "<u8").repeat(2)
            pairs[1::2] = np.frombuffer(each.docs, "<u8") + np.uint64(start << 24)
            bag = (ref, start, pairs.astype("<u8").tobytes())
            db.execute("INSERT INTO bags (ref, start, pairs) VALUES (?, ?, ?)", bag)
        written += 16_000 + 2 * len(each.terms)
    if each.positions and _mark(db, ref, branch, upto, parent, each.model, 0):
        places = [first + at for at, there in enumerate(each.positions) if there]
        if places:
            positions = struct.pack(f"<{len(places)}I", *places)
            db.execute(
                "INSERT INTO vectors (ref, branch, model, upto, positions, matrix) VALUES (?, ?, ?, ?, ?, ?)",
                (ref, branch, each.model, upto, positions, each.matrix),
            )
        written += 12_000 + len(each.matrix)
    return written


def _mark(
    db: sqlite3.Connection, ref: int, branch: int, upto: int, parent: tuple[int, int], model: str, words: int
) -> bool:
    """False if the entry is indexed already, or its parent is not."""
    if parent != (0, 0):
        found = db.execute(
            "SELECT words FROM indexed WHERE ref = ? AND branch = ? AND model = ? AND upto = ?",
            (ref, parent[0], model, parent[1]),
        ).fetchone()
        if not found:
            return False
        words += found[0]
    changed = db.execute(
        "INSERT INTO indexed (ref, branch, model, upto, words) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (ref, branch, model, upto, words),
    )
    return changed.rowcount == 1


def _number(db: sqlite3.Connection, ref: int, branch: int, first: int, count: int) -> int:
    """The number of the first of so many messages."""
    last = db.execute(
        "SELECT start, branch, first, count FROM runs WHERE ref = ? ORDER BY start DESC LIMIT 1", (ref,)
    ).fetchone()
    start, on, at, length = last or (0, 0, 0, 0)
    if (on, at + length) == (branch, first):
        db.execute("UPDATE runs SET count = ? WHERE ref = ? AND start = ?", (length + count, ref, start))
    else:
        db.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", (ref, start + length, branch, first, count))
    return int(start + length)


def remove_some(db: sqlite3.Connection, ref: int) -> bool:
    """Removes some of what an erased ref was found by; True if nothing is left."""
    part = db.execute("SELECT n FROM parts WHERE ref = ? LIMIT 1", (ref,)).fetchone()
    if part:
        removed = db.execute(
            "DELETE FROM buckets WHERE n IN (SELECT n FROM buckets WHERE n >= ? AND n < ? LIMIT ?)",
            (part[0] << PART, part[0] + 1 << PART, BLOBS_A_STEP),
        ).rowcount
        removed += db.execute(
            "DELETE FROM common WHERE part = ?1 AND term IN (SELECT term FROM common WHERE part = ?1 LIMIT ?2)",
            (*part, BLOBS_A_STEP - removed),
        ).rowcount
        if removed < BLOBS_A_STEP:
            db.execute("DELETE FROM parts WHERE n = ?", part)
        return False
    for statement in (
        "DELETE FROM bags WHERE n IN (SELECT n FROM bags WHERE ref = ? LIMIT ?)",
        "DELETE FROM vectors WHERE n IN (SELECT n FROM vectors WHERE ref = ? LIMIT ?)",
        "DELETE FROM summaries WHERE n IN (SELECT n FROM summaries WHERE ref = ? LIMIT ?)",
        "DELETE FROM notes WHERE n IN (SELECT n FROM notes WHERE ref = ? LIMIT ?)",
    ):
        if db.execute(statement, (ref, BLOBS_A_STEP)).rowcount == BLOBS_A_STEP:
            return False
    if (
        db.execute(
            "DELETE FROM indexed WHERE ref = ?1 AND (branch, model, upto) IN"
            " (SELECT branch, model, upto FROM indexed WHERE ref = ?1 LIMIT ?2)",
            (ref, ROWS_A_STEP),
        ).rowcount
        == ROWS_A_STEP
    ):
        return False
    db.execute("DELETE FROM runs WHERE ref = ?", (ref,))
    return True
