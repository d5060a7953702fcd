"""A session for reading: its turns with states, tokens and plans, branches and failed exchanges included."""

from typing import TextIO

import msgspec

from proxy.cli.lines import BY_NAME, stamp
from proxy.context.contract import Plan
from proxy.conversation.entry import Entry
from proxy.conversation.message import Message
from proxy.stores.contract import Record, RefInfo, Store

_plan = msgspec.json.Decoder(Plan).decode


async def show(store: Store, info: RefInfo, out: TextIO) -> None:
    """Entries in the order in which they were appended. Control characters are shown as escapes: what was said must
    not steer the terminal."""
    expires = "never" if info.expires_ms is None else stamp(info.expires_ms)
    print(f"session {info.ref.name}  tenant {info.ref.tenant}", file=out)
    print(f"{info.turns} turns, {info.messages} messages, {info.tokens} tokens", file=out)
    print(f"created {stamp(info.created_ms)}, updated {stamp(info.updated_ms)}, expires {expires}", file=out)
    before, preamble = "", b""
    async for record in store.records(info.ref):
        facts = record.entry.facts
        print(file=out)
        print(_head(record.entry, before, info.head), file=out)
        if facts.preamble != preamble and record.preamble is not None:
            print(f"  preamble: {record.preamble.tokens} tokens", file=out)
            for message in BY_NAME[facts.dialect].messages(record.preamble.wire):
                _say(message, out)
        for message in BY_NAME[facts.dialect].messages(record.entry.wire):
            _say(message, out)
        if record.plan:
            print(f"  plan: {_planned(record)}", file=out)
        if facts.state != "failed":
            before, preamble = record.entry.id, facts.preamble


def _head(entry: Entry, before: str, head: str) -> str:
    facts = entry.facts
    words = [f"turn {max(entry.turn, 1)}", f"entry {entry.id}", stamp(facts.at_ms), clean(facts.model) or "no model"]
    words += [f"{entry.tokens} tokens", facts.state]
    if facts.finish:
        words.append(f"finish {clean(facts.finish)}")
    if entry.parent != before and facts.state != "failed":
        words.append(f"branch after {entry.parent or 'the beginning'}")
    if entry.id == head:
        words.append("head")
    return "  ".join(words)


def _planned(record: Record) -> str:
    plan = _plan(record.plan)
    words = [f"policy {plan.policy}", f"kept {plan.kept}", f"dropped {plan.dropped}", f"{plan.tokens} tokens"]
    if plan.limit is not None:
        words.append(f"of {plan.limit}")
    words += [word for word, holds in (("repaired", plan.repaired), ("branch", plan.branch)) if holds]
    return f"{', '.join(words)}; {plan.why}"


def _say(message: Message, out: TextIO) -> None:
    lines = clean(message.text).splitlines() or ([] if message.calls or message.media else [""])
    lines += [f"[{clean(media.kind)}]" for media in message.media]
    lines += [f"calls {clean(call.name)}({clean(call.arguments)})  {clean(call.id)}" for call in message.calls]
    if message.answers:
        lines[:1] = [f"to {clean(message.answers)}: {lines[0] if lines else ''}"]
    for number, line in enumerate(lines):
        print(f"  {'' if number else message.role:<10} {line}", file=out)


def clean(text: str) -> str:
    """Control characters as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
