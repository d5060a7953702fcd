"""What must be true of a session after clients, processes and stores have failed: pure functions over what was seen.

The model quotes, in each reply, a hash of all that it was shown. So a recorded reply itself tells from which history
it was made, and a history can be judged without knowing what went wrong while it was made.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

Shown = tuple[tuple[str, str], ...]
"""(role, text) of messages."""

_QUOTED = re.compile(r"reply (\d+) to ([0-9a-f]{16})(?: |$)")


class Said(msgspec.Struct, frozen=True):
    """A turn that a client tried, once or again under one idempotency key."""

    session: str
    text: str
    """Told by nobody else."""
    reply: str | None
    """Whose end the client saw, with status 200; None: it saw none."""
    turn: int
    """That its reply was said to be; 0: not said."""
    began: float
    """Of the first try ..."""
    ended: float
    """... and the end of the last, on one clock for all clients."""
    cut: bool = False
    """The client hung up on it, once at least: a part of the reply may have been kept."""


class Kept(msgspec.Struct, frozen=True):
    """An entry that the store holds on a branch."""

    id: str
    parent: str
    state: str
    messages: Shown


def answer(number: int, shown: Shown) -> str:
    """What the model says to `shown`; `number` makes each reply another."""
    return f"reply {number} to {quote(shown)} with some words behind"


def quote(shown: Shown) -> str:
    return blake2b(json.dumps(shown).encode(), digest_size=8).hexdigest()


def shown(messages: Iterable[dict[str, Any]]) -> Shown:
    return tuple((message["role"], message["content"]) for message in messages)


def exported(lines: Iterable[str]) -> dict[str, list[Kept]]:
    """By session, what `sessions export` wrote, in its order."""
    kept: dict[str, dict[str, Kept]] = {}
    for line in lines:
        told = json.loads(line)
        entries = kept.setdefault(told["session"], {})
        before = entries.get(told["entry"])
        messages = (*(before.messages if before else ()), *shown([told["message"]]))
        entries[told["entry"]] = Kept(told["entry"], told["parent"], told.get("state") or "whole", messages)
    return {session: list(entries.values()) for session, entries in kept.items()}


def faults(said: Sequence[Said], kept: Sequence[Kept], last: Shown, *, parallel: bool = False) -> list[str]:
    """What is wrong with one session, nothing if it is as promised. Its clients said deltas only, one message each.

    `last`: the history that the model was shown at the very end. `parallel`: a reply may have been made from any
    history that the session had since its request began, and is appended when it ends."""
    found = _form(kept)
    line, more = _line(kept)
    found += more
    by_text = {each.text: each for each in said}
    places: dict[str, int] = {}
    for at, entry in enumerate(line):
        text = entry.messages[0][1] if entry.messages else ""
        if text not in by_text:
            found.append(f"invented: nobody said {text!r}")
        elif entry.state == "whole":
            places.setdefault(text, at)
        elif not by_text[text].cut:
            found.append(f"part: of the reply to {text!r} only a part is kept, and its client stayed")
    found += _once(said, line)
    found += _made(line, by_text, parallel=parallel)
    found += _order(line, by_text)
    for each in said:
        if (
            each.reply is not None
            and each.turn
            and not parallel
            and places.get(each.text, each.turn - 1) + 1 != each.turn
        ):
            found.append(f"place: {each.text!r} was said to be turn {each.turn} and is {places[each.text] + 1}")
    history = tuple(message for entry in line for message in entry.messages)
    if history != last:
        at = next(
            (n for n, (a, b) in enumerate(zip(history, last, strict=False)) if a != b), min(len(history), len(last))
        )
        found.append(f"shown: the model is shown another history than is kept, from message {at} on")
    return found


def _form(kept: Sequence[Kept]) -> list[str]:
    return [
        f"half: entry {entry.id} holds {[role for role, _ in entry.messages]}"
        for entry in kept
        if [role for role, _ in entry.messages] != ["user", "assistant"]
    ]


def _line(kept: Sequence[Kept]) -> tuple[list[Kept], list[str]]:
    """The entries from the root on, and where they are no single line."""
    after: dict[str, list[Kept]] = {}
    for entry in kept:
        after.setdefault(entry.parent, []).append(entry)
    found = [
        f"branch: {len(each)} entries follow {parent or 'the beginning'}"
        for parent, each in after.items()
        if len(each) > 1
    ]
    line: list[Kept] = []
    at = ""
    while (following := after.get(at)) and len(line) < len(kept):
        # of several, the one that leads on
        line.append(next((each for each in following if each.id in after), following[-1]))
        at = line[-1].id
    if len({entry.id for entry in line}) != len(kept):
        found.append(f"astray: {len(kept) - len(line)} entries are not on the line")
    return line, found


def _once(said: Sequence[Said], line: Sequence[Kept]) -> list[str]:
    """Acknowledged turns are there, with the reply that was seen, and none is there twice."""
    found = []
    whole = [entry for entry in line if entry.state == "whole"]
    times = Counter(entry.messages[0][1] for entry in whole if entry.messages)
    found += [f"doubled: {text!r} is there {count} times" for text, count in times.items() if count > 1]
    numbers = Counter(match[1] for entry in line if (match := _QUOTED.match(_reply(entry))))
    found += [f"doubled: reply {number} is there {count} times" for number, count in numbers.items() if count > 1]
    replies = {entry.messages[0][1]: _reply(entry) for entry in whole if entry.messages}
    for each in said:
        if each.reply is None:
            continue
        if each.text not in replies:
            found.append(f"lost: {each.text!r} was answered and is not there")
        elif replies[each.text] != each.reply:
            found.append(f"changed: {each.text!r} was answered {each.reply!r}, kept is {replies[each.text]!r}")
    return found


def _made(line: Sequence[Kept], by_text: dict[str, Said], *, parallel: bool) -> list[str]:
    """Each reply was made from the entries before it."""
    found = []
    before: list[tuple[str, str]] = []
    starts: list[int] = []
    """Messages before each entry."""
    for at, entry in enumerate(line):
        starts.append(len(before))
        own = entry.messages[:1]
        if match := _QUOTED.match(_reply(entry)):
            froms = reversed(range(at + 1)) if parallel else (at,)
            made = next((n for n in froms if quote((*before[: starts[n]], *own)) == match[2]), None)
            if made is None:
                found.append(f"mixed: the reply to {own[0][1]!r} was not made from what stands before it")
            elif own[0][1] in by_text:
                began = by_text[own[0][1]].began
                found += [
                    f"stale: the reply to {own[0][1]!r} was made without {missed!r}, which had ended before"
                    for missed in (other.messages[0][1] for other in line[made:at] if other.messages)
                    if missed in by_text and by_text[missed].reply is not None and by_text[missed].ended < began
                ]
        elif entry.state == "whole":
            found.append(f"half: the reply to {own!r} is {_reply(entry)!r}")
        before += entry.messages
    return found


def _order(line: Sequence[Kept], by_text: dict[str, Said]) -> list[str]:
    """Who began after another had ended stands behind it."""
    found = []
    latest: Said | None = None
    for entry in line:
        each = by_text.get(entry.messages[0][1]) if entry.messages else None
        if each is None:
            continue
        if each.reply is not None and entry.state == "whole" and latest is not None and each.ended < latest.began:
            found.append(f"order: {latest.text!r} began after {each.text!r} had ended, and stands before it")
        if latest is None or each.began > latest.began:
            latest = each
    return found


def _reply(entry: Kept) -> str:
    return entry.messages[-1][1] if len(entry.messages) > 1 else ""
