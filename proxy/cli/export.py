"""A session as JSON lines, one a message, oldest first, branches included; failed exchanges are left out."""

from typing import IO

import msgspec

from proxy.cli.lines import BY_NAME, RUNS, Line, encode, on_one_line, one, split, stamp
from proxy.conversation.entry import Entry, Preamble
from proxy.stores.contract import Ref, Store


async def export(store: Store, ref: Ref, out: IO[bytes]) -> None:
    """Writes the lines of one session, an entry at a time."""
    preambles: dict[str, bytes] = {}
    async for record in store.records(ref):
        entry = record.entry
        if entry.facts.state == "failed":
            continue
        # only an entry under another preamble than its parent's tells it
        if entry.facts.preamble != preambles.get(entry.parent, b""):
            _preamble(ref, entry, record.preamble, out)
        preambles[entry.id] = entry.facts.preamble
        _messages(ref, entry, out)


def _preamble(ref: Ref, entry: Entry, preamble: Preamble | None, out: IO[bytes]) -> None:
    wires = split(preamble.wire) if preamble else []
    for number, wire in enumerate(wires or [b"null"]):
        tokens = preamble.tokens if preamble and not number else 0
        _write(out, _line(ref, entry, wire, tokens=tokens, preamble=True, turn=_turn_before(entry) or 1))


def _messages(ref: Ref, entry: Entry, out: IO[bytes]) -> None:
    facts = entry.facts
    asides = dict(facts.asides)
    turn = _turn_before(entry)
    for number, (_, shape, wire) in enumerate(entry.messages()):
        turn += shape.role == "user"
        line = _line(ref, entry, wire, tokens=shape.tokens, turn=turn or 1, of=entry.count)
        aside = asides.get(number, b"")
        if aside or facts.dialect in RUNS:
            line.message = msgspec.Raw(on_one_line(BY_NAME[facts.dialect].full(wire, aside)))
        if aside:
            line.sent, line.aside = msgspec.Raw(on_one_line(one(wire))), msgspec.Raw(on_one_line(aside))
        if number == entry.count - 1:
            line.finish, line.estimated, line.reported = facts.finish, facts.estimated, facts.reported
        _write(out, line)


def _turn_before(entry: Entry) -> int:
    return entry.turn - sum(shape.role == "user" for shape in entry.facts.shapes)


def _line(ref: Ref, entry: Entry, wire: bytes, *, tokens: int, turn: int, preamble: bool = False, of: int = 0) -> Line:
    facts = entry.facts
    return Line(
        session=ref.name,
        tenant=ref.tenant,
        entry=entry.id,
        parent=entry.parent,
        turn=turn,
        at=stamp(facts.at_ms),
        model=facts.model,
        dialect=facts.dialect,
        message=msgspec.Raw(on_one_line(wire)),
        preamble=preamble,
        tokens=tokens,
        of=of,
        state=facts.state,
    )


def _write(out: IO[bytes], line: Line) -> None:
    out.write(encode(line))
    out.write(b"\n")
