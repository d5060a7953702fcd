"""Turns and steps, what makes a history valid, and its repair.

A turn is a user message and everything up to the next one; what stands before the first user message belongs to turn 1.
Inside a turn, its opening is everything up to the first assistant message that follows the user's; a step is an
assistant message with all that follows it up to the next one. A history is valid when each tool result follows, with
nothing but other results between, the assistant message that made the call, and every call is answered
(https://platform.openai.com/docs/guides/function-calling).
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from proxy.conversation.message import Shape

MISSED_AT_MOST = 64
"""How many walked-past calls a chain remembers: a client that never answers must not make its rows grow."""


class Follow(msgspec.Struct, frozen=True):
    """What joining messages to a chain does to its calls."""

    open: tuple[str, ...]
    missed: tuple[str, ...]
    loose: bool
    """The plain join is not a valid history: `repair` is needed."""
    unknown: tuple[str, ...]
    """Results whose call is neither open nor missed."""


def follow(shapes: Iterable[Shape], open: tuple[str, ...] = (), missed: tuple[str, ...] = ()) -> Follow:
    """Walks `shapes` on from a chain whose last assistant message's calls `open` wait and that walked past `missed`."""
    loose = False
    unknown: list[str] = []
    for shape in shapes:
        if shape.answers:
            if shape.answers in open:
                open = tuple(call for call in open if call != shape.answers)
                continue
            loose = True
            if shape.answers in missed:
                missed = tuple(call for call in missed if call != shape.answers)
            else:
                unknown.append(shape.answers)
            continue
        if open:
            loose = True
            missed = (missed + open)[-MISSED_AT_MOST:]
        open = shape.calls
    return Follow(open, missed, loose, tuple(unknown))


def repair(
    messages: Sequence[tuple[Shape, bytes]], stand_in: Callable[[str], bytes], waiting: bool = False
) -> list[bytes]:
    """The bytes of `messages` in an order that makes a valid history.

    Each result is moved behind its call, a call that has none is answered by `stand_in(call id)`, a result whose call
    is not here or that is already answered is left out. With `waiting`, the calls of a trailing assistant message
    stay open, because what comes next answers them.
    """
    results: dict[str, list[tuple[int, bytes]]] = {}
    calls_at: dict[str, list[int]] = {}
    for at, (shape, wire) in enumerate(messages):
        for call in shape.calls:
            calls_at.setdefault(call, []).append(at)
        if shape.answers:
            results.setdefault(shape.answers, []).append((at, wire))
    out: list[bytes] = []
    last = len(messages) - 1
    for at, (shape, wire) in enumerate(messages):
        if shape.answers:
            continue
        out.append(wire)
        if not shape.calls or (waiting and at == last):
            continue
        found: list[tuple[int, bytes]] = []
        for call in dict.fromkeys(shape.calls):
            # an id may be used again by a later call: a result belongs to the newest call before it
            later = min((other for other in calls_at[call] if other > at), default=last + 1)
            mine = [result for result in results.get(call, ()) if at < result[0] < later]
            found.append(mine[0] if mine else (last + 1, stand_in(call)))
        out += [result for _, result in sorted(found, key=lambda result: result[0])]
    return out
