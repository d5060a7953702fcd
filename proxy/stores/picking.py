"""What every store picks in the same way: where a read begins, summaries that are shown, postings, what is sought."""

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter
from typing import Protocol

from proxy.conversation.entry import Entry
from proxy.conversation.summary import Summary
from proxy.conversation.words import Choose, Found, Postings, Wanted
from proxy.stores.contract import Ref

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


class _Asked(Protocol):
    async def postings(self, ref: Ref, entry: str, terms: Sequence[bytes]) -> Postings | None: ...

    async def pick(self, ref: Ref, entry: str, positions: Sequence[int]) -> Sequence[Entry]: ...


async def seek(
    store: _Asked, ref: Ref, entry: str, terms: Sequence[bytes], wanted: Wanted, choose: Choose
) -> Sequence[Entry]:
    """`Store.seek` of a store that calls nothing beside its data."""
    found = await store.postings(ref, entry, terms)
    if found is None:
        return []
    positions = choose(told(found, wanted))
    return await store.pick(ref, entry, positions) if positions else []


def told(found: Postings, wanted: Wanted) -> Found:
    """Without the postings that are not wanted."""
    counts = [len(each) // 8 for each in found.found]
    kept = zip(found.found, counts, wanted(found.messages, counts), strict=True)
    return Found(found.messages, found.length, tuple(each if want else count for each, count, want in kept))
