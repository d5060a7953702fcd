"""What a message is found by: the words that it holds, as stems, and how often."""

from typing import NamedTuple


class Words(NamedTuple):
    """Of one message. A store keeps it for search and never looks inside."""

    length: int
    """Words that count, repeats included: 0 for a message that nothing finds."""
    terms: tuple[tuple[bytes, int], ...]
    """(term, how often), each term once. A term is 8 bytes: a digest of the stem, so all are of one size."""
