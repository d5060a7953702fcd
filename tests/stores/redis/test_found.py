"""Messages' numbers become positions on one chain."""

import struct

import pytest

from proxy.conversation.words import Words
from proxy.stores.contract import Index, Vectors
from proxy.stores.picking import posting
from proxy.stores.redis.found import Ranges, arguments, postings, vectors


def runs(*each: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack(">IIII", *run) for run in each)


def numbers(*all: int) -> bytes:
    return struct.pack(f"<{len(all)}I", *all)


def posted(*all: int) -> bytes:
    return struct.pack(f"<{len(all)}Q", *[posting(n, 5, 2) for n in all])


def test_a_chain_that_is_all_there_is_stays_as_it_is() -> None:
    ranges = Ranges([0, 6], runs((0, 0, 0, 6)))
    assert ranges.whole
    assert postings(6, 9, ranges, [posted(1, 5)]).found == (posted(1, 5),)
    assert vectors(ranges, numbers(0, 4), b"aabb") == Vectors(numbers(0, 4), b"aabb")


def test_what_is_on_other_branches_is_left_out() -> None:
    # branch 0 holds positions 0 to 5; branch 1 leaves it at 2, and was indexed between two parts of branch 0
    kept = runs((0, 0, 0, 4), (4, 1, 2, 3), (7, 0, 4, 2))
    one, two = Ranges([0, 6], kept), Ranges([1, 5, 0, 2], kept)
    all = range(9)
    assert postings(6, 0, one, [posted(*all), b""]).found == (posted(0, 1, 2, 3, 4, 5), b"")
    assert postings(5, 0, two, [posted(*all)]).found == (posted(0, 1, 2, 3, 4),)
    matrix = b"".join(bytes([n, n]) for n in all)
    assert vectors(one, numbers(*all), matrix) == Vectors(numbers(0, 1, 2, 3, 4, 5), b"\0\0\1\1\2\2\3\3\7\7\x08\x08")
    assert vectors(two, numbers(*all), matrix) == Vectors(numbers(0, 1, 2, 3, 4), b"\0\0\1\1\4\4\5\5\6\6")


def test_nothing_indexed_is_nothing_found() -> None:
    assert postings(3, 0, Ranges([0, 3], b""), [b""]).found == (b"",)
    assert vectors(Ranges([0, 3], b""), b"", b"") == Vectors(b"", b"")
    assert vectors(Ranges([1, 3], runs((0, 0, 0, 2))), numbers(0, 1), b"ab") == Vectors(b"", b"")


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        arguments(Index("", (Words(1, ((b"short", 1),)),)))
    with pytest.raises(ValueError, match="model"):
        arguments(Index("", (), "", (b"x",)))
