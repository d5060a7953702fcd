"""Which of a request's messages are new, and after which entry they come."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.entry import Entry, grow, new_id
from proxy.conversation.message import Message
from proxy.exchange.reconcile import FindDigests, Lookup, Reading, Stored, reconcile

KEY = b"k" * 32


def user(text: str) -> Message:
    return Message("user", b'{"role":"user"}', text)


def assistant(text: str) -> Message:
    return Message("assistant", b'{"role":"assistant"}', text)


class Session:
    """A plain in-memory session: entries with their whole line of messages."""

    def __init__(self) -> None:
        self.lines: dict[str, tuple[Entry, list[Message]]] = {}
        self.head: Entry | None = None
        self.lookups = 0

    def append(self, messages: Sequence[Message], parent: str | None = None) -> Entry:
        before = self.head.id if parent is None and self.head else parent or ""
        base = self.lines.get(before)
        entry = grow(
            id=new_id(),
            parent=base[0] if base else None,
            key=KEY,
            messages=messages,
            tokens=[1] * len(messages),
            dialect="chat",
            model="m",
        )
        self.lines[entry.id] = entry, [*(base[1] if base else []), *messages]
        self.head = entry
        return entry

    def read(self, messages: Sequence[Message], *, history: str = "auto", once_whole: bool = False) -> Reading:
        steps = reconcile(messages, self.head, once_whole=once_whole, history=history, key=KEY)
        try:
            need = next(steps)
            while True:
                self.lookups += 1
                need = steps.send(self._answer(need))
        except StopIteration as stop:
            reading: Reading = stop.value
            return reading

    def _answer(self, need: Lookup) -> dict[bytes, str] | Stored:
        if isinstance(need, FindDigests):
            ends = {entry.digest: entry.id for entry, _ in self.lines.values()}
            return {digest: ends[digest] for digest in need.digests if digest in ends}
        assert self.head is not None
        line = self.lines[self.head.id][1][need.first : need.upto]
        return Stored(tuple(line), need.first == 0 or bool(line and line[0].role == "user"))


@pytest.fixture
def session() -> Session:
    """Three turns, one entry each."""
    session = Session()
    for n in (1, 2, 3):
        session.append([user(f"u{n}"), assistant(f"a{n}")])
    return session


def line(n: int) -> list[Message]:
    return [message for k in range(1, n + 1) for message in (user(f"u{k}"), assistant(f"a{k}"))]


def test_messages_without_an_assistant_message_are_a_delta(session: Session) -> None:
    assert session.head
    assert session.read([user("u4")]) == Reading(whole=False, parent=session.head.id)
    assert session.lookups == 0


def test_a_first_delta_starts_a_root() -> None:
    assert Session().read([user("u1")]) == Reading(whole=False, parent="")


def test_a_history_sent_in_full_is_known_up_to_its_tail_by_one_comparison(session: Session) -> None:
    assert session.head
    assert session.read([*line(3), user("u4")]) == Reading(whole=True, parent=session.head.id, known=6)
    assert session.lookups == 0


def test_a_regenerated_reply_branches_before_the_last_turn(session: Session) -> None:
    second = list(session.lines)[1]
    assert session.read([*line(2), user("u3")]) == Reading(whole=True, parent=second, known=4)


def test_an_edited_message_branches_after_the_longest_known_prefix(session: Session) -> None:
    first = next(iter(session.lines))
    edited = [*line(1), user("u2, but other"), assistant("a2"), user("u3")]
    assert session.read(edited) == Reading(whole=True, parent=first, known=2)


def test_an_older_branch_resumes(session: Session) -> None:
    old = session.head
    assert old
    session.append([user("other"), assistant("line")], parent=next(iter(session.lines)))
    assert session.read([*line(3), user("u4")]) == Reading(whole=True, parent=old.id, known=6)


def test_a_truncated_history_overlaps_the_head(session: Session) -> None:
    assert session.head
    sent = [*line(3)[2:], user("u4")]
    assert session.read(sent) == Reading(whole=True, parent=session.head.id, known=4, offset=2)


def test_an_overlap_must_start_at_a_turn(session: Session) -> None:
    sent = [*line(3)[3:], user("u4")]
    assert session.read(sent) == Reading(whole=True, parent="")


def test_an_overlap_must_end_at_the_head(session: Session) -> None:
    sent = [user("u2"), assistant("a2"), user("new")]
    assert session.read(sent) == Reading(whole=True, parent="")


def test_an_unknown_history_is_a_new_root(session: Session) -> None:
    assert session.read([user("x"), assistant("y"), user("z")]) == Reading(whole=True, parent="")


def test_after_whole_history_a_lone_message_is_a_new_conversation(session: Session) -> None:
    assert session.read([user("u4")], once_whole=True) == Reading(whole=True, parent="")


def test_full_never_takes_a_lone_message_for_a_delta(session: Session) -> None:
    assert session.read([user("u4")], history="full") == Reading(whole=True, parent="")


def test_delta_appends_assistant_messages_too(session: Session) -> None:
    assert session.head
    sent = [user("x"), assistant("y"), user("z")]
    assert session.read(sent, history="delta") == Reading(whole=False, parent=session.head.id)


def test_a_lead_equal_to_the_sessions_first_messages_is_known_and_pinned(session: Session) -> None:
    assert session.head
    sent = [*line(1), user("u4")]
    reading = session.read(sent, history="delta")
    assert reading == Reading(whole=False, parent=session.head.id, known=2, pinned=True)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=8), st.data())
def test_whatever_line_is_resent_continues_exactly_that_line(turns: list[tuple[int, int]], data: st.DataObject) -> None:
    """Grow a random tree; re-send any node's line with a new tail: the reading names a node with that very line."""
    session = Session()
    for text, back in turns:
        nodes = ["", *session.lines]
        session.append([user(f"u{text}"), assistant(f"a{text}")], parent=nodes[back % len(nodes)])
    chosen = data.draw(st.sampled_from(list(session.lines)))
    sent = session.lines[chosen][1]
    reading = session.read([*sent, user("tail")])
    assert reading.whole
    assert reading.known == len(sent)
    assert session.lines[reading.parent][1][reading.offset :] == sent
