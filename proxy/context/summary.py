"""What falls out of the window becomes a rolling summary: when one is begun, what it covers, which one a turn sees.

A summary and the anchor are a pair and move together: a turn that finds a new summary starts its window where that
ends. A summary is made after a reply, from the one before and the turns since, so that none is skipped: what earlier
calls failed to cover is handed to the next.
"""

from collections.abc import Generator, Sequence

import msgspec

from proxy.context import window
from proxy.context.contract import Budget, Read
from proxy.conversation.entry import Anchor, Chain, Entry
from proxy.conversation.message import Shape
from proxy.conversation.summary import Summary

PROMPT = """\
Write the summary that will stand in place of the conversation above: it will be shown at the beginning of our \
conversation from here on, and the messages above will not. If a summary of still earlier messages is given at the \
beginning, take over everything in it that still holds, in its words where you can; nothing in it may fade.

Keep exactly: names and who they are, figures, dates, places, identifiers and file names; decisions and their reasons; \
what was promised or is still to be done; open questions; the user's preferences and instructions. Where something has \
changed, give the newest state and say that it has changed. Leave out greetings and what led nowhere.

Write in the language of the conversation, in short plain sentences or a list. At most {max_words} words. Answer with \
the summary alone, without a heading or a remark, and call no tools."""

WORDS_A_TOKEN = 0.6
"""A model told to keep to so many words for each token of the limit rarely exceeds the limit, in any language that is
written with spaces."""

HEADING = "Summary of the earlier conversation (its messages are not shown):"


def prompt(template: str, max_tokens: int) -> str:
    """What the model is asked. `template` "": the built-in one. Braces that are no placeholder stay as they are."""
    text = template or PROMPT
    return text.replace("{max_tokens}", str(max_tokens)).replace(
        "{max_words}", str(max(8, int(max_tokens * WORDS_A_TOKEN)))
    )


def shown(summary: Summary) -> str:
    """The summary as the model reads it."""
    return f"{HEADING}\n{summary.text}"


def seen(chain: Chain | None, key: str) -> Summary | None:
    """The summary that a turn on this chain sees under anchors of this key: the newest that reaches beyond the head's
    anchor, with which the window then starts; else the one that the anchor came with."""
    if chain is None or not chain.summaries:
        return None
    anchor = chain.head.facts.anchor
    named = anchor.summary if anchor else ""
    start = anchor.start if anchor and anchor.key == key else -1
    found: Summary | None = None
    for summary in chain.summaries:
        new = start < summary.upto <= chain.head.upto and (found is None or summary.upto >= found.upto)
        if new or (found is None and summary.id == named):
            found = summary
    return found


class Fold(msgspec.Struct, frozen=True):
    """One summary to be made."""

    base: Summary | None
    """The one that it goes on from."""
    upto: int
    """It will cover the positions before this one."""
    entry: str
    """The id of the entry that holds the last of them."""
    items: tuple[tuple[Shape, bytes], ...]
    """The messages that it adds to `base`, with their bytes."""
    complete: bool
    """It reaches as far as it should; else another is due right after it."""


def fold(
    chain: Chain, budget: Budget, known: Sequence[Summary] = (), most: int | None = None
) -> Generator[Read, Sequence[Entry], Fold | None]:
    """The next summary of the chain, None if none is due.

    `chain` ends with a finished turn's entry and reaches back to its anchor. `known`: all summaries of the ref, in the
    order in which they were kept; those of other branches are told apart here. What has left the window without a
    summary comes first, in portions of at most `most` tokens (None: the window's limit)."""
    head = chain.head
    anchor = head.facts.anchor
    if anchor is None or anchor.key != budget.key:
        return None
    base = seen(chain, budget.key)
    reached = base.upto if base else 0
    start = max(anchor.start, reached)
    target = yield from window.ahead(chain, budget, start=start, move=reached < start)
    if target is None:
        return None
    if reached < start and (newer := (yield from _newest(known, reached, start))):
        base, reached = newer, newer.upto
    entries = yield from _between(chain, reached, target)
    upto, entry, items = _portion(entries, reached, target, budget.max_tokens if most is None else most)
    return Fold(base, upto, entry, items, complete=upto == target)


def _newest(known: Sequence[Summary], low: int, high: int) -> Generator[Read, Sequence[Entry], Summary | None]:
    """The summary of the chain itself, no other branch's, that reaches furthest within (low, high]."""
    for summary in sorted((each for each in known if low < each.upto <= high), key=lambda each: -each.upto):
        found = yield Read(summary.upto - 1, summary.upto)
        if found and found[-1].id == summary.entry:
            return summary
    return None


def _between(chain: Chain, first: int, upto: int) -> Generator[Read, Sequence[Entry], tuple[Entry, ...]]:
    """The entries that hold [first, upto)."""
    loaded = chain.entries[0].first
    more: Sequence[Entry] = ()
    if first < loaded:
        more = yield Read(first, loaded)
    return tuple(entry for entry in (*more, *chain.entries) if entry.upto > first and entry.first < upto)


def _portion(
    entries: Sequence[Entry], first: int, upto: int, most: int | None
) -> tuple[int, str, tuple[tuple[Shape, bytes], ...]]:
    """The turns from `first` on that weigh at most `most` tokens, at least one: (where they end, the entry that holds
    the last message, the messages)."""
    items: list[tuple[Shape, bytes]] = []
    ids: list[str] = []
    tokens = end = 0
    # `end`: how many of `items` are whole turns within the limit
    for entry in entries:
        for position, shape, wire in entry.messages():
            if not first <= position < upto:
                continue
            if shape.role == "user" and items:
                if most is not None and tokens > most:
                    end = end or len(items)
                    return first + end, ids[end - 1], tuple(items[:end])
                end = len(items)
            items.append((shape, wire))
            ids.append(entry.id)
            tokens += shape.tokens
    if most is not None and tokens > most and end:
        return first + end, ids[end - 1], tuple(items[:end])
    return upto, ids[-1], _lightened(items, tokens, most)


def _lightened(items: Sequence[tuple[Shape, bytes]], tokens: int, most: int | None) -> tuple[tuple[Shape, bytes], ...]:
    """A turn that alone is too heavy: its opening and its last steps; what is left out is its middle."""
    if most is None or tokens <= most:
        return tuple(items)
    opening = next((n for n, (shape, _) in enumerate(items) if shape.role == "assistant"), len(items))
    left = most - sum(shape.tokens for shape, _ in items[:opening])
    start = len(items)
    step = 0
    for n in range(len(items) - 1, opening - 1, -1):
        step += items[n][0].tokens
        if items[n][0].role == "assistant":
            if step > left and start < len(items):
                break
            left, step, start = left - step, 0, n
    return (*items[:opening], *items[start:])


def paired(anchor: Anchor, summary: str) -> Anchor:
    """The anchor, with the id of the summary that goes with it."""
    return anchor if anchor.summary == summary else Anchor(anchor.key, anchor.start, anchor.resume, summary)
