"""An entry of which something was erased: its place on the chain stays, the content goes."""

import msgspec

from proxy.conversation.entry import Entry
from proxy.conversation.message import Message, Shape, shape

ERASED = "erased"
"""The call that the stand-in for an erased message answers. There is no such call, so no context ever holds it."""

_pack = msgspec.msgpack.Encoder().encode


def redacted(entry: Entry, at: int, message: Message | None, tokens: int, stand_in: bytes) -> Entry:
    """`entry` with its message number `at` replaced by `message`, which weighs `tokens`; None: by `stand_in`, which
    answers a call `ERASED`. Contexts that hold the entry are repaired, so a result whose call is gone goes too."""
    facts = entry.facts
    wires = [wire for _, _, wire in entry.messages()]
    shapes = list(facts.shapes)
    before = shapes[at]
    if message is None:
        wires[at], shapes[at] = stand_in, Shape("tool", len(stand_in), 0, (), ERASED)
    else:
        wires[at], shapes[at] = message.wire, shape(message, tokens)
    gone = set(before.calls) - set(shapes[at].calls)
    facts = msgspec.structs.replace(
        facts,
        shapes=tuple(shapes),
        open=tuple(call for call in facts.open if call not in gone),
        missed=tuple(call for call in facts.missed if call not in gone),
        asides=tuple(each for each in facts.asides if each[0] != at),
        recalled=b"",
    )
    return msgspec.structs.replace(
        entry,
        wire=b",".join(wires),
        tokens=entry.tokens - before.tokens + shapes[at].tokens,
        loose=True,
        packed=_pack(facts),
    )


def unquoted(entry: Entry) -> Entry:
    """`entry` without the excerpts of other entries that its turn was shown."""
    return msgspec.structs.replace(entry, packed=_pack(msgspec.structs.replace(entry.facts, recalled=b"")))
