"""What one exchange appended: an immutable row, and the chain that rows form.

Positions count messages from the root of a chain: the first message of the first entry has position 0. The preamble
stands outside: it has no position, no turn and no digest. A position means the same on every branch that shares it.
"""

import os
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

import msgspec

from proxy.conversation import turn
from proxy.conversation.message import ROOT_DIGEST, Message, Shape, digest, shape
from proxy.conversation.summary import Summary


class Anchor(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where the kept window starts. Positions, so a child entry of any branch can inherit it.

    Kept are the opening of the turn at `start` (its messages before the first assistant message) and everything from
    `resume` on. `resume == start` unless steps inside a long turn were left out.
    """

    key: str
    """Of the policy and the limits that it was made for. Under another key it means nothing."""
    start: int
    resume: int
    summary: str = ""
    """The id of the summary that stands for what is before `start`, or for the older part of it; "" for none."""


class Preamble(msgspec.Struct, frozen=True):
    """The leading run of system and developer messages; stored once, however many entries were made under it."""

    wire: bytes
    """The messages' bytes joined by a comma; b"" is a preamble that says nothing."""
    tokens: int

    @property
    def id(self) -> bytes:
        return blake2b(self.wire, digest_size=16).digest()


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """What is known of an entry beyond what every read needs; stored packed."""

    shapes: tuple[Shape, ...]
    dialect: str
    model: str
    at_ms: int
    """When it was recorded, in milliseconds since 1970."""
    state: str
    """`whole`; `partial`: the reply was cut off by the client's going; `failed`: kept for reading, on no branch."""
    open: tuple[str, ...]
    """Calls of the last assistant message that wait for their results at the end of this entry."""
    missed: tuple[str, ...]
    """Calls further back that the conversation walked past; their results may still come. The newest 64."""
    turn_start: int
    """The position at which the last turn of this entry starts."""
    preamble: bytes
    """The id of the preamble in force, b"" for none."""
    anchor: Anchor | None
    """As the plan of this entry left it, for the next one to inherit."""
    estimated: int
    """Tokens that the request was thought to hold ..."""
    reported: int
    """... and tokens that the upstream said it held; 0: it did not say."""
    finish: str
    """The reply's finish reason; for a failed entry the error's code."""
    asides: tuple[tuple[int, bytes], ...] = ()
    """(index in `shapes`, JSON object): what messages hold beyond their wire bytes. See `Message.aside`."""
    recalled: bytes = b""
    """What recall merged into the user's message of the turn that is under way, packed, so that all its steps show the
    model the same; b"" once the turn is over."""


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Facts).decode


class Entry(msgspec.Struct, frozen=True):
    """What one exchange appended: its new messages and the reply's."""

    id: str
    """32 hex digits, random but for a leading time, so that new ids stand at the end of an index. It is also the
    exchange key: an append repeated with the same id counts once."""
    parent: str
    """The id of the entry before, "" for a root."""
    wire: bytes
    """The messages' bytes joined by a comma, ready to be spliced."""
    count: int
    """How many messages that is; never 0."""
    upto: int
    """Messages on the chain up to and with this entry: its own have the positions `upto - count` to `upto - 1`."""
    tokens: int
    tokens_upto: int
    turn: int
    """User messages on the chain up to and with this entry, which is the number of the turn that its last message
    belongs to. What stands before the first user message belongs to turn 1."""
    loose: bool
    """Joining this entry to its parent does not give a valid history: calls were left unanswered, results came late
    or were repeated. Where no entry of a window is loose, its context is a plain join of bytes."""
    digest: bytes
    """Of its last message, chained from the root."""
    packed: bytes
    """`Facts`, packed."""

    @property
    def facts(self) -> Facts:
        return _facts(self.packed)

    @property
    def first(self) -> int:
        """The position of its first message."""
        return self.upto - self.count

    def messages(self) -> Iterator[tuple[int, Shape, bytes]]:
        """Each message as (position, shape, bytes), cut out of `wire` without decoding it."""
        at = 0
        for position, each in enumerate(self.facts.shapes, self.first):
            yield position, each, self.wire[at : at + each.size]
            at += each.size + 1


@lru_cache(maxsize=1024)
def _facts(packed: bytes) -> Facts:
    return _unpack(packed)


class Chain(msgspec.Struct, frozen=True):
    """What a read of a ref gives: the newest entry, and the ones before it as far back as was asked."""

    head: Entry
    entries: tuple[Entry, ...]
    """Oldest first, without gaps, ending with `head`."""
    preamble: Preamble | None
    """The one in force at the head."""
    ref_head: str
    """The id of the entry that the ref names now: `head.id`, unless an older entry was asked for."""
    whole: bool
    """A client of this ref once sent its whole history."""
    summaries: tuple[Summary, ...] = ()
    """Those that may be shown with this head: the one that its anchor names, and of those made since the ones whose
    entry is among `entries`; in the order in which they were kept."""
    revision: int = 0
    """How often something was erased from the ref's entries: what is made from this chain is true of this revision."""


def new_id() -> str:
    """Six bytes of milliseconds, ten of chance."""
    return (time.time_ns() // 1_000_000).to_bytes(6, "big").hex() + os.urandom(10).hex()


def grow(
    *,
    id: str,
    parent: Entry | None,
    key: bytes,
    messages: Sequence[Message],
    tokens: Sequence[int],
    dialect: str,
    model: str,
    state: str = "whole",
    preamble: bytes = b"",
    anchor: Anchor | None = None,
    estimated: int = 0,
    reported: int = 0,
    finish: str = "",
    at_ms: int = 0,
    recalled: bytes = b"",
) -> Entry:
    """The entry that appends `messages` (at least one), weighing `tokens` each, to `parent`.

    `key` is the tenant's, for the digest. `at_ms` 0 means now. `recalled` is kept only if the turn goes on.
    """
    before = parent.facts if parent else None
    shapes = tuple(map(shape, messages, tokens))
    follow = turn.follow(shapes, before.open if before else (), before.missed if before else ())
    upto, turns = (parent.upto, parent.turn) if parent else (0, 0)
    turn_start = before.turn_start if before else 0
    for position, each in enumerate(shapes, upto):
        if each.role == "user":
            turns += 1
            if turns > 1:
                turn_start = position
    last = parent.digest if parent else ROOT_DIGEST
    for message in messages:
        last = digest(key, last, message)
    weight = sum(tokens)
    facts = Facts(
        shapes=shapes,
        dialect=dialect,
        model=model,
        at_ms=at_ms or time.time_ns() // 1_000_000,
        state=state,
        open=follow.open,
        missed=follow.missed,
        turn_start=turn_start,
        preamble=preamble,
        anchor=anchor,
        estimated=estimated,
        reported=reported,
        finish=finish,
        asides=tuple((i, m.aside) for i, m in enumerate(messages) if m.aside),
        recalled=recalled if follow.open else b"",
    )
    return Entry(
        id=id,
        parent=parent.id if parent else "",
        wire=b",".join([m.wire for m in messages]),
        count=len(shapes),
        upto=upto + len(shapes),
        tokens=weight,
        tokens_upto=(parent.tokens_upto if parent else 0) + weight,
        turn=turns,
        loose=follow.loose,
        digest=last,
        packed=_pack(facts),
    )
