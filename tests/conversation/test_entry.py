"""What an exchange appends, and the chain that entries form."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.entry import Anchor, Entry, Preamble, grow, new_id
from proxy.conversation.message import Message, ToolCall, digest, shape

KEY = b"k" * 32


def message(
    role: str, text: str = "", *, calls: tuple[str, ...] = (), answers: str = "", aside: bytes = b""
) -> Message:
    wire = f'{{"role":"{role}","content":"{text}"}}'.encode()
    made = tuple(ToolCall(call, "f", "{}") for call in calls)
    return Message(role, wire, text, calls=made, answers=answers, aside=aside)


def append(parent: Entry | None, *messages: Message, tokens: int = 1, key: bytes = KEY) -> Entry:
    weights = [tokens] * len(messages)
    return grow(id=new_id(), parent=parent, key=key, messages=messages, tokens=weights, dialect="chat", model="m")


_messages = st.builds(message, st.sampled_from(["user", "assistant", "system"]), st.text("abé,{}", max_size=5))
conversations = st.lists(st.lists(_messages, min_size=1, max_size=4), min_size=1, max_size=6)


@given(conversations)
def test_sums_count_from_the_root(parts: list[list[Message]]) -> None:
    entry, said = None, list[Message]()
    for at, part in enumerate(parts):
        parent = entry
        entry = append(parent, *part, tokens=at)
        said += part
        assert (entry.parent, entry.count) == (parent.id if parent else "", len(part))
        assert (entry.first, entry.upto) == (len(said) - len(part), len(said))
        assert entry.tokens == at * len(part)
        assert entry.tokens_upto == (parent.tokens_upto if parent else 0) + entry.tokens
        users = [position for position, each in enumerate(said) if each.role == "user"]
        assert entry.turn == len(users)
        assert entry.facts.turn_start == (users[-1] if len(users) > 1 else 0), "what precedes the first user is turn 1"


@given(conversations)
def test_messages_are_cut_out_as_they_went_in(parts: list[list[Message]]) -> None:
    """Position, shape and bytes of each, without decoding: commas and brackets in texts do not matter."""
    entry, position = None, 0
    for part in parts:
        entry = append(entry, *part, tokens=3)
        assert list(entry.messages()) == [(position + at, shape(each, 3), each.wire) for at, each in enumerate(part)]
        assert entry.wire == b",".join(each.wire for each in part)
        position += len(part)


@given(conversations, conversations)
def test_digest_is_of_what_was_said_not_of_how_it_was_cut(
    parts: list[list[Message]], others: list[list[Message]]
) -> None:
    def last(cut: list[list[Message]]) -> bytes:
        entry = None
        for part in cut:
            entry = append(entry, *part)
        assert entry
        return entry.digest

    flat = [each for part in parts for each in part]
    assert last(parts) == last([flat]) == last([[each] for each in flat])
    same = [(m.role, m.text) for m in flat] == [(m.role, m.text) for part in others for m in part]
    assert (last(others) == last(parts)) == same


def test_digest_is_chained_and_keyed() -> None:
    hello = message("user", "hello")
    root = append(None, hello)
    assert root.digest == digest(KEY, b"", hello)
    assert append(root, hello).digest == digest(KEY, root.digest, hello) != root.digest
    assert append(None, hello, key=b"x" * 32).digest != root.digest


def test_calls_are_followed_across_entries() -> None:
    root = append(None, message("user"), message("assistant", calls=("c1", "c2")))
    assert (root.loose, root.facts.open, root.facts.missed) == (False, ("c1", "c2"), ())
    some = append(root, message("tool", answers="c2"), message("assistant", calls=("c3",)))
    assert (some.loose, some.facts.open, some.facts.missed) == (True, ("c3",), ("c1",))
    assert append(some, message("tool", answers="c3"), message("assistant")).facts.missed == ("c1",)
    late = append(some, message("tool", answers="c3"), message("tool", answers="c1"), message("assistant"))
    assert (late.loose, late.facts.open, late.facts.missed) == (True, (), ())
    assert not append(late, message("user"), message("assistant")).loose


def test_children_of_one_entry_do_not_see_each_other() -> None:
    root = append(None, message("user"), message("assistant", calls=("c1",)))
    walked = append(root, message("user"))
    answered = append(root, message("tool", answers="c1"))
    assert (walked.facts.missed, answered.facts.missed) == (("c1",), ())
    assert walked.first == answered.first == root.upto


def test_facts_are_kept_packed() -> None:
    anchor = Anchor("p", 4, 6)
    entry = grow(
        id=new_id(),
        parent=None,
        key=KEY,
        messages=[message("user", "a"), message("assistant", "b", aside=b'{"reasoning":"r"}')],
        tokens=[1, 2],
        dialect="chat",
        model="m",
        state="partial",
        preamble=b"id",
        anchor=anchor,
        estimated=10,
        reported=12,
        finish="stop",
        at_ms=1234,
    )
    facts = entry.facts
    assert (facts.state, facts.preamble, facts.anchor, facts.at_ms) == ("partial", b"id", anchor, 1234)
    assert (facts.estimated, facts.reported, facts.finish) == (10, 12, "stop")
    assert (facts.dialect, facts.model) == ("chat", "m")
    assert facts.asides == ((1, b'{"reasoning":"r"}'),)
    assert [each.tokens for each in facts.shapes] == [1, 2]


def test_time_of_recording_is_now_unless_it_is_told() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= append(None, message("user")).facts.at_ms <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("count", [1000])
def test_ids_are_hex_unlike_and_in_order_of_time(count: int) -> None:
    ids = [new_id() for _ in range(count)]
    assert len(set(ids)) == count
    assert all(len(each) == 32 and int(each, 16) for each in ids)
    times = [each[:12] for each in ids]
    assert times == sorted(times)


def test_preamble_is_named_by_its_bytes() -> None:
    assert Preamble(b"a", 1).id == Preamble(b"a", 2).id != Preamble(b"b", 1).id
    assert Preamble(b"", 0).id, "saying nothing is a preamble too"
