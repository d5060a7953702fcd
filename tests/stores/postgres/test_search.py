"""The server's numbers and the contract's positions."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.entry import new_id
from proxy.conversation.words import Words
from proxy.stores.contract import Index, Vectors
from proxy.stores.postgres.search import numbers, placed, told, vectors


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4), st.booleans()), min_size=1, max_size=12),
    st.lists(st.integers(0, 60), max_size=40, unique=True),
)
def test_numbers_become_positions_as_the_slow_way_does(runs: list[tuple[int, int, bool]], messages: list[int]) -> None:
    """Runs of which some are on the chain, and of which some end there early."""
    known: dict[int, int] = {}
    starts, ends, firsts = [], [], []
    start = position = 0
    for count, cut, on in runs:
        if on:
            kept = max(1, count - cut)
            starts.append(start)
            ends.append(start + kept)
            firsts.append(position)
            known |= {start + n: position + n for n in range(kept)}
            position += kept
        start += count
    docs = b"".join(struct.pack(">Q", message << 24 | 7 << 12 | 3) for message in messages)
    expected = sorted(known[message] << 24 | 7 << 12 | 3 for message in messages if message in known)
    assert placed(docs, starts, ends, firsts) == struct.pack(f"<{len(expected)}Q", *expected)


def test_terms_are_signed_numbers() -> None:
    assert numbers([b"\0" * 7 + b"\1", b"\xff" * 8, b"\x80" + b"\0" * 7]) == [1, -1, -(2**63)]
    assert numbers([]) == []


def test_what_is_told_is_checked() -> None:
    words = (Words(5, ((b"12345678", 2), (b"abcdefgh", 3))), Words(0, ()))
    found = told(Index(new_id(), words, "m", (b"", b"xy")))
    assert found
    assert (found.counted, found.length, found.docs) == (2, 5, [5 << 12 | 2, 5 << 12 | 3])
    assert (found.vectors, found.places, found.matrix) == (2, [1], b"xy")
    assert told(Index("nonsense", words)) is None
    with pytest.raises(ValueError, match="8 bytes"):
        told(Index(new_id(), (Words(1, ((b"short", 1),)),)))
    with pytest.raises(ValueError, match="model"):
        told(Index(new_id(), (), "", (b"x",)))


def test_positions_change_their_ends() -> None:
    assert vectors(b"\0\0\1\2\0\0\0\5", b"xy") == Vectors(b"\2\1\0\0\5\0\0\0", b"xy")
    assert vectors(None, None) == Vectors(b"", b"")
