"""What a message is found by: the words that it holds, as stems, and how often; and where words are found."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec


class Words(NamedTuple):
    """Of one message. A store keeps it for search and never looks inside."""

    length: int
    """Words that count, repeats included: 0 for a message that nothing finds."""
    terms: tuple[tuple[bytes, int], ...]
    """(term, how often), each term once. A term is 8 bytes: a digest of the stem, so all are of one size."""


class Postings(msgspec.Struct, frozen=True):
    """Where terms stand on one chain."""

    messages: int
    """On the chain, found or not."""
    length: int
    """Words of all of them that are indexed."""
    found: tuple[bytes, ...]
    """For each term that was asked for, in that order: little-endian unsigned 64-bit numbers in the order of their
    positions, one for each message that holds the term, `position << 24 | min(length, 4095) << 12 | min(count, 4095)`,
    where `length` is the message's `Words.length` and `count` how often it holds the term."""


class Found(msgspec.Struct, frozen=True):
    """The same, of which only some was wanted."""

    messages: int
    length: int
    found: tuple[bytes | int, ...]
    """For each term its postings, or, where they were not wanted, how many there are."""


Wanted = Callable[[int, Sequence[int]], Sequence[bool]]
"""Messages on the chain, and how many of them hold each term -> for each term whether its postings are wanted."""
Choose = Callable[[Found], Sequence[int]]
"""What is found -> positions."""
