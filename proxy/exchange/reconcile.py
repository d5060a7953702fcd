"""Delta or whole history: which of a request's messages are new, and after which entry they come.

Pure. `reconcile` is a generator: where the head alone does not decide, it yields a lookup and is sent the answer.
"""

from collections.abc import Generator, Sequence

import msgspec

from proxy.conversation.entry import Entry
from proxy.conversation.message import ROOT_DIGEST, Message, canonical, digest


class FindDigests(msgspec.Struct, frozen=True):
    """Which of these digests end an entry of the session? Answered by `dict[bytes, str]`: digest -> entry id."""

    digests: tuple[bytes, ...]


class ReadStored(msgspec.Struct, frozen=True):
    """The messages of the head's chain at positions [first, upto), answered by `Stored`."""

    first: int
    upto: int


class Stored(msgspec.Struct, frozen=True):
    messages: tuple[Message, ...]
    """The messages asked for, or fewer where the chain has fewer."""
    starts_turn: bool
    """The first of them starts a turn."""


class Reading(msgspec.Struct, frozen=True):
    """How a request's messages are understood."""

    whole: bool
    """The client keeps its own history and sent it."""
    parent: str
    """The id of the entry that the new messages come after, "" for a new root."""
    known: int = 0
    """So many leading messages of the request are recorded already ..."""
    offset: int = 0
    """... at this position of the parent's chain and on."""
    pinned: bool = False
    """The known ones are a lead (few-shot examples) that the client sends each time."""


Lookup = FindDigests | ReadStored
Reconcile = Generator[Lookup, "dict[bytes, str] | Stored", Reading]


def reconcile(
    messages: Sequence[Message], head: Entry | None, *, once_whole: bool, history: str, key: bytes
) -> Reconcile:
    """Reads `messages` (preamble and prefill aside) against a session whose newest entry is `head`.

    `once_whole`: a whole history was matched in this session before. `history`: the policy's reading, `auto`, `delta`
    or `full`. `key`: the tenant's, for digests.

    In this order: all but the new tail is the head; it is another entry; the longest known prefix; an overlap that
    ends at the head, starts at a turn and holds an assistant message; else a new root.
    """
    tail = _after_last_assistant(messages)
    delta = Reading(whole=False, parent=head.id if head else "")
    if history == "delta":
        if head and tail:
            lead = yield ReadStored(0, tail)
            if _same(messages[:tail], _stored(lead).messages):
                return Reading(whole=False, parent=head.id, known=tail, pinned=True)
        return delta
    if history == "auto" and not tail and not once_whole:
        return delta
    if head is None:
        return Reading(whole=True, parent="")
    digests = _digests(messages, key)
    if tail and digests[tail - 1] == head.digest and tail == head.upto:
        return Reading(whole=True, parent=head.id, known=tail)
    found = yield FindDigests(tuple(reversed(digests)))
    assert isinstance(found, dict)
    for known in range(len(digests), 0, -1):
        entry = found.get(digests[known - 1])
        if entry is not None:
            return Reading(whole=True, parent=entry, known=known)
    if 0 < tail < head.upto:
        stored = _stored((yield ReadStored(head.upto - tail, head.upto)))
        if stored.starts_turn and _same(messages[:tail], stored.messages):
            return Reading(whole=True, parent=head.id, known=tail, offset=head.upto - tail)
    return Reading(whole=True, parent="")


def _after_last_assistant(messages: Sequence[Message]) -> int:
    for at in range(len(messages), 0, -1):
        if messages[at - 1].role == "assistant":
            return at
    return 0


def _digests(messages: Sequence[Message], key: bytes) -> list[bytes]:
    digests: list[bytes] = []
    last = ROOT_DIGEST
    for message in messages:
        last = digest(key, last, message)
        digests.append(last)
    return digests


def _same(sent: Sequence[Message], stored: Sequence[Message]) -> bool:
    return len(sent) == len(stored) and all(
        canonical(mine) == canonical(theirs) for mine, theirs in zip(sent, stored, strict=True)
    )


def _stored(answer: "dict[bytes, str] | Stored") -> Stored:
    assert isinstance(answer, Stored)
    return answer
