"""The laws of the window: what is kept, what it weighs, and how seldom its start moves."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.context.contract import Budget, Cut, Read, Window
from proxy.context.window import REACH_SPARE_TOKENS, anchor_key, budget, cut, only_from, reach
from proxy.conversation.entry import Anchor, Chain
from proxy.conversation.message import Message
from proxy.errors import SessionConflict
from tests.context.history import History, kept_positions, message
from tests.context.script import EXAMPLES, Move, moves, play, reply, windows

Said = tuple[tuple[Message, int], ...]


def expected(said: Said, inherited: Anchor | None, room: Budget, *, continues: bool) -> Anchor:
    """The same decision made the slow way, over all messages of the history."""
    n = len(said)
    users = [0]
    for each, _ in said:
        users.append(users[-1] + (each.role == "user"))
    starts = [0] + [at for at in range(n) if said[at][0].role == "user" and users[at] > 0]

    def weight(first: int) -> int:
        return sum(tokens for _, tokens in said[first:])

    def opened(start: int) -> int:
        seen = users[start] > 0
        for at in range(start, n):
            if seen and said[at][0].role == "assistant":
                return at
            seen = seen or said[at][0].role == "user"
        return n

    def kept(start: int, resume: int) -> int:
        return weight(resume) + (weight(start) - weight(opened(start)) if resume > start else 0)

    def turns(at: int) -> int:
        return 0 if at == n else max(1, users[n]) - max(1, users[at + 1]) + 1 - continues

    def anchor(start: int, resume: int) -> Anchor:
        return Anchor(room.key, start, resume)

    most, most_turns, lower = room.max_tokens, room.max_turns, 0
    if inherited and inherited.key == room.key:
        now = kept(inherited.start, inherited.resume)
        heavy = most is not None and now > most
        many = bool(most_turns) and turns(inherited.resume) > most_turns
        if not heavy and not many:
            return inherited
        lower = inherited.resume
        if heavy and most is not None:
            most = int(most * room.trim_to)
        if many:
            most_turns = max(1, int(most_turns * room.trim_to))
    for start in starts:
        light = most is None or weight(start) <= most
        if start >= lower and light and (not most_turns or turns(start) <= most_turns):
            return anchor(start, start)
    assert room.max_tokens is not None
    last = max(starts[-1], inherited.start if inherited and inherited.key == room.key else 0)
    if weight(last) <= room.max_tokens and (lower <= last):
        return anchor(last, last)
    spoken = users[n] > 0
    opening = opened(last) if spoken else last
    steps = [at for at in range(max(opening, lower), n) if said[at][0].role == "assistant"]
    heft = weight(last) - weight(opening)
    found = next((at for at in steps if heft + weight(at) <= int(room.max_tokens * room.trim_to)), None)
    if found is None and steps:
        found = steps[-1]
    if not continues and heft + (weight(found) if found is not None else 0) > room.max_tokens:
        return anchor(n, n)
    if found is None or found == opening:
        return anchor(last, last)
    return anchor(last if spoken else found, found)


def check(history: History, head: str, room: Budget, found: Cut, *, continues: bool) -> None:
    said = history.said[head]
    parent = history.entries.get(head)
    inherited = parent.facts.anchor if parent else None
    anchor = found.anchor
    positions = kept_positions(found, len(said))
    assert positions == sorted(set(positions)), "what is kept is a subsequence of history"
    assert (found.kept, found.dropped) == (len(positions), len(said) - len(positions))
    assert found.tokens == sum(said[at][1] for at in positions)
    last_assistant = max((at for at, (each, _) in enumerate(said) if each.role == "assistant"), default=0)
    if room.max_tokens is not None and found.tokens > room.max_tokens:
        assert continues, "only a turn under way may weigh more than the limit"
        assert anchor.resume >= last_assistant or anchor.resume == anchor.start, "and then only by its last step"
        assert sum(each.role == "user" for each, _ in said[anchor.start :]) <= 1, "nothing but the last turn is kept"
    if room.max_turns:
        users = sum(said[at][0].role == "user" for at in positions)
        assert users <= room.max_turns + continues
    if continues and (opener := max((at for at, (each, _) in enumerate(said) if each.role == "user"), default=None)):
        assert opener in positions, "the user's message of the turn under way is always there"
    if inherited and inherited.key == room.key:
        assert (anchor.start, anchor.resume) >= (inherited.start, inherited.resume), "the anchor never goes back"
    assert anchor == expected(said, inherited, room, continues=continues)
    held = [entry.id for entry in found.entries]
    chain = history.chain(head)
    assert held == [entry.id for entry in chain if entry.upto > anchor.resume]
    if anchor.resume > anchor.start:
        opening = [entry.id for entry in chain if entry.upto > anchor.start and entry.first < found.opened]
        assert [entry.id for entry in found.opening] == opening


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(moves(), windows, st.integers(0, 300))
def test_cut_keeps_its_laws_on_any_conversation(script: list[Move], window: Window, reaches: int) -> None:
    """Any conversation, under any window, however much of it was loaded."""
    history = History()
    for exchange in play(history, script, window):
        head, room, continues = exchange.head, exchange.budget, exchange.continues
        _, found = history.cut(head, room, continues=continues, reach=reaches)
        check(history, head, room, found, continues=continues)
        for more in (1, 100):
            _, again = history.cut(head, room, continues=continues, reach=reaches, more=more)
            assert again == found, "loading more changes nothing"
        answer = reply(exchange)
        tokens = [*exchange.tokens, *[exchange.move.size] * len(answer)]
        history.append(head, [*exchange.new, *answer], tokens, found.anchor)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 30), min_size=2, max_size=6), min_size=5, max_size=80),
    st.integers(60, 400),
    st.sampled_from((0.3, 0.5, 0.8)),
)
def test_anchor_moves_seldom(turns: list[list[int]], limit: int, trim_to: float) -> None:
    """With turns that fit `trim_to * max_tokens`, at most once for each `(1 - trim_to) * max_tokens` tokens."""
    room = Budget("p", limit, trim_to, 0)
    history, head, moved = History(), "", [0]
    start = 0
    for sizes in turns:
        fitting: list[int] = []
        for size in sizes:
            if sum(fitting) + size <= int(limit * trim_to):
                fitting.append(size)
        for at in range(0, len(fitting) - 1, 2):
            _, found = history.cut(head, room, continues=at > 0)
            if found.anchor.start != start:
                start = found.anchor.start
                moved.append(history.entries[head].tokens_upto)
            assert found.tokens <= limit
            assert found.anchor.resume == start, "a turn that fits is never cut inside"
            last = at + 3 >= len(fitting)
            ask = message("tool", answers=f"c{at - 2}") if at else message("user", "u")
            tell = message("assistant", calls=() if last else (f"c{at}",))
            head = history.append(head, [ask, tell], fitting[at : at + 2], found.anchor).id
    assert all(late - early > limit - int(limit * trim_to) for early, late in pairwise(moved))


def plain(history: History, head: str, count: int, tokens: tuple[int, int], room: Budget) -> str:
    """Appends turns of one user message and one reply."""
    for at in range(count):
        _, found = history.cut(head, room, continues=False)
        messages = [message("user", str(at)), message("assistant", str(at))]
        head = history.append(head, messages, tokens, found.anchor).id
    return head


def test_window_that_fits_is_kept_from_the_root() -> None:
    history = History()
    room = Budget("p", 100, 0.5, 0)
    head = plain(history, "", 10, (4, 6), room)
    _, found = history.cut(head, room, continues=False)
    assert (found.anchor, found.kept, found.dropped) == (Anchor("p", 0, 0), 20, 0)
    assert found.why == "kept all: 100 of at most 100 tokens"


def test_window_is_cut_back_to_its_share() -> None:
    history = History()
    room = Budget("p", 100, 0.5, 0)
    head = plain(history, "", 11, (4, 6), room)
    _, found = history.cut(head, room, continues=False)
    assert (found.anchor, found.kept, found.dropped, found.tokens) == (Anchor("p", 12, 12), 10, 12, 50)
    assert found.why == "cut back: 110 > 100 tokens, to 50 of at most 50"
    head = plain(history, head, 1, (4, 6), room)
    _, found = history.cut(head, room, continues=False)
    assert found.why == "kept: 60 of at most 100 tokens"


def test_window_by_turns_is_cut_back_to_its_share() -> None:
    history = History()
    room = Budget("p", None, 0.5, 8)
    head = plain(history, "", 9, (4, 6), room)
    _, found = history.cut(head, room, continues=False)
    assert (found.anchor, found.kept) == (Anchor("p", 10, 10), 8)
    assert found.why == "cut back: 9 > 8 turns, to 4 of at most 4"


def test_window_by_turns_stays_during_a_turn() -> None:
    """The turn under way is the request's own, so its tool results find the same turns before them."""
    history = History()
    room = Budget("p", None, 0.5, 3)
    head = plain(history, "", 3, (4, 6), room)
    _, before = history.cut(head, room, continues=False)
    for at in range(5):
        first = message("tool", answers=f"c{at}") if at else message("user")
        head = history.append(head, [first, message("assistant", calls=[f"c{at + 1}"])], [1, 1], before.anchor).id
        _, during = history.cut(head, room, continues=True)
        assert during.anchor == before.anchor


def test_what_stands_before_the_first_user_is_no_turn_of_its_own() -> None:
    history, room = History(), Budget("p", None, 0.5, 2)
    head = history.append("", [message("assistant", "hello")], [1], Anchor("p", 0, 0)).id
    head = plain(history, head, 2, (4, 6), room)
    _, found = history.cut(head, room, continues=False)
    assert (found.anchor, found.kept) == (Anchor("p", 0, 0), 5)
    head = plain(history, head, 1, (4, 6), room)
    _, found = history.cut(head, room, continues=False)
    assert (found.anchor, found.kept) == (Anchor("p", 5, 5), 2)


def test_last_turn_is_kept_whole_where_the_limit_holds_it_and_its_share_does_not() -> None:
    history = History()
    room = Budget("p", 100, 0.5, 0)
    head = plain(history, "", 9, (4, 6), room)
    head = plain(history, head, 1, (10, 70), room)
    _, found = history.cut(head, room, continues=False)
    assert (found.anchor, found.tokens) == (Anchor("p", 18, 18), 80)
    assert found.why == "cut back: 170 > 100 tokens, to the last turn: 80 of at most 100"


def test_finished_turn_that_cannot_be_held_is_dropped_whole() -> None:
    history = History()
    room = Budget("p", 100, 0.5, 0)
    head = plain(history, plain(history, "", 3, (4, 6), room), 1, (50, 51), room)
    _, found = history.cut(head, room, continues=False)
    assert (found.anchor, found.kept, found.tokens, found.entries) == (Anchor("p", 8, 8), 0, 0, ())
    head = history.append(head, [message("user"), message("assistant")], [4, 6], found.anchor).id
    _, found = history.cut(head, room, continues=False)
    assert (found.anchor, found.kept, found.tokens) == (Anchor("p", 8, 8), 2, 10)


@pytest.mark.parametrize("trim_to", [0.2, 0.5, 1.0])
def test_turn_of_150_steps_that_alone_exceeds_the_window(trim_to: float) -> None:
    """It keeps its opening and its newest steps; each request reads a bounded part of it."""
    limit = 400
    room = Budget("p", limit, trim_to, 0)
    history = History()
    head = plain(history, "", 5, (4, 6), room)
    moves_made, anchor = 0, Anchor("p", 0, 0)
    for step in range(150):
        chain, found = history.cut(head, room, continues=step > 0, reach=2 * limit)
        moves_made += found.anchor != anchor
        anchor = found.anchor
        assert found.tokens <= limit
        positions = kept_positions(found, chain.head.upto if chain else 0)
        if step:
            assert 10 in positions, "the user's message"
            assert chain
            assert len(chain.entries) <= limit // 25 + 5, "cost follows the window"
        ask = message("tool", answers=f"c{step - 1}") if step else message("user", "do it")
        messages = [ask, message("assistant", calls=(f"c{step}",) if step < 149 else ())]
        head = history.append(head, messages, [15, 10], anchor).id
    assert anchor.start == 10
    assert anchor.resume > 10 + 2 * 130
    assert moves_made <= 1 + 150 * 25 / max(25, limit - int(limit * trim_to) - 25)
    assert history.reads <= 151, "one read of the opening a request"
    _, found = history.cut(head, room, continues=False)
    head = history.append(head, [message("user"), message("assistant")], [10, 10], found.anchor).id
    head = plain(history, head, limit // 20, (10, 10), room)
    _, found = history.cut(head, room, continues=False)
    assert found.anchor.start == found.anchor.resume > 300, "then it falls out whole"


def test_cut_inside_a_turn_reads_nothing_between_its_opening_and_its_kept_steps() -> None:
    """Also where the opening is most of what is kept, so that earlier messages would fit beside the steps alone."""
    history, room = History(), Budget("p", 100, 1.0, 0)
    head = history.append("", [message("user"), message("assistant")], [70, 10], None).id
    for _ in range(29):
        _, found = history.cut(head, room, continues=True)
        assert found.anchor.resume >= found.anchor.start == 0
        assert found.tokens <= 100
        head = history.append(head, [message("assistant")], [10], found.anchor).id
    assert history.reads == 25, "one read of the opening a request, once steps are dropped"


def test_history_without_a_user_is_cut_before_an_assistant_message() -> None:
    """There is no user's message to spare, so no lead stays; the first turn then starts where it was cut."""
    history, room, head = History(), Budget("p", 30, 0.5, 0), ""
    for _ in range(7):
        _, found = history.cut(head, room, continues=True)
        assert found.tokens <= 30
        head = history.append(head, [message("assistant")], [10], found.anchor).id
    assert found.anchor == Anchor("p", 3, 3)
    _, found = history.cut(head, Budget("p", 5, 0.5, 0), continues=False)
    assert found.anchor == Anchor("p", 7, 7)
    for at in range(4):
        first = message("tool", answers=f"c{at}") if at else message("user")
        head = history.append(head, [first, message("assistant", calls=[f"c{at + 1}"])], [4, 6], found.anchor).id
        _, found = history.cut(head, room, continues=True)
        assert found.tokens <= 30
        assert found.anchor.start == 7
    assert found.anchor.resume > 7


def test_turn_under_way_that_has_one_step_is_kept_whole_also_beyond_what_was_loaded() -> None:
    history = History()
    head = history.append("", [message("user")], [5], None).id
    head = history.append(head, [message("assistant", calls=["c"])], [50], None).id
    chain, found = history.cut(head, Budget("p", 20, 0.5, 0), continues=True, reach=1)
    assert chain
    assert len(chain.entries) == 1
    assert (found.anchor, found.kept, found.tokens, len(found.entries)) == (Anchor("p", 0, 0), 2, 55, 2)
    assert found.why == "to the turn under way, which has no steps to drop: 55 > 20 tokens"


def test_turn_under_way_without_a_reply_is_kept_whole() -> None:
    """Its user's message is all there is: no step of an earlier turn is taken for one of its own."""
    history = History()
    says = [message(role) for role in ("user", "assistant", "user", "assistant", "user")]
    head = history.append("", says, [5, 5, 5, 5, 50], None).id
    _, found = history.cut(head, Budget("p", 20, 0.5, 0), continues=True)
    assert (found.anchor, found.kept, found.tokens) == (Anchor("p", 4, 4), 1, 50)


def test_anchor_in_the_middle_of_a_turn_has_only_what_follows_it_as_opening() -> None:
    """Two exchanges at once: what was appended behind the planned anchor went on with the turn before."""
    history, room = History(), Budget("p", 40, 0.5, 0)
    head = history.append("", [message("user"), message("assistant")], [5, 5], None).id
    for _ in range(3):
        head = history.append(head, [message("system"), message("assistant")], [5, 10], Anchor("p", 2, 2)).id
    _, found = history.cut(head, room, continues=True)
    assert (found.anchor, found.opened, found.tokens) == (Anchor("p", 2, 7), 3, 15)


def test_anchor_of_another_key_is_not_inherited() -> None:
    history = History()
    head = plain(history, "", 20, (4, 6), Budget("p", 50, 0.5, 0))
    _, found = history.cut(head, Budget("q", 100, 0.5, 0), continues=False, reach=50)
    assert (found.anchor, found.tokens) == (Anchor("q", 20, 20), 100)
    assert found.why == "kept: 100 of at most 100 tokens"


def test_fresh_window_reads_back_no_further_than_it_needs() -> None:
    history = History()
    head = plain(history, "", 1000, (4, 6), Budget("p", 10, 0.5, 0))
    asked: list[int] = []
    steps = cut(history.load(head, key="q", reach=20), Budget("q", 600, 0.5, 0), continues=False)
    need = next(steps)
    while True:
        asked.append(need.upto - need.first)
        try:
            need = steps.send(history.read(head, need))
        except StopIteration as stop:
            found: Cut = stop.value
            break
    assert found.anchor == Anchor("q", 1880, 1880)
    assert sum(asked) <= 2 * 120 + 64


def test_fresh_window_by_turns_reads_back_until_it_has_them() -> None:
    history = History()
    head = plain(history, "", 60, (4, 6), Budget("p", None, 0.5, 0))
    for turns in range(1, 61):
        _, found = history.cut(head, Budget("q", None, 0.5, turns), continues=False, reach=1)
        assert (found.anchor.start, found.kept) == (120 - 2 * turns, 2 * turns)


def test_anchor_at_a_result_is_made_anew() -> None:
    """Two exchanges at once: the anchor was planned at the head, behind which results were appended meanwhile."""
    history = History()
    head = history.append("", [message("user"), message("assistant", calls=["c"])], [5, 5], None).id
    late = Anchor("p", 2, 2)
    head = history.append(head, [message("tool", answers="c"), message("assistant")], [5, 5], late).id
    _, found = history.cut(head, Budget("p", 100, 0.5, 0), continues=False)
    assert found.anchor == Anchor("p", 0, 0)


@pytest.mark.parametrize(
    ("inherited", "loaded", "need"),
    [
        (None, 2, Read(0, 14)),
        (Anchor("p", 12, 15), 2, Read(12, 13)),
        (Anchor("p", 10, 13), 1, Read(13, 16)),
        (Anchor("p", 10, 10), 1, Read(10, 16)),
    ],
)
def test_history_that_is_erased_meanwhile_ends_the_exchange(inherited: Anchor | None, loaded: int, need: Read) -> None:
    """Neither a window with a hole nor one without the user's message is made of what is left."""
    history = History()
    head = plain(history, "", 8, (4, 6), Budget("x", None, 0.5, 0))
    head = history.append(head, [message("user"), message("assistant")], [4, 6], inherited).id
    entries = history.chain(head)[-loaded:]
    steps = cut(Chain(entries[-1], entries, None, head, whole=False), Budget("p", 90, 0.5, 0), continues=False)
    assert next(steps) == need
    with pytest.raises(SessionConflict):
        steps.send(())


def test_no_history() -> None:
    steps = cut(None, Budget("p", 10, 0.5, 0), continues=False)
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == Cut(Anchor("p", 0, 0), 0, 0, 0, "no history")


@given(st.integers(1, 12), st.integers(0, 12))
def test_only_from_keeps_what_the_client_sent(turns: int, cut_at: int) -> None:
    history = History()
    head = plain(history, "", turns, (4, 6), Budget("p", None, 0.5, 0))
    _, found = history.cut(head, Budget("q", 50, 0.5, 0), continues=False)
    first = 2 * min(cut_at, turns)
    narrow = only_from(found, first)
    start = max(found.anchor.start, first)
    assert (narrow.anchor.start, narrow.kept, narrow.dropped) == (start, 2 * turns - start, start)
    assert narrow.tokens == 5 * (2 * turns - start)
    assert [entry.first for entry in narrow.entries] == list(range(start, 2 * turns, 2))


def test_only_from_inside_an_entry() -> None:
    history = History()
    says = [message(role) for role in ("user", "assistant", "user", "assistant")]
    head = history.append("", says, [1, 2, 3, 4], None).id
    _, found = history.cut(head, Budget("q", None, 0.5, 0), continues=False)
    narrow = only_from(found, 2)
    assert (narrow.kept, narrow.tokens, len(narrow.entries)) == (2, 7, 1)


class TestBudget:
    def test_no_window_keeps_everything(self) -> None:
        found = budget("k", None, context_tokens=100, reserve=1, fixed=1, ratio=1.0)
        assert (found.max_tokens, found.max_turns, found.key) == (None, 0, "k")
        assert reach(None, 100) is None

    def test_number_is_divided_by_the_ratio_and_counts_turns_only(self) -> None:
        window = Window(max_tokens=4000, trim_to=0.6, max_turns=7)
        found = budget("k", window, context_tokens=100, reserve=50, fixed=30, ratio=1.25)
        assert found == Budget("k", 3200, 0.6, 7)
        assert reach(window, 100) == 8000 + REACH_SPARE_TOKENS

    def test_fit_leaves_room_for_the_reply_and_the_request(self) -> None:
        window = Window(max_tokens="fit")
        found = budget("k", window, context_tokens=8000, reserve=1000, fixed=300, ratio=2.0)
        assert found == Budget("k:8000", 3200, 0.5, 0)
        assert anchor_key("k", window, 8000) == "k:8000"
        assert reach(window, 8000) == 16000 + REACH_SPARE_TOKENS

    def test_fit_of_an_unknown_model_is_no_limit(self) -> None:
        window = Window(max_tokens="fit")
        assert budget("k", window, context_tokens=None, reserve=1, fixed=1, ratio=1.0).max_tokens is None
        assert reach(window, None) is None

    def test_fit_is_never_less_than_nothing(self) -> None:
        window = Window(max_tokens="fit")
        assert budget("k", window, context_tokens=100, reserve=90, fixed=30, ratio=1.0).max_tokens == 0

    def test_zero_is_no_limit(self) -> None:
        found = budget("k", Window(max_tokens=0), context_tokens=100, reserve=0, fixed=0, ratio=1.0)
        assert found.max_tokens is None
        assert reach(Window(max_tokens=0), 100) is None
