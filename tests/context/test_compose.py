"""The laws of the context: always a valid history, of the bytes that were stored and sent, and nothing else changed."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.context.compose import compose
from proxy.context.contract import Budget, Context, Cut, Own, Window
from proxy.conversation.entry import Anchor, Chain
from proxy.conversation.message import Message
from tests.context.history import History, decoded, kept_positions, message, own, sent, stand_in, valid
from tests.context.script import EXAMPLES, Move, moves, play, reply, windows

ROOM = Budget("p", None, 0.5, 0)


def check(context: Context, asked: Sequence[Message], client: Sequence[Message]) -> None:
    """`asked`: kept and new messages in their order, each as it should travel; `client`: what the request held."""
    told = decoded(context)
    assert valid(told)
    wires = [each.wire for each in asked]
    joined = b",".join(context.messages)
    assert context.repaired == (joined != b",".join(wires)), "repaired says whether anything was moved, added, left out"
    assert context.repaired == (not valid([json.loads(wire) for wire in wires])), "only what is invalid is repaired"
    if context.unchanged:
        assert joined == b",".join(each.wire for each in client)
    elif client:
        assert joined != b",".join(each.wire for each in client)
    assert [each for each in told if each["role"] != "tool"] == [
        json.loads(each.wire) for each in asked if each.role != "tool"
    ], "only results are ever moved, added or left out"
    here = {each.answers: at for at, each in enumerate(asked) if each.answers}
    made = {call.id: at for at, each in reversed(list(enumerate(asked))) for call in each.calls}
    ids = [call.id for each in asked for call in each.calls]
    for each in told:
        if "stand_in" in each:
            call = str(each["tool_call_id"])
            if ids.count(call) == 1:
                assert here.get(call, -1) < made[call], "a stand-in only where there is no result"
        elif each["role"] == "tool":
            assert any(each == json.loads(other.wire) for other in asked)


def kept(history: History, head: str, found: Cut) -> list[tuple[int, Message]]:
    said = history.said[head]
    return [(at, said[at][0]) for at in kept_positions(found, len(said))]


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(moves(), windows)
def test_delta_gives_a_valid_history(script: list[Move], window: Window) -> None:
    """Any conversation under any window: kept messages as stored, then the new ones as sent."""
    history = History()
    for exchange in play(history, script, window):
        chain, found = history.cut(exchange.head, exchange.budget, continues=exchange.continues)
        context = compose(chain, found, own(exchange.new, exchange.tokens), stand_in)
        asked = [each for _, each in kept(history, exchange.head, found)] + exchange.new
        check(context, asked, exchange.new)
        assert context == compose(chain, found, own(exchange.new), stand_in)
        answer = reply(exchange)
        if exchange.new or answer:
            tokens = [*exchange.tokens, *[exchange.move.size] * len(answer)]
            history.append(exchange.head, [*exchange.new, *answer], tokens, found.anchor)


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(moves(), windows, st.integers(0, 40), st.sampled_from(("whole", "overlap", "pinned", "middle")))
def test_clients_own_messages_travel_as_its_own_bytes(
    script: list[Move], window: Window, number: int, manner: str
) -> None:
    """A client that re-sends all, the end, or the lead of its history; the rest comes from the store."""
    history = History()
    for exchange in play(history, script, window):
        chain, found = history.cut(exchange.head, exchange.budget, continues=exchange.continues)
        said = history.said[exchange.head]
        first, upto = 0, len(said)
        if manner == "overlap":
            first = number % (upto + 1)
        elif manner != "whole":
            upto = number % (upto + 1)
            first = upto // 2 if manner == "middle" else 0
        resent = [
            message(m.role, m.text, calls=[call.id for call in m.calls], answers=m.answers, spaces=True)
            for m, _ in said[first:upto]
        ]
        mine = Own(sent(exchange.new), sent(resent), first, pinned=manner == "pinned")
        context = compose(chain, found, mine, stand_in)
        asked = list(resent) if mine.pinned else []
        for at, stored in kept(history, exchange.head, found):
            if not first <= at < upto:
                asked.append(stored)
            elif not mine.pinned:
                asked.append(resent[at - first])
        check(context, [*asked, *exchange.new], [*resent, *exchange.new])
        answer = reply(exchange)
        tokens = [*exchange.tokens, *[exchange.move.size] * len(answer)]
        history.append(exchange.head, [*exchange.new, *answer], tokens, found.anchor)


@settings(max_examples=EXAMPLES, deadline=None)
@given(moves(odd=False, most=30), windows)
def test_prefix_stays_while_the_anchor_stays(script: list[Move], window: Window) -> None:
    """What the provider has cached is sent again, byte for byte."""
    history, before, anchor = History(), b"", None
    for exchange in play(history, script, window):
        chain, found = history.cut(exchange.head, exchange.budget, continues=exchange.continues)
        context = compose(chain, found, own(exchange.new), stand_in)
        assert not context.repaired
        told = b",".join(context.messages)
        if found.anchor == anchor:
            assert told.startswith(before)
        before, anchor = told, found.anchor
        answer = reply(exchange)
        tokens = [*exchange.tokens, *[exchange.move.size] * len(answer)]
        history.append(exchange.head, [*exchange.new, *answer], tokens, found.anchor)


class Talk:
    """A conversation told step by step, everything kept unless a budget says else."""

    def __init__(self, room: Budget = ROOM) -> None:
        self.history, self.head, self.room = History(), "", room

    def ask(self, *new: Message) -> list[str]:
        """What the upstream is told, as `role:text`, a stand-in as `stand-in:<call>`."""
        return [
            f"stand-in:{each['tool_call_id']}" if "stand_in" in each else f"{each['role']}:{each['content']}"
            for each in decoded(self.context(own(new)))
        ]

    def context(self, mine: Own) -> Context:
        continues = bool(mine.new) and mine.new[0][0].role != "user"
        chain, self.cut = self.history.cut(self.head, self.room, continues=continues)
        return compose(chain, self.cut, mine, stand_in)

    def record(self, *messages: Message) -> None:
        self.head = self.history.append(self.head, messages, [10] * len(messages), self.cut.anchor).id

    def say(self, *new: Message, reply: Message) -> list[str]:
        told = self.ask(*new)
        self.record(*new, reply)
        return told


def test_stored_entries_travel_as_they_are() -> None:
    """Nothing is decoded on the plain path: each entry's bytes are one run."""
    talk = Talk()
    for at in range(3):
        talk.say(message("user", f"{at}"), reply=message("assistant", f"{at}"))
    new = message("user", "3")
    context = talk.context(own([new]))
    assert context.messages == (*[entry.wire for entry in talk.history.chain(talk.head)], new.wire)
    assert (context.repaired, context.unchanged) == (False, False)


def test_first_message_of_a_session_travels_unchanged() -> None:
    new = message("user", "hi")
    cut = Cut(Anchor("p", 0, 0), 0, 0, 0, "no history")
    assert compose(None, cut, own([new]), stand_in) == Context((new.wire,), repaired=False, unchanged=True)


def test_call_that_the_user_walks_past_gets_a_stand_in_until_its_result_comes() -> None:
    talk = Talk()
    talk.say(message("user", "a"), reply=message("assistant", "b", calls=["c1", "c2"]))
    walked = talk.say(message("tool", "two", answers="c2"), message("user", "c"), reply=message("assistant", "d"))
    assert walked == ["user:a", "assistant:b", "tool:two", "stand-in:c1", "user:c"]
    later = talk.say(message("user", "e"), reply=message("assistant", "f"))
    assert later[: len(walked)] == walked, "the same bytes each turn"
    late = talk.say(message("tool", "one", answers="c1"), message("user", "g"), reply=message("assistant", "h"))
    assert late == [
        *("user:a", "assistant:b", "tool:two", "tool:one", "user:c", "assistant:d"),
        *("user:e", "assistant:f", "user:g"),
    ]


def test_results_in_any_order_stay_in_that_order() -> None:
    talk = Talk()
    talk.say(message("user", "a"), reply=message("assistant", "b", calls=["c1", "c2"]))
    told = talk.ask(message("tool", "two", answers="c2"), message("tool", "one", answers="c1"))
    assert told == ["user:a", "assistant:b", "tool:two", "tool:one"]


def test_request_that_answers_some_calls_has_the_others_answered() -> None:
    talk = Talk()
    talk.say(message("user", "a"), reply=message("assistant", "b", calls=["c1", "c2"]))
    assert talk.ask(message("tool", "one", answers="c1")) == ["user:a", "assistant:b", "tool:one", "stand-in:c2"]


def test_new_messages_that_leave_calls_open_are_made_valid() -> None:
    talk = Talk()
    assert talk.ask(message("user", "a"), message("assistant", "b", calls=["c"])) == [
        *("user:a", "assistant:b", "stand-in:c"),
    ]


def test_late_result_whose_call_fell_out_is_left_out() -> None:
    talk = Talk(Budget("p", 20, 0.5, 0))
    talk.say(message("user", "a"), reply=message("assistant", "b", calls=["c"]))
    talk.say(message("user", "c"), reply=message("assistant", "d"))
    talk.say(message("user", "e"), reply=message("assistant", "f"))
    assert talk.ask(message("tool", "late", answers="c")) == ["user:e", "assistant:f"]
    assert talk.cut.dropped == 4


def test_result_that_was_recorded_late_is_left_out_with_its_call() -> None:
    talk = Talk(Budget("p", 35, 1.0, 0))
    talk.say(message("user", "a"), reply=message("assistant", "b", calls=["c"]))
    talk.say(message("user", "c"), message("tool", "late", answers="c"), reply=message("assistant", "d"))
    assert talk.ask(message("user", "e")) == ["user:c", "assistant:d", "user:e"]


def test_late_result_in_the_opening_of_a_long_turn_is_left_out_with_its_call() -> None:
    talk = Talk(Budget("p", 60, 0.7, 0))
    talk.say(message("user", "a"), reply=message("assistant", "b", calls=["late"]))
    talk.say(message("user", "c"), message("tool", "late", answers="late"), reply=message("assistant", calls=["c0"]))
    for at in range(5):
        told = talk.say(message("tool", f"{at}", answers=f"c{at}"), reply=message("assistant", calls=[f"c{at + 1}"]))
    assert talk.cut.opening
    assert told == ["user:c", "assistant:", "tool:4"]


def test_result_is_left_out_where_nothing_is_kept() -> None:
    """Nothing of the request is left then, which is allowed."""
    talk = Talk()
    talk.say(message("user", "a"), reply=message("assistant", "b", calls=["c"]))
    chain = talk.history.load(talk.head, key="p", reach=None)
    nothing = Cut(Anchor("p", 2, 2), 0, 2, 0, "")
    context = compose(chain, nothing, own([message("tool", answers="c")]), stand_in)
    assert context == Context((), repaired=True, unchanged=False)


def test_legacy_function_results_belong_to_the_call_before_them() -> None:
    """All calls of one function have one id."""
    talk = Talk()
    for at in range(2):
        talk.say(message("user", f"u{at}"), reply=message("assistant", f"a{at}", calls=["function:f"]))
        told = talk.say(message("tool", f"r{at}", answers="function:f"), reply=message("assistant", f"z{at}"))
    assert told == [
        *("user:u0", "assistant:a0", "tool:r0", "assistant:z0"),
        *("user:u1", "assistant:a1", "tool:r1"),
    ]


def test_whole_history_that_is_kept_needs_no_stored_bytes() -> None:
    talk = Talk()
    talk.say(message("user", "a"), reply=message("assistant", "b"))
    resent = [message("user", "a", spaces=True), message("assistant", "b", spaces=True)]
    new = message("user", "c", spaces=True)
    context = talk.context(Own(sent([new]), sent(resent)))
    assert context == Context(tuple(each.wire for each in (*resent, new)), repaired=False, unchanged=True)


def test_overlap_is_unchanged_where_the_window_starts_with_it() -> None:
    talk = Talk(Budget("p", None, 0.5, 1))
    talk.say(message("user", "a"), reply=message("assistant", "b"))
    talk.say(message("user", "c"), reply=message("assistant", "d"))
    mine = Own(sent([message("user", "e")]), sent([message("user", "c"), message("assistant", "d")]), offset=2)
    assert talk.context(mine).unchanged
    talk.room = ROOM
    context = talk.context(mine)
    assert not context.unchanged, "what the client left out was put back"
    assert len(decoded(context)) == 5


@pytest.mark.parametrize("limit", [None, 20])
def test_pinned_lead_is_sent_first_though_dropped(limit: int | None) -> None:
    talk = Talk(Budget("p", limit, 0.5, 0))
    lead = [message("user", "q"), message("assistant", "example")]
    talk.say(*lead, message("user", "a"), reply=message("assistant", "b"))
    talk.say(message("user", "c"), reply=message("assistant", "d"))
    mine = Own(sent([message("user", "e")]), sent(lead), pinned=True)
    told = [each["content"] for each in decoded(talk.context(mine))]
    assert told == (["q", "example", "a", "b", "c", "d", "e"] if limit is None else ["q", "example", "c", "d", "e"])


def test_compose_reads_nothing_of_the_chain_but_its_head() -> None:
    """The cut names the entries, so that what a planner read in addition is there too."""
    talk = Talk()
    talk.say(message("user", "a"), reply=message("assistant", "b"))
    talk.say(message("user", "c"), reply=message("assistant", "d"))
    chain, cut = talk.history.cut(talk.head, ROOM, continues=False)
    assert chain
    short = Chain(chain.head, chain.entries[-1:], None, chain.head.id, whole=False)
    new = own([message("user", "e")])
    assert compose(short, cut, new, stand_in) == compose(chain, cut, new, stand_in)
