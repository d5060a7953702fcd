"""What is said to the search index and what it answers, in the server's numbers."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxy.stores.contract import Index, Vectors
from proxy.stores.picking import posting
from proxy.stores.postgres.rows import key_of

BAGS = 32
"""That become a part."""
PARTS = 8
"""Of a level that become one of the next."""
LEVELS = 5
"""No part of the last is merged any more."""
TERM_BYTES = 8

_SHIFT = np.uint64(24)


class Told(NamedTuple):
    """What one entry is found by, as the server's function takes it."""

    entry: bytes
    counted: int
    length: int
    terms: list[int]
    docs: list[int]
    """For each term a posting, with the place in the entry instead of the message's number."""
    model: str
    vectors: int
    places: list[int]
    """Of the messages that have one."""
    matrix: bytes


def told(index: Index) -> Told | None:
    """None for an id that no entry can have. Raises ValueError if a term has not 8 bytes, or vectors come without a
    model."""
    terms = [term for words in index.words for term, _ in words.terms]
    if any(len(term) != TERM_BYTES for term in terms):
        raise ValueError(f"a term has {TERM_BYTES} bytes")
    if index.vectors and not index.model:
        raise ValueError("vectors have a model")
    key = key_of(index.entry)
    if key is None:
        return None
    return Told(
        key,
        len(index.words),
        sum(words.length for words in index.words),
        numbers(terms),
        [posting(at, words.length, count) for at, words in enumerate(index.words) for _, count in words.terms],
        index.model,
        len(index.vectors),
        [at for at, vector in enumerate(index.vectors) if vector],
        b"".join(index.vectors),
    )


def numbers(terms: Sequence[bytes]) -> list[int]:
    """Terms as the server's signed numbers."""
    return list(struct.unpack(f">{len(terms)}q", b"".join(terms)))


def placed(docs: bytes, starts: Sequence[int], ends: Sequence[int], firsts: Sequence[int]) -> bytes:
    """Postings by numbers, in any order, as postings by positions, ascending. Of the numbers, those in
    [starts[i], ends[i]) are on the chain, from the position firsts[i] on; the others are left out."""
    if not starts:
        return b""
    found: NDArray[np.uint64] = np.sort(np.frombuffer(docs, ">u8").astype("<u8"))
    if len(starts) == 1 and starts[0] == firsts[0] and (not len(found) or int(found[-1] >> _SHIFT) < ends[0]):
        return found.tobytes()
    messages = (found >> _SHIFT).astype(np.int64)
    at = np.searchsorted(np.array(starts), messages, side="right") - 1
    kept = (at >= 0) & (messages < np.array(ends)[at])
    shifts = np.array(starts) - np.array(firsts)
    # positions are taken together from runs that follow each other on the chain, though not always in its order
    moved = found[kept] - (shifts[at[kept]] << 24).astype(np.uint64)
    return np.sort(moved).astype("<u8").tobytes()


def vectors(positions: bytes | None, matrix: bytes | None) -> Vectors:
    """The server's numbers are big-endian."""
    return Vectors(np.frombuffer(positions or b"", ">u4").astype("<u4").tobytes(), matrix or b"")
