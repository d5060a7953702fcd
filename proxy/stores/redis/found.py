"""What the index's scripts answer, made into what was asked for: messages' numbers into positions on one chain."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from proxy.conversation.words import Postings
from proxy.stores.contract import Index, Vectors
from proxy.stores.picking import posting
from proxy.stores.redis.keys import model_key
from proxy.stores.redis.rows import key_of

TERM_BYTES = 8
_SHIFT = np.uint64(24)
_Numbers = NDArray[np.int64]


def arguments(index: Index) -> tuple[bytes | int, ...]:
    """What `searching.INDEX` is told of one entry. Raises ValueError if a term has not 8 bytes, or vectors come without
    a model."""
    terms = [term for words in index.words for term, _ in words.terms]
    docs = [posting(at, words.length, count) for at, words in enumerate(index.words) for _, count in words.terms]
    if any(len(term) != TERM_BYTES for term in terms):
        raise ValueError(f"a term has {TERM_BYTES} bytes")
    if index.vectors and not index.model:
        raise ValueError("vectors have a model")
    return (
        key_of(index.entry) or b"",
        len(index.words),
        sum(words.length for words in index.words),
        b"".join(terms),
        struct.pack(f"<{len(docs)}Q", *docs),
        model_key(index.model) if index.model else b"",
        b"".join(b"0" if vector == b"" else b"1" for vector in index.vectors),
        b"".join(index.vectors),
    )


class Ranges:
    """Which of a ref's messages are on a chain."""

    def __init__(self, told: Sequence[int], runs: bytes) -> None:
        """`told`: branches and the positions up to which the chain runs along them; `runs` as they are kept."""
        tops = dict(zip(told[::2], told[1::2], strict=True))
        ranges = []
        self.whole = True
        """All are, numbered by their positions."""
        for start, branch, first, count in struct.iter_unpack(">IIII", runs):
            upto = start + min(count, tops.get(branch, 0) - first)
            self.whole = self.whole and start == first and upto == start + count
            if upto > start:
                ranges.append((start, upto, start - first))
        self._starts, self._ends, self._shifts = np.array(ranges, dtype=np.int64).reshape(-1, 3).T

    def place(self, numbers: _Numbers) -> tuple[NDArray[np.bool_], _Numbers]:
        """Which of them are on the chain, and what to take from those to have their positions."""
        at = np.searchsorted(self._starts, numbers, side="right") - 1
        kept = (at >= 0) & (numbers < self._ends[at]) if len(self._ends) else np.zeros(len(numbers), dtype=np.bool_)
        return kept, self._shifts[at[kept]]


def postings(messages: int, length: int, ranges: Ranges, found: Sequence[bytes]) -> Postings:
    return Postings(messages, length, tuple(_placed(each, ranges) for each in found))


def _placed(blob: bytes, ranges: Ranges) -> bytes:
    if ranges.whole:
        return blob
    numbers = np.frombuffer(blob, "<u8")
    kept, shifts = ranges.place((numbers >> _SHIFT).astype(np.int64))
    return (numbers[kept] - (shifts << 24).astype(np.uint64)).astype("<u8").tobytes()


def vectors(ranges: Ranges, numbers: bytes, matrix: bytes) -> Vectors:
    if ranges.whole:
        return Vectors(numbers, matrix)
    all = np.frombuffer(numbers, "<u4").astype(np.int64)
    kept, shifts = ranges.place(all)
    if not kept.any():
        return Vectors(b"", b"")
    rows = np.frombuffer(matrix, f"V{len(matrix) // len(all)}")
    return Vectors((all[kept] - shifts).astype("<u4").tobytes(), rows[kept].tobytes())
