"""What makes a history valid, and its repair."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.message import Shape
from proxy.conversation.turn import MISSED_AT_MOST, Follow, follow, repair

Item = tuple[Shape, bytes]


def user(name: str = "u") -> Item:
    return Shape("user", 1, 1), name.encode()


def assistant(name: str, *calls: str) -> Item:
    return Shape("assistant", 1, 1, calls), name.encode()


def result(call: str, name: str = "") -> Item:
    return Shape("tool", 1, 1, (), call), (name or f"={call}").encode()


def stand_in(call: str) -> bytes:
    return f"?{call}".encode()


def shapes(items: Sequence[Item]) -> list[Shape]:
    return [shape for shape, _ in items]


def mended(*items: Item, waiting: bool = False) -> str:
    return b" ".join(repair(items, stand_in, waiting)).decode()


def valid(items: Sequence[Item]) -> bool:
    waiting: set[str] = set()
    for shape, _ in items:
        if shape.answers:
            if shape.answers not in waiting:
                return False
            waiting.remove(shape.answers)
        elif waiting:
            return False
        else:
            waiting = set(shape.calls)
    return not waiting


_ids = st.sampled_from(["c1", "c2", "c3"])
conversations = st.lists(
    st.one_of(
        st.just(user()),
        st.builds(lambda calls: assistant("a", *calls), st.lists(_ids, max_size=3, unique=True)),
        st.builds(result, _ids),
    ),
    max_size=14,
).map(lambda items: [(shape, f"{at}".encode()) for at, (shape, _) in enumerate(items)])
"""Any order of messages, valid or not, with ids that are used again; each message's bytes are its number."""


class TestFollow:
    def test_calls_are_open_until_they_are_answered(self) -> None:
        assert follow(shapes([user(), assistant("a", "c1", "c2")])) == Follow(("c1", "c2"), (), loose=False, unknown=())
        assert follow(shapes([result("c2")]), ("c1", "c2")) == Follow(("c1",), (), loose=False, unknown=())
        assert follow(shapes([result("c1"), assistant("b")]), ("c1",)) == Follow((), (), loose=False, unknown=())

    def test_calls_that_the_user_walks_past_are_missed(self) -> None:
        assert follow(shapes([user()]), ("c1",), ("c0",)) == Follow((), ("c0", "c1"), loose=True, unknown=())

    def test_late_result_ends_the_miss(self) -> None:
        assert follow(shapes([result("c0")]), ("c1",), ("c0",)) == Follow(("c1",), (), loose=True, unknown=())

    @pytest.mark.parametrize("repeated", [False, True])
    def test_result_without_a_call_that_waits_is_unknown(self, repeated: bool) -> None:
        before = [assistant("a", "c1"), result("c1")] if repeated else []
        found = follow(shapes([*before, result("c1")]))
        assert (found.loose, found.unknown) == (True, ("c1",))

    def test_only_the_newest_missed_calls_are_remembered(self) -> None:
        items = [each for at in range(100) for each in (assistant("a", f"c{at}"), user())]
        assert follow(shapes(items)).missed == tuple(f"c{at}" for at in range(100 - MISSED_AT_MOST, 100))

    @given(conversations, st.integers(0, 14))
    def test_walking_in_parts_is_walking_at_once(self, items: list[Item], at: int) -> None:
        """So that an entry need only keep what is open and missed at its end."""
        first = follow(shapes(items[:at]))
        second = follow(shapes(items[at:]), first.open, first.missed)
        whole = follow(shapes(items))
        assert (second.open, second.missed) == (whole.open, whole.missed)
        assert (first.loose or second.loose, first.unknown + second.unknown) == (whole.loose, whole.unknown)

    @given(conversations)
    def test_valid_is_what_is_neither_loose_nor_open(self, items: list[Item]) -> None:
        found = follow(shapes(items))
        assert valid(items) == (not found.loose and not found.open)


class TestRepair:
    @given(conversations)
    def test_result_is_always_valid(self, items: list[Item]) -> None:
        told = repair(items, stand_in)
        by_name = {wire: shape for shape, wire in items}
        assert valid([(by_name.get(wire) or Shape("tool", 1, 1, (), wire[1:].decode()), wire) for wire in told])
        speech = [wire for shape, wire in items if not shape.answers]
        assert [wire for wire in told if wire in speech] == speech, "only results are moved or left out"

    @given(conversations)
    def test_valid_history_stays_as_it_is(self, items: list[Item]) -> None:
        if valid(items):
            assert repair(items, stand_in) == [wire for _, wire in items]

    @given(conversations, st.integers(0, 14))
    def test_what_is_said_later_changes_no_bytes_before(self, items: list[Item], at: int) -> None:
        """Unless a late result comes: else the provider's cache would lose its prefix."""
        if at < len(items) and not any(shape.answers for shape, _ in items[at:]):
            before = repair(items[:at], stand_in)
            assert repair(items, stand_in)[: len(before)] == before

    def test_abandoned_call_is_answered(self) -> None:
        assert mended(user(), assistant("a", "c1", "c2"), result("c2"), user("v")) == "u a =c2 ?c1 v"

    def test_late_result_moves_behind_its_call(self) -> None:
        assert mended(assistant("a", "c1"), user(), assistant("b"), result("c1")) == "a =c1 u b"

    def test_result_whose_call_is_not_here_is_left_out(self) -> None:
        assert mended(result("c1"), user(), assistant("a"), result("c2")) == "u a"

    def test_second_result_is_left_out(self) -> None:
        assert mended(assistant("a", "c1"), result("c1"), result("c1", "again"), user()) == "a =c1 u"

    def test_result_before_its_call_is_left_out(self) -> None:
        assert mended(result("c1"), assistant("a", "c1")) == "a ?c1"

    def test_id_that_is_used_again_is_answered_each_time(self) -> None:
        told = mended(assistant("a", "f"), result("f", "1"), assistant("b", "f"), user(), result("f", "2"))
        assert told == "a 1 b 2 u"

    def test_result_belongs_to_the_newest_call_before_it(self) -> None:
        assert mended(assistant("a", "f"), user(), assistant("b", "f"), result("f")) == "a ?f u b =f"

    def test_order_of_results_is_the_clients(self) -> None:
        assert mended(assistant("a", "c1", "c2"), result("c2"), result("c1")) == "a =c2 =c1"

    def test_calls_at_the_end_stay_open_for_what_comes_next(self) -> None:
        items = (user(), assistant("a", "c1"), user(), assistant("b", "c2"))
        assert mended(*items, waiting=True) == "u a ?c1 u b"
        assert mended(*items) == "u a ?c1 u b ?c2"
