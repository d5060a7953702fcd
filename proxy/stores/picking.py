"""What every store picks in the same way: where a read begins, which summaries are shown, what a posting is."""

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter

from proxy.conversation.entry import Entry
from proxy.conversation.summary import Summary

_position = attrgetter("upto")


def kept_from(head: Entry, key: str) -> int | None:
    """The position from which the head's anchor keeps everything; None if it was made under another key."""
    anchor = head.facts.anchor
    return anchor.resume if anchor is not None and anchor.key == key else None


def shown(head: Entry, entries: Sequence[Entry], kept: Sequence[Summary]) -> tuple[Summary, ...]:
    """`Chain.summaries`, picked out of `kept`, which are in the order in which they were kept. `entries` are the
    chain's, ending with `head`."""
    anchor = head.facts.anchor
    named = anchor.summary if anchor is not None else ""
    since = next((at for at, each in enumerate(kept) if each.id == named), 0) if named else 0
    return tuple(each for each in kept[since:] if each.id == named or _holds(entries, each))


def _holds(entries: Sequence[Entry], summary: Summary) -> bool:
    at = bisect_left(entries, summary.upto, key=_position)
    return at < len(entries) and entries[at].id == summary.entry


def posting(position: int, length: int, count: int) -> int:
    """One number of `Postings.found`."""
    return position << 24 | min(length, 4095) << 12 | min(count, 4095)
