"""A rolling summary, one generation of it: what was said before a position, in few words."""

import msgspec


class Summary(msgspec.Struct, frozen=True):
    """Immutable, like an entry. A new generation is made from the one before and the turns since; all are kept."""

    id: str
    """32 hex digits, as an entry's."""
    entry: str
    """The id of the entry that holds the last message which it covers: it is true of every chain that holds it."""
    upto: int
    """It covers the positions [0, upto) of such a chain. A turn starts at `upto`."""
    text: str
    tokens: int
    """Of `text`, as counted."""
    generation: int
    """1 for the first."""
    before: str
    """The id of the one that it was made from, "" for none."""
    model: str
    """That wrote it."""
    at_ms: int
