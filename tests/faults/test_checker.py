"""The checker finds what it looks for: each planted fault is told, and a good history is not blamed."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.checker import Kept, Said, Shown, answer, exported, faults

replace = msgspec.structs.replace
Case = tuple[list[Said], list[Kept], Shown]


def case(turns: int, *, behind: int = 0) -> Case:
    """A session in which each of `turns` was said and answered after the one before. `behind`: each reply was made
    without the last so many entries, while these were still being made."""
    said: list[Said] = []
    kept: list[Kept] = []
    history: list[tuple[str, str]] = []
    for turn in range(1, turns + 1):
        own = ("user", f"text {turn}")
        known = history[: max(0, len(history) - 2 * behind)]
        reply = answer(turn, (*known, own))
        history += [own, ("assistant", reply)]
        began = 10.0 * (turn - behind)
        said.append(Said("s", own[1], reply, turn, began, 10.0 * turn + 5))
        parent = kept[-1].id if kept else ""
        kept.append(Kept(f"e{turn}", parent, "whole", (own, ("assistant", reply))))
    return said, kept, tuple(history)


def told(case: Case, *, parallel: bool = False) -> set[str]:
    """The kinds of faults that are found."""
    return {fault.partition(":")[0] for fault in faults(*case, parallel=parallel)}


def again(kept: list[Kept]) -> Shown:
    return tuple(message for entry in kept for message in entry.messages)


@given(st.integers(0, 12), st.booleans())
def test_a_good_history_has_none(turns: int, parallel: bool) -> None:
    assert faults(*case(turns), parallel=parallel) == []


@given(st.integers(1, 9), st.integers(1, 3))
def test_replies_that_were_made_side_by_side_are_good_in_parallel_only(turns: int, behind: int) -> None:
    made = case(turns, behind=behind)
    assert told(made, parallel=True) == set()
    assert ("mixed" in told(made)) == (turns > 1)


def lost(said: list[Said], kept: list[Kept]) -> None:
    """The last turn, so that no other tells of it."""
    kept.pop()


def lost_between(said: list[Said], kept: list[Kept]) -> None:
    gone = kept.pop(2)
    kept[2] = replace(kept[2], parent=gone.parent)


def doubled(said: list[Said], kept: list[Kept]) -> None:
    """The same turn, asked for twice."""
    text = kept[-1].messages[0]
    reply = answer(99, (*again(kept), text))
    kept.append(Kept("twice", kept[-1].id, "whole", (text, ("assistant", reply))))


def doubled_reply(said: list[Said], kept: list[Kept]) -> None:
    """One append that was done twice."""
    kept.append(replace(kept[-1], id="twice", parent=kept[-1].id))


def wrong_history(said: list[Said], kept: list[Kept]) -> None:
    """The last reply was made without the turn before it."""
    own = kept[-1].messages[0]
    reply = answer(99, (*again(kept[:-2]), own))
    kept[-1] = replace(kept[-1], messages=(own, ("assistant", reply)))
    said[-1] = replace(said[-1], reply=reply)


def other_session(said: list[Said], kept: list[Kept]) -> None:
    own = ("user", "of another session")
    kept.append(Kept("other", kept[-1].id, "whole", (own, ("assistant", answer(99, (*again(kept), own))))))


def mixed(said: list[Said], kept: list[Kept]) -> None:
    """The last entry stands behind a branch that it was not made from."""
    own = ("user", "text 4")
    reply = answer(99, (*again(kept[:3]), own))
    kept[3] = Kept("other", kept[2].id, "whole", (own, ("assistant", reply)))
    kept[4] = replace(kept[4], parent="other")
    said[3] = replace(said[3], reply=reply)


def branched(said: list[Said], kept: list[Kept]) -> None:
    kept[-1] = replace(kept[-1], parent=kept[-3].id)


def half(said: list[Said], kept: list[Kept]) -> None:
    kept[-1] = replace(kept[-1], messages=kept[-1].messages[:1])


def cut_off(said: list[Said], kept: list[Kept]) -> None:
    """A part of a reply that counts as whole."""
    own, (role, reply) = kept[-1].messages
    kept[-1] = replace(kept[-1], messages=(own, (role, reply[:12])))
    said[-1] = replace(said[-1], reply=None)


def kept_in_part(said: list[Said], kept: list[Kept]) -> None:
    kept[-1] = replace(kept[-1], state="partial")
    said[-1] = replace(said[-1], reply=None)


def changed(said: list[Said], kept: list[Kept]) -> None:
    said[-1] = replace(said[-1], reply="something else")


def out_of_order(said: list[Said], kept: list[Kept]) -> None:
    said[1], said[3] = replace(said[1], began=said[3].began), replace(said[3], began=0.0)
    said[2] = replace(said[2], ended=said[2].began)


def astray(said: list[Said], kept: list[Kept]) -> None:
    kept[-1] = replace(kept[-1], parent="none")


def misplaced(said: list[Said], kept: list[Kept]) -> None:
    said[2] = replace(said[2], turn=2)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (lost, "lost"),
        (lost_between, "lost"),
        (doubled, "doubled"),
        (doubled_reply, "doubled"),
        (wrong_history, "mixed"),
        (other_session, "invented"),
        (mixed, "mixed"),
        (branched, "branch"),
        (half, "half"),
        (cut_off, "half"),
        (kept_in_part, "part"),
        (changed, "changed"),
        (out_of_order, "order"),
        (astray, "astray"),
        (misplaced, "place"),
    ],
)
def test_each_planted_fault_is_found(plant: Callable[[list[Said], list[Kept]], None], kind: str) -> None:
    said, kept, _ = case(5)
    plant(said, kept)
    assert kind in told((said, kept, again(kept)))


def test_what_the_model_is_shown_must_be_what_is_kept() -> None:
    said, kept, last = case(3)
    assert told((said, kept, last[:-2])) == {"shown"}
    assert told((said, kept, (*last[:-1], ("assistant", "x")))) == {"shown"}


@pytest.mark.parametrize("plant", [lost, doubled, doubled_reply, branched, half, other_session])
def test_parallel_forgives_no_other_fault(plant: Callable[[list[Said], list[Kept]], None]) -> None:
    said, kept, _ = case(5, behind=1)
    plant(said, kept)
    assert told((said, kept, again(kept)), parallel=True)


def test_in_parallel_what_had_ended_before_is_known() -> None:
    said, kept, last = case(5, behind=2)
    said[4] = replace(said[4], began=said[3].ended + 1)
    assert told((said, kept, last), parallel=True) == {"stale"}


def test_in_parallel_a_reply_from_another_branch_is_found() -> None:
    said, kept, _ = case(5)
    mixed(said, kept)
    assert "mixed" in told((said, kept, again(kept)), parallel=True)


def test_what_nobody_saw_the_end_of_may_be_there_or_not() -> None:
    said, kept, last = case(4)
    unseen = [*said[:-1], replace(said[-1], reply=None, turn=0)]
    assert faults(unseen, kept, last) == []
    assert faults(unseen, kept[:-1], again(kept[:-1])) == []
    # whose client hung up may be there in part, and whole when it was asked for again
    own, (role, reply) = kept[-1].messages
    part = replace(kept[-1], state="partial", messages=(own, (role, reply[:25])))
    whole = ("assistant", answer(9, (*again(kept[:-1]), *part.messages, own)))
    both = [*kept[:-1], part, Kept("again", part.id, "whole", (own, whole))]
    cut = [*said[:-1], replace(said[-1], reply=whole[1], turn=5, cut=True)]
    assert faults(cut, both, again(both)) == []


def test_an_export_is_read_as_entries() -> None:
    lines = [
        '{"session":"s","entry":"a","parent":"","message":{"role":"user","content":"x"}}',
        '{"session":"s","entry":"a","parent":"","message":{"role":"assistant","content":"y"},"state":"partial"}',
        '{"session":"t","entry":"b","parent":"a","message":{"role":"user","content":"z"}}',
    ]
    assert exported(lines) == {
        "s": [Kept("a", "", "partial", (("user", "x"), ("assistant", "y")))],
        "t": [Kept("b", "a", "whole", (("user", "z"),))],
    }
