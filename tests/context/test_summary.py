"""What leaves the window is in a summary; summary and anchor are a pair; nothing fades, nothing is told twice."""

from collections.abc import Generator, Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.context import summary as rolling
from proxy.context.contract import Budget, Read, Window
from proxy.context.window import budget, cut
from proxy.conversation.entry import Anchor, Chain
from proxy.conversation.summary import Summary
from tests.context.history import History, message

KEY = "key"


class Session:
    """Turns, and summaries that are made or fail as told, as an exchange and the work after it would have them."""

    def __init__(self, window: Window) -> None:
        self.room: Budget = budget(KEY, window, context_tokens=None, reserve=0, fixed=0, ratio=1.0)
        self.history = History()
        self.head = ""
        self.kept: list[Summary] = []
        self.handed: list[tuple[int, int]] = []
        self.seen: Summary | None = None

    @property
    def last(self) -> int:
        """Where the last turn starts."""
        return self.history.entries[self.head].facts.turn_start if self.head else 0

    def chain(self) -> Chain | None:
        chain = self.history.load(self.head, key=KEY, reach=None)
        if chain is None:
            return None
        anchor = chain.head.facts.anchor
        ids = {entry.id for entry in chain.entries}
        shown = tuple(s for s in self.kept if s.entry in ids or (anchor is not None and s.id == anchor.summary))
        return msgspec.structs.replace(chain, summaries=shown)

    def drive(self, steps: Generator[Read, Sequence[Any], Any]) -> Any:
        answer: Sequence[Any] | None = None
        while True:
            try:
                need = next(steps) if answer is None else steps.send(answer)
            except StopIteration as stop:
                return stop.value
            answer = self.history.read(self.head, need)

    def turn(self, tokens: Sequence[int]) -> tuple[Anchor, int]:
        """(anchor, tokens) of the window that the turn saw; then it is recorded."""
        chain = self.chain()
        self.seen = rolling.seen(chain, KEY)
        start = self.seen.upto if self.seen else 0
        here = self.drive(cut(chain, self.room, continues=False, start=start))
        anchor = rolling.paired(here.anchor, self.seen.id if self.seen else "")
        roles = ["user", *["assistant"] * (len(tokens) - 1)]
        entry = self.history.append(self.head, [message(role, "x") for role in roles], tokens, anchor)
        self.head = entry.id
        return here.anchor, here.tokens

    def fold(self) -> rolling.Fold | None:
        chain = self.chain()
        assert chain is not None
        found: rolling.Fold | None = self.drive(rolling.fold(chain, self.room, self.kept))
        return found

    def keep(self, fold: rolling.Fold) -> Summary:
        base = fold.base
        made = Summary(
            id=f"{len(self.kept) + 1:032x}",
            entry=fold.entry,
            upto=fold.upto,
            text="t",
            tokens=1,
            generation=base.generation + 1 if base else 1,
            before=base.id if base else "",
            model="m",
            at_ms=1,
        )
        self.kept.append(made)
        self.handed.append((base.upto if base else 0, fold.upto))
        return made

    def reflect(self) -> None:
        """As often as the work after one reply would."""
        while (fold := self.fold()) is not None:
            self.keep(fold)
            if fold.complete:
                return


turns = st.lists(st.lists(st.integers(1, 60), min_size=2, max_size=5), min_size=1, max_size=40)
windows = st.one_of(
    st.builds(Window, max_tokens=st.integers(20, 300), trim_to=st.sampled_from([0.3, 0.5, 0.8, 1.0])),
    st.builds(Window, max_turns=st.integers(1, 6), trim_to=st.sampled_from([0.5, 1.0])),
)


@given(turns, windows, st.data())
@settings(max_examples=300, deadline=None)
def test_every_message_is_shown_or_summarised_or_missing_only_while_summaries_fail(
    script: list[list[int]], window: Window, data: st.DataObject
) -> None:
    session = Session(window)
    failing = False
    for tokens in script:
        before = session.history.entries[session.head].upto if session.head else 0
        last = session.last
        anchor, kept = session.turn(tokens)
        covered = session.seen.upto if session.seen else 0
        assert covered <= anchor.start <= before
        if session.room.max_tokens is not None:
            assert kept <= session.room.max_tokens
        if not failing:
            # where the last turn alone is left, there is no step to make before the next
            assert covered == anchor.start or anchor.start >= last
        failing = data.draw(st.booleans())
        if not failing:
            session.reflect()
    session.reflect()
    last = session.last
    anchor, _ = session.turn([1, 1])
    # whatever failed, what is not shown is now summarised
    assert anchor.start == (session.seen.upto if session.seen else 0) or anchor.start >= last


@given(turns, windows, st.data())
@settings(max_examples=200, deadline=None)
def test_each_summary_goes_on_where_the_one_before_ended(
    script: list[list[int]], window: Window, data: st.DataObject
) -> None:
    session = Session(window)
    for tokens in script:
        session.turn(tokens)
        if data.draw(st.booleans()) and (fold := session.fold()) is not None:
            chain = session.history.chain(session.head)
            entry = next(each for each in chain if each.first < fold.upto <= each.upto)
            assert entry.id == fold.entry
            first = fold.base.upto if fold.base else 0
            said = [each.wire for each, _ in session.history.said[session.head]][first : fold.upto]
            handed = [wire for _, wire in fold.items]
            weight = sum(tokens for _, tokens in session.history.said[session.head][first : fold.upto])
            if session.room.max_tokens is None or weight <= session.room.max_tokens:
                assert handed == said
            else:
                # one turn that is too heavy: its beginning and its end
                assert handed[0] == said[0]
                assert handed[-1] == said[-1]
            following = [m.role for m, _ in session.history.said[session.head]][fold.upto : fold.upto + 1]
            assert following in ([], ["user"])
            session.keep(fold)
    assert all(first < upto for first, upto in session.handed)
    assert [s.generation for s in session.kept if not s.before] == [1] * sum(not s.before for s in session.kept)


def test_it_is_begun_when_one_more_turn_of_the_usual_size_would_not_fit() -> None:
    session = Session(Window(max_tokens=100, trim_to=0.5))
    begun = []
    for n in range(1, 10):
        session.turn([10, 10])
        fold = session.fold()
        begun.append(fold is not None)
        if fold is not None:
            assert (n, fold.upto, fold.complete) == (5, 6, True)
            break
    assert begun == [False] * 4 + [True]


def test_summary_and_anchor_change_in_one_step() -> None:
    session = Session(Window(max_tokens=100, trim_to=0.5))
    anchors = []
    for _ in range(12):
        anchor, _ = session.turn([10, 10])
        anchors.append((anchor.start, session.seen.upto if session.seen else 0))
        session.reflect()
    assert anchors == [(at, at) for at, _ in anchors]
    assert [at for at, _ in anchors] == [0, 0, 0, 0, 0, 6, 6, 6, 12, 12, 12, 18]


def test_what_failures_left_out_is_handed_over_in_portions_of_the_window() -> None:
    session = Session(Window(max_tokens=100, trim_to=0.5))
    for _ in range(30):
        session.turn([10, 10])
    session.reflect()
    assert session.handed[0] == (0, 10)
    assert [first for first, _ in session.handed[1:]] == [upto for _, upto in session.handed[:-1]]
    assert len(session.handed) == len(range(0, session.handed[-1][1], 10))
    anchor, _ = session.turn([10, 10])
    assert session.seen is not None
    assert anchor.start == session.seen.upto


def test_a_portion_takes_one_turn_at_least() -> None:
    session = Session(Window(max_tokens=100, trim_to=0.5))
    session.turn([90, 90])
    session.turn([10, 10])
    # the last turn is never dropped for a summary's sake
    assert session.fold() is None
    session.turn([10, 10])
    fold = session.fold()
    assert fold is not None
    assert fold.upto == 2
    assert len(fold.items) == 2


def test_the_summary_of_another_branch_is_not_gone_on_from() -> None:
    session = Session(Window(max_tokens=100, trim_to=0.5))
    for _ in range(3):
        session.turn([10, 10])
    fork = session.head
    for _ in range(6):
        session.turn([10, 10])
        session.reflect()
    assert session.kept[-1].upto > 6
    session.head = fork
    for _ in range(8):
        session.turn([10, 10])
    session.kept = [s for s in session.kept if s.upto > 6]
    fold = session.fold()
    assert fold is not None
    assert fold.base is None


def test_the_prompt_says_the_limit_and_leaves_other_braces() -> None:
    assert rolling.prompt('{"a": 1} {max_tokens} {max_words}', 100) == '{"a": 1} 100 60'
    assert "{" not in rolling.prompt("", 800)
    assert "480" in rolling.prompt("", 800)


@given(st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=3), min_size=2, max_size=12), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_last_turn_is_kept_as_long_as_it_fits(script: list[list[int]], by_turns: bool) -> None:
    session = Session(Window(max_turns=1) if by_turns else Window(max_tokens=100, trim_to=0.3))
    before = 0
    for tokens in script:
        _, kept = session.turn(tokens)
        if by_turns or before <= 100:
            assert kept >= before
        before = sum(tokens)
        session.reflect()
