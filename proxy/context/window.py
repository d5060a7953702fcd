"""Where history is cut: the newest turns that fit; the anchor and its steps.

Pure: a planner that needs more of the chain than was loaded yields a `Read` and is sent the entries. While the anchor
stays where it is, nothing is looked at but sums that the entries carry and the one entry that the anchor falls into.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence
from operator import attrgetter
from typing import NamedTuple

from proxy.context.contract import Budget, Cut, Read, Window
from proxy.conversation.entry import Anchor, Chain, Entry
from proxy.errors import SessionConflict

REACH_SPARE_TOKENS = 2000
"""Read beyond twice the window, so that a small window does not cost a second read for one long message."""
READ_AT_LEAST = 32
"""Messages in one read back; each read doubles what is there."""

_upto = attrgetter("upto")
_tokens_upto = attrgetter("tokens_upto")
_turn = attrgetter("turn")


def anchor_key(policy_key: str, window: Window | None, context_tokens: int | None) -> str:
    """The key of the anchors that are made under these limits; what a load needs before a budget can be made."""
    if window is None or window.max_tokens != "fit":
        return policy_key
    return f"{policy_key}:{context_tokens or 0}"


def reach(window: Window | None, context_tokens: int | None) -> int | None:
    """How many tokens back a load should go where no anchor of this key exists; None: to the root.

    Twice the limit, because the ratio to the upstream's count is only known after the load; `cut` asks for more should
    that not do."""
    most = context_tokens if window and window.max_tokens == "fit" else window.max_tokens if window else None
    return 2 * most + REACH_SPARE_TOKENS if isinstance(most, int) and most else None


def budget(
    policy_key: str, window: Window | None, *, context_tokens: int | None, reserve: int, fixed: int, ratio: float
) -> Budget:
    """What one request leaves for the kept turns, in the counter's own units.

    `context_tokens`: what the model's context holds (None: unknown, then "fit" is no limit), of which `reserve` stay
    free for the reply: both in the upstream's units. `fixed`: preamble, new messages and the request's overhead, in
    the counter's units; it lessens "fit" only. `ratio` (> 0): upstream's tokens for one of the counter's."""
    name = anchor_key(policy_key, window, context_tokens)
    if window is None:
        return Budget(name, None, 1.0, 0)
    limit: int | None = None
    if isinstance(window.max_tokens, str):
        if context_tokens is not None:
            limit = max(0, int((context_tokens - reserve) / ratio) - fixed)
    elif window.max_tokens:
        limit = int(window.max_tokens / ratio)
    return Budget(name, limit, window.trim_to, window.max_turns)


def cut(
    chain: Chain | None, budget: Budget, *, continues: bool, start: int = 0
) -> Generator[Read, Sequence[Entry], Cut]:
    """Where to cut `chain` for a request whose first new message goes on with the last turn (`continues`: that turn is
    under way) or starts one.

    `start`: what is before this position, at which a turn starts, is left out in any case (a summary stands for it).

    The head's anchor stays as long as what it keeps is within the budget. Beyond it, the anchor moves forward in one
    step, to the oldest turn start from which at most `trim_to` of the limit is left. Without an anchor of this
    budget's key: the newest turns that fit the limit itself.

    The kept tokens never exceed the limit, with one exception: of a turn under way its opening and its last step are
    kept whatever they weigh. A finished turn too heavy for its opening and last step is dropped whole. The turn under
    way is no kept turn in the sense of `max_turns`, so that a window by turns does not move in the middle of one.

    Raises SessionConflict if what it asks for does not come (the history was erased meanwhile)."""
    if chain is None:
        return Cut(Anchor(budget.key, 0, 0), 0, 0, 0, "no history")
    line = _Line(chain)
    head, limit, max_turns = line.head, budget.max_tokens, budget.max_turns
    anchor = head.facts.anchor
    if anchor is not None and (anchor.key != budget.key or anchor.resume > head.upto):
        anchor = None
    if start and (anchor is None or start > anchor.start):
        anchor = Anchor(budget.key, start, start)
    if anchor is not None:
        if anchor.resume < line.first:
            yield from line.back_to(anchor.resume)
        # an exchange beside this one may have appended results where a turn was expected to start
        if line.answers(anchor.resume):
            anchor = None
    if anchor is None:
        return (yield from _trim(line, budget, _Aim(continues, None, limit, max_turns, "")))
    opening = _NO_OPENING
    if anchor.resume > anchor.start:
        opening = yield from _open(line, anchor.start)
    tokens = opening.tokens + line.tokens_from(anchor.resume)
    over_tokens = limit is not None and tokens > limit
    turns = line.turns_from(anchor.resume) - continues if max_turns else 0
    over_turns = turns > max_turns
    if not (over_tokens or over_turns):
        return line.cut(anchor, opening, tokens, _within(anchor.start, tokens, limit, turns, max_turns))
    over = [f"{tokens} > {limit} tokens"] if over_tokens else []
    if over_turns:
        over.append(f"{turns} > {max_turns} turns")
    if over_tokens and limit is not None:
        limit = int(limit * budget.trim_to)
    if over_turns:
        max_turns = max(1, int(max_turns * budget.trim_to))
    return (yield from _trim(line, budget, _Aim(continues, anchor, limit, max_turns, " and ".join(over), opening)))


def ahead(chain: Chain, budget: Budget, *, start: int, move: bool) -> Generator[Read, Sequence[Entry], int | None]:
    """Where the window should start after `chain`, so that one more turn of the usual size fits behind what it keeps
    from `start` on: a turn's start behind `start`. None if such a turn fits already, or only the last turn is left. The
    last turn is kept as long as it fits by itself; else the position after the head is named. `move`: name the next
    turn's start even where all fits."""
    line = _Line(chain)
    if start < line.first:
        yield from line.back_to(start)
    tokens, turns, limit = line.tokens_from(start), line.turns_from(start), budget.max_tokens
    usual = tokens // turns if turns else 0
    floor, number, due = 0, 1, move
    if limit is not None and turns and tokens + usual > limit:
        floor = line.head.tokens_upto - max(0, min(int(limit * budget.trim_to), limit - usual))
        due = True
    if budget.max_turns and turns + 1 > budget.max_turns:
        number = max(1, line.head.turn) - max(1, int(budget.max_turns * budget.trim_to)) + 1
        due = True
    if not due or start == line.head.upto:
        return None
    found = yield from _turn_start(line, floor, number, start + 1)
    if found is not None:
        return found
    last = line.head.facts.turn_start
    if limit is not None and line.tokens_from(max(last, start)) > limit:
        return line.head.upto
    return last if last > start else None


def only_from(cut: Cut, first: int) -> Cut:
    """`cut` without what it keeps before position `first`, which starts a turn: for a client to which nothing is put
    back that it left out. The anchor of the result is not for inheriting."""
    if first <= cut.anchor.start or not cut.entries:
        return cut
    entries = tuple([entry for entry in cut.entries if entry.upto > first])
    upto, tokens = cut.entries[-1].upto, 0
    if entries:
        into = entries[0].facts.shapes[: max(0, first - entries[0].first)]
        tokens = sum([entry.tokens for entry in entries]) - sum([shape.tokens for shape in into])
    why = f"{cut.why}; {tokens} that the client sent"
    anchor = Anchor(cut.anchor.key, first, first)
    return Cut(anchor, upto - first, cut.kept + cut.dropped - (upto - first), tokens, why, entries)


def _within(start: int, tokens: int, limit: int | None, turns: int, max_turns: int) -> str:
    kept = "kept" if start else "kept all"
    if not max_turns:
        return f"{kept}: no limit" if limit is None else f"{kept}: {tokens} of at most {limit} tokens"
    by_turns = f"{max(0, turns)} of at most {max_turns} turns"
    return f"{kept}: {by_turns}" if limit is None else f"{kept}: {tokens} of at most {limit} tokens, {by_turns}"


class _Opening(NamedTuple):
    entries: tuple[Entry, ...]
    upto: int
    tokens: int


_NO_OPENING = _Opening((), 0, 0)


class _Aim(NamedTuple):
    """What a new cut is to reach."""

    continues: bool
    since: Anchor | None
    """It may not go back behind this one."""
    tokens: int | None
    turns: int
    over: str
    """The limits that were exceeded, in figures."""
    opening: _Opening = _NO_OPENING
    """Of `since`, as it was read."""


class _Line:
    """The chain as far as it was read, which may grow towards the root."""

    __slots__ = ("entries", "first", "head")

    def __init__(self, chain: Chain) -> None:
        self.head = chain.head
        self.entries = chain.entries
        self.first = chain.entries[0].first

    def back_to(self, position: int) -> Generator[Read, Sequence[Entry], None]:
        """Reads on until `position` is there."""
        more = yield Read(position, self.first)
        if not more or more[-1].upto != self.first or more[0].first > position:
            raise SessionConflict("The session's history was erased while it was read; send the request again.")
        self.entries = (*more, *self.entries)
        self.first = more[0].first

    def older(self) -> Generator[Read, Sequence[Entry], None]:
        return self.back_to(max(0, self.first - max(READ_AT_LEAST, self.head.upto - self.first)))

    def at(self, position: int) -> int:
        """The index of the entry that holds `position`; behind the last for the position after the head."""
        return 0 if self.entries[0].upto > position else bisect_right(self.entries, position, key=_upto)

    def answers(self, position: int) -> bool:
        """What stands at `position` is a tool's result."""
        if not position or position == self.head.upto:
            return False
        entry = self.entries[self.at(position)]
        return bool(entry.facts.shapes[position - entry.first].answers)

    def tokens_from(self, position: int) -> int:
        """Tokens from `position` to the head."""
        if position == self.head.upto:
            return 0
        entry = self.entries[self.at(position)]
        tokens = self.head.tokens_upto - entry.tokens_upto + entry.tokens
        if into := position - entry.first:
            tokens -= sum([shape.tokens for shape in entry.facts.shapes[:into]])
        return tokens

    def users_before(self, position: int) -> int:
        """User messages on the chain before `position`."""
        if position == self.head.upto:
            return self.head.turn
        entry = self.entries[self.at(position)]
        return entry.turn - sum([shape.role == "user" for shape in entry.facts.shapes[position - entry.first :]])

    def turns_from(self, position: int) -> int:
        """Turns from the one that `position` belongs to, to the last."""
        if position == self.head.upto:
            return 0
        before = self.users_before(position)
        entry = self.entries[self.at(position)]
        own = before + (entry.facts.shapes[position - entry.first].role == "user")
        return max(1, self.head.turn) - max(1, own) + 1

    def cut(self, anchor: Anchor, opening: _Opening, tokens: int, why: str) -> Cut:
        upto, start, resume = self.head.upto, anchor.start, anchor.resume
        kept = upto - resume
        if resume > start:
            kept += opening.upto - start
        entries = self.entries[self.at(resume) :]
        return Cut(anchor, kept, upto - kept, tokens, why, entries, opening.entries, opening.upto)


def _trim(line: _Line, budget: Budget, aim: _Aim) -> Generator[Read, Sequence[Entry], Cut]:
    """Moves the anchor to the oldest turn start from which at most `aim.tokens` and `aim.turns` are left; where there
    is none, into the last turn."""
    head, since = line.head, aim.since
    floor = 0 if aim.tokens is None else head.tokens_upto - aim.tokens
    number = max(1, head.turn) - aim.continues - aim.turns + 1 if aim.turns else 1
    start = yield from _turn_start(line, floor, number, since.resume if since else 0)
    if start is None:
        return (yield from _inside(line, budget, aim))
    if start < line.first:
        yield from line.back_to(start)
    tokens = line.tokens_from(start)
    left = line.turns_from(start) - aim.continues
    if aim.over:
        goals = [f"{tokens} of at most {aim.tokens}"] if "tokens" in aim.over else []
        if "turns" in aim.over:
            goals.append(f"{left} of at most {aim.turns}")
        why = f"cut back: {aim.over}, to {' and '.join(goals)}"
    else:
        why = _within(start, tokens, aim.tokens, left, aim.turns)
    return line.cut(Anchor(budget.key, start, start), _NO_OPENING, tokens, why)


def _inside(line: _Line, budget: Budget, aim: _Aim) -> Generator[Read, Sequence[Entry], Cut]:
    """Cuts where the last turn alone is more than was aimed at."""
    since = aim.since
    head, limit = line.head, budget.max_tokens or 0
    last = max(head.facts.turn_start, since.start if since else 0)
    prefix = f"cut back: {aim.over}, " if aim.over else ""
    whole = Anchor(budget.key, last, last)
    opening = aim.opening
    if since is None or since.start < last or since.resume == last:
        while line.first > last and line.tokens_from(line.first) <= limit:
            yield from line.older()
        if line.first <= last and (tokens := line.tokens_from(last)) <= limit:
            return line.cut(whole, _NO_OPENING, tokens, f"{prefix}to the last turn: {tokens} of at most {limit}")
        # where no user has spoken there is no message that a cut must spare
        opening = (yield from _open(line, last)) if head.turn else _Opening((), last, 0)
    goal = int(limit * budget.trim_to)
    step = yield from _step(line, head.tokens_upto + opening.tokens - goal, opening.upto)
    if step is None:
        step = yield from _last_step(line, opening.upto)
        tokens = opening.tokens + (line.tokens_from(step) if step is not None else 0)
        if tokens > limit and not aim.continues:
            why = f"{prefix}to nothing: the last turn's opening and last step are {tokens} > {limit} tokens"
            return line.cut(Anchor(budget.key, head.upto, head.upto), _NO_OPENING, 0, why)
    if step is None or step == opening.upto:
        if last < line.first:
            yield from line.back_to(last)
        tokens = line.tokens_from(last)
        why = f"{prefix}to the turn under way, which has no steps to drop: {tokens} > {limit} tokens"
        return line.cut(whole, _NO_OPENING, tokens, why)
    tokens = opening.tokens + line.tokens_from(step)
    against = f"of at most {goal}" if tokens <= goal else f"of at most {limit}" if tokens <= limit else f"> {limit}"
    anchor = Anchor(budget.key, last if head.turn else step, step)
    why = f"{prefix}inside the last turn: its opening and last steps are {tokens} {against} tokens"
    return line.cut(anchor, opening if head.turn else _NO_OPENING, tokens, why)


def _turn_start(line: _Line, floor: int, number: int, lower: int) -> Generator[Read, Sequence[Entry], int | None]:
    """The oldest start of a turn, at `lower` or later, that has at least `floor` tokens before it and whose turn has
    at least this `number`; it may be further back than the line."""
    if not lower and floor <= 0 and number <= 1:
        return 0
    while line.first > lower:
        if line.head.tokens_upto - line.tokens_from(line.first) < floor or line.users_before(line.first) < number:
            break
        yield from line.older()
    entries = line.entries
    index = max(bisect_left(entries, floor, key=_tokens_upto), bisect_left(entries, number, key=_turn))
    turns = entries[index - 1].turn if index else -1
    for entry in entries[index:]:
        if entry.turn != turns:
            before, users = entry.tokens_upto - entry.tokens, line.users_before(entry.first)
            for position, shape in enumerate(entry.facts.shapes, entry.first):
                if shape.role == "user":
                    users += 1
                    # the first user's message does not start its turn: what stands before it does
                    if users > 1 and position >= lower and before >= floor and users >= number:
                        return position
                before += shape.tokens
        turns = entry.turn
    return None


def _open(line: _Line, start: int) -> Generator[Read, Sequence[Entry], _Opening]:
    """The opening of the turn at `start`: up to the first assistant message after the user's."""
    held: list[Entry] = []
    tokens, position, user = 0, start, None
    while position < line.head.upto:
        if position >= line.first:
            entry = line.entries[line.at(position)]
        else:
            found = yield Read(position, position + 1)
            if len(found) != 1 or not found[0].first <= position < found[0].upto:
                raise SessionConflict("The session's history was erased while it was read; send the request again.")
            entry = found[0]
        shapes = entry.facts.shapes[position - entry.first :]
        if user is None:
            user = entry.turn > sum([shape.role == "user" for shape in shapes])
        for at, shape in enumerate(shapes, position):
            if user and shape.role == "assistant":
                return _Opening((*held, entry) if at > entry.first else tuple(held), at, tokens)
            user = user or shape.role == "user"
            tokens += shape.tokens
        held.append(entry)
        position = entry.upto
    return _Opening(tuple(held), position, tokens)


def _step(line: _Line, floor: int, lower: int) -> Generator[Read, Sequence[Entry], int | None]:
    """The oldest assistant message, at `lower` or later, that has at least `floor` tokens before it."""
    while line.first > lower and line.head.tokens_upto - line.tokens_from(line.first) >= floor:
        yield from line.older()
    entries = line.entries
    for entry in entries[bisect_left(entries, floor, key=_tokens_upto) :]:
        before = entry.tokens_upto - entry.tokens
        for position, shape in enumerate(entry.facts.shapes, entry.first):
            if shape.role == "assistant" and position >= lower and before >= floor:
                return position
            before += shape.tokens
    return None


def _last_step(line: _Line, lower: int) -> Generator[Read, Sequence[Entry], int | None]:
    """The newest assistant message, at `lower` or later."""
    position = line.head.upto
    while position > lower:
        if position <= line.first:
            yield from line.older()
        entry = line.entries[line.at(position - 1)]
        for shape in reversed(entry.facts.shapes):
            position -= 1
            if shape.role == "assistant":
                return position if position >= lower else None
    return None
