"""Entries, appends and clocks to test stores with."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec

from proxy.conversation.entry import Anchor, Entry, Facts, Preamble, grow, new_id
from proxy.conversation.message import Message, ToolCall
from proxy.stores.contract import Append, Appended, Redaction, Ref, Replay, Store

T = TypeVar("T")
KEY = b"k" * 32
REF = Ref("tenant", "session", "one")
CHAIN = Ref("tenant", "chain", "one")
CONVERSATION = Ref("tenant", "conversation", "one")
RULES = Preamble(b'{"role":"system","content":"be kind"}', 7)
OTHER_RULES = Preamble(b'{"role":"system","content":"be brief"}', 6)


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


def message(role: str, text: str = "", *, aside: bytes = b"", calls: tuple[str, ...] = ()) -> Message:
    wire = b'{"role":"%b","content":"%b", "n":1.0}' % (role.encode(), text.encode())
    return Message(role, wire, text, aside=aside, calls=tuple(ToolCall(call, "f", "{}") for call in calls))


def entry(
    parent: Entry | None,
    text: str = "hi",
    *,
    id: str | None = None,
    tokens: Sequence[int] = (3, 5),
    roles: Sequence[str] = ("user", "assistant"),
    anchor: Anchor | None = None,
    preamble: Preamble | None = None,
    state: str = "whole",
) -> Entry:
    """A turn (or what `roles` says) that says `text` and answers it."""
    return grow(
        id=new_id() if id is None else id,
        parent=parent,
        key=KEY,
        messages=[message(role, f"{role} {text}") for role in roles],
        tokens=tokens,
        dialect="chat",
        model="m",
        anchor=anchor,
        preamble=preamble.id if preamble else b"",
        state=state,
    )


def adding(ref: Ref, new: Entry, expected: str | None = "", **more: object) -> Append:
    """Of `new` to its parent as the head, unless `expected` names another."""
    head = (new.parent or None) if expected == "" else expected
    return Append(ref=ref, expected=head, entry=new, **more)  # type: ignore[arg-type]


def replay(key: str, of: Entry, *, sticky: bool = False, body: bytes = b'{"a": 1.0}') -> Replay:
    return Replay(
        key=key,
        request=b"r" * 16,
        sticky=sticky,
        status=200,
        headers=(("content-type", "application/json"), ("x", "1"), ("x", "2")),
        body=body,
        entry=of.id,
    )


def redacted(of: Entry, note: bytes = b"", *, facts: Facts | None = None) -> Redaction:
    """Nothing of what it said is left."""
    packed = msgspec.msgpack.encode(facts or of.facts)
    return Redaction(msgspec.structs.replace(of, wire=b'{"role":"user"},{"role":"assistant"}', packed=packed), note)


async def talk(store: Store, turns: int, ref: Ref = REF, *, after: Entry | None = None, **more: object) -> list[Entry]:
    """A conversation of so many new turns, each recorded."""
    said: list[Entry] = []
    for turn in range(turns):
        new = entry(said[-1] if said else after, f"turn {turn} of {ref.name}", anchor=None)
        assert await store.append(adding(ref, new, **more)) == Appended()  # type: ignore[arg-type]
        said.append(new)
    return said


async def listed(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]
