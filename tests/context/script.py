"""Random conversations: what a client might send next after any history, and what the model might reply."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from hypothesis import strategies as st

from proxy.context.contract import Budget, Window
from proxy.context.window import budget
from proxy.conversation.entry import Entry
from proxy.conversation.message import Message
from tests.context.history import History, message

EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "150"))


@dataclass(frozen=True)
class Move:
    """One exchange, as numbers from which `request` and `reply` make messages that suit the history."""

    kind: str
    calls: int
    """That the reply makes; -1: no reply was read."""
    pick: int
    size: int
    back: int
    """0: goes on from the newest entry; else from this many entries before it, as a branch."""
    reuse: bool
    """The reply's calls have ids that were used before."""


_LIKELY = ("user", "user", "user", "answer", "answer", "answer")
_ODD = ("some", "late", "late_user", "users", "system", "import", "nothing", "walk_past")


def moves(*, odd: bool = True, most: int = 14) -> st.SearchStrategy[list[Move]]:
    return st.lists(
        st.builds(
            Move,
            kind=st.sampled_from(_LIKELY + _ODD if odd else _LIKELY),
            calls=st.sampled_from((0, 0, 1, 2, 3, -1) if odd else (0, 0, 1, 2, 3)),
            pick=st.integers(0, 23),
            size=st.integers(0 if odd else 1, 40),
            back=st.sampled_from((0, 0, 0, 0, 0, 0, 1, 3)) if odd else st.just(0),
            reuse=st.integers(0, 5).map(lambda n: n == 0) if odd else st.just(value=False),
        ),
        min_size=1,
        max_size=most,
    )


windows = st.builds(
    Window,
    max_tokens=st.one_of(st.integers(0, 260), st.just("fit")),
    trim_to=st.sampled_from((0.1, 0.3, 0.5, 0.8, 1.0)),
    max_turns=st.one_of(st.just(0), st.integers(1, 6)),
)


@dataclass(frozen=True)
class Exchange:
    """What `play` hands to a test before the exchange is recorded."""

    head: str
    parent: Entry | None
    new: list[Message]
    tokens: list[int]
    continues: bool
    budget: Budget
    move: Move


def play(history: History, script: list[Move], window: Window | None, context_tokens: int = 150) -> Iterator[Exchange]:
    """Each exchange of the script. The test appends to `history` what follows, by `record`."""
    order: list[str] = [""]
    for move in script:
        head = order[max(0, len(order) - 1 - move.back)]
        parent = history.entries.get(head)
        new = request(parent, move)
        tokens = [(move.size * 7 + at * 5) % 41 for at in range(len(new))]
        # now and then another policy's, so that anchors are made anew in the middle of a conversation
        key = "q" if move.pick % 5 == 4 else "p"
        room = budget(key, window, context_tokens=context_tokens, reserve=5, fixed=move.pick, ratio=1.0)
        yield Exchange(head, parent, new, tokens, not new or new[0].role != "user", room, move)
        added = [entry for entry in history.entries if entry not in order]
        order += added


def request(parent: Entry | None, move: Move) -> list[Message]:
    facts = parent.facts if parent else None
    open, missed = (facts.open, facts.missed) if facts else ((), ())
    results = [message("tool", f"result {move.pick}", answers=call) for call in dict.fromkeys(open)]
    orders = list(permutations(results))
    ordered = list(orders[move.pick % len(orders)])
    user = message("user", f"user {move.size} {move.pick}")
    late = [message("tool", "late", answers=missed[move.pick % len(missed)])] if missed else []
    match move.kind:
        case "answer" if ordered:
            return ordered
        case "some" if ordered:
            return ordered[: 1 + move.pick % len(ordered)]
        case "walk_past":
            return [user]
        case "late" if late:
            return [*(ordered if move.pick % 2 else []), *late]
        case "late_user" if late:
            return [*late, user] if move.pick % 2 else [user, *late]
        case "users":
            return [*ordered, user, user]
        case "system":
            return [*ordered, message("system", "mid"), user] if move.pick % 2 else [message("system", "mid")]
        case "nothing":
            return []
        case "import":
            return [
                *ordered,
                *([message("assistant", "hello")] if move.pick % 3 == 0 else []),
                user,
                message("assistant", "a"),
                message("user", "b"),
                message("assistant", calls=["i1", "i2"]),
                message("tool", "2", answers="i2"),
                message("tool", "1", answers="i1"),
                message("assistant", "c"),
                message("user", "d"),
            ]
        case _:
            return [*ordered, user]


def reply(exchange: Exchange) -> list[Message]:
    move = exchange.move
    if move.calls < 0 and exchange.new:
        return []
    upto = exchange.parent.upto if exchange.parent else 0
    prefix = "again" if move.reuse else f"c{upto}"
    return [message("assistant", f"reply {move.size}", calls=[f"{prefix}.{n}" for n in range(max(0, move.calls))])]
