"""What goes upstream in place of the client's messages: kept turns, new messages, and what makes them valid."""

from collections.abc import Callable, Iterator, Sequence

from proxy.context.contract import Context, Cut, Own
from proxy.conversation import turn
from proxy.conversation.entry import Chain, Entry
from proxy.conversation.message import Shape


def compose(chain: Chain | None, cut: Cut, own: Own, stand_in: Callable[[str], bytes]) -> Context:
    """The messages of one request, a valid history whatever was recorded and sent.

    Kept messages that the client sent itself (`own.known`) travel as its own bytes, the others as they are stored.
    Where a plain join would not be valid, calls that nobody answered get `stand_in(call id)`, results move behind
    their calls, and results without a call in the context, or a second one for the same call, are left out. So it can
    be that none of the new messages is left: a late result whose call fell out of the window.
    """
    if not own.known and not cut.opening and own.amended is None:
        entries = cut.entries
        for entry in entries:
            if entry.loose:
                break
        else:
            if _answered(chain, cut, own.new):
                return _plain(cut, own.new)
    if _joins(chain, cut, own):
        parts, known = _parts(cut, own)
        new = [wire for _, wire in own.new]
        unchanged = known == len(own.known) == len(parts) and own.amended is None
        return Context((*parts, *new), repaired=False, unchanged=unchanged)
    items = [*_items(cut, own), *own.new]
    messages = turn.repair(items, stand_in)
    return Context(
        tuple(messages),
        repaired=messages != [wire for _, wire in items],
        unchanged=messages == [wire for _, wire in (*own.known, *own.new)] and own.amended is None,
    )


def _answered(chain: Chain | None, cut: Cut, new: Sequence[tuple[Shape, bytes]]) -> bool:
    """The new messages answer just the calls that wait at the end of what is kept, and their own."""
    open = chain.head.facts.open if chain is not None and cut.entries else ()
    if not open and len(new) == 1:
        shape = new[0][0]
        return not (shape.answers or shape.calls)
    follow = turn.follow([shape for shape, _ in new], open)
    return not (follow.loose or follow.open)


def _plain(cut: Cut, new: Sequence[tuple[Shape, bytes]]) -> Context:
    """The hot path: stored bytes and new bytes, side by side."""
    entries = cut.entries
    parts = [entry.wire for entry in entries]
    if entries and (into := cut.anchor.resume - entries[0].first):
        parts[0] = _slice(entries[0], into, entries[0].count)
    parts += [wire for _, wire in new]
    return Context(tuple(parts), repaired=False, unchanged=not entries)


def _joins(chain: Chain | None, cut: Cut, own: Own) -> bool:
    """A plain join of what is kept and sent is a valid history."""
    if any(entry.loose for entry in cut.entries) or any(entry.loose for entry in cut.opening):
        return False
    if own.pinned:
        # a lead whose last calls wait would need what follows it, which may be dropped
        lead = turn.follow([shape for shape, _ in own.known])
        if lead.loose or lead.open:
            return False
    return _answered(chain, cut, own.new)


def _ranges(cut: Cut) -> tuple[tuple[int, int, tuple[Entry, ...]], ...]:
    """The kept positions as (first, upto, the entries that hold them)."""
    if not cut.entries:
        return ((cut.anchor.start, cut.opened, cut.opening),) if cut.opening else ()
    rest = (cut.anchor.resume, cut.entries[-1].upto, cut.entries)
    return ((cut.anchor.start, cut.opened, cut.opening), rest) if cut.opening else (rest,)


def _parts(cut: Cut, own: Own) -> tuple[list[bytes], int]:
    """The kept messages as runs of bytes, and how many of them are the client's own."""
    first, upto = own.offset, own.offset + len(own.known)
    parts: list[bytes] = []
    if own.pinned:
        parts += [wire for _, wire in own.known]
    known = len(parts)
    for low, high, entries in _ranges(cut):
        for start, end in _around(low, high, own):
            if own.amended is not None and start == own.amended[0]:
                parts.append(own.amended[1])
                continue
            if not own.pinned:
                parts += _stored(entries, start, min(end, first))
                mine = [wire for _, wire in own.known[max(0, start - first) : max(0, end - first)]]
                parts += mine
                known += len(mine)
            parts += _stored(entries, max(start, upto), end)
    return parts, known


def _around(low: int, high: int, own: Own) -> Iterator[tuple[int, int]]:
    """[low, high) in parts: the amended message is one of its own."""
    if own.amended is None or not low <= own.amended[0] < high:
        yield low, high
        return
    at = own.amended[0]
    if low < at:
        yield low, at
    yield at, at + 1
    if at + 1 < high:
        yield at + 1, high


def _stored(entries: Sequence[Entry], low: int, high: int) -> Iterator[bytes]:
    """The bytes of the positions in [low, high)."""
    if low >= high:
        return
    for entry in entries:
        first = entry.first
        if low <= first and entry.upto <= high:
            yield entry.wire
        elif low < entry.upto and first < high:
            yield _slice(entry, max(0, low - first), min(high - first, entry.count))


def _slice(entry: Entry, low: int, high: int) -> bytes:
    """The bytes of the entry's messages in [low, high), a run."""
    sizes = [shape.size + 1 for shape in entry.facts.shapes]
    start = sum(sizes[:low])
    return entry.wire[start : start + sum(sizes[low:high]) - 1]


def _items(cut: Cut, own: Own) -> Iterator[tuple[Shape, bytes]]:
    """The kept messages one by one."""
    first, upto = own.offset, own.offset + len(own.known)
    if own.pinned:
        yield from own.known
    for low, high, entries in _ranges(cut):
        for entry in entries:
            for position, shape, wire in entry.messages():
                if not low <= position < high:
                    continue
                if own.amended is not None and position == own.amended[0]:
                    yield shape, own.amended[1]
                elif not first <= position < upto:
                    yield shape, wire
                elif not own.pinned:
                    yield own.known[position - first]
