"""Redacted entries keep their place, lose the content, and give valid histories."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation import turn
from proxy.conversation.entry import Entry, grow
from proxy.conversation.redact import ERASED, redacted, unquoted
from proxy.dialects.chat import CHAT

STAND_IN = CHAT.no_result(ERASED)


def entry(messages: list[dict[str, Any]], parent: Entry | None = None, recalled: bytes = b"") -> Entry:
    read = CHAT.messages(b",".join(json.dumps(message).encode() for message in messages))
    return grow(
        id=f"{len(messages):032x}",
        parent=parent,
        key=b"k",
        messages=read,
        tokens=[len(message.wire) for message in read],
        dialect="chat",
        model="m",
        recalled=recalled,
    )


def call(*ids: str) -> dict[str, Any]:
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": f"result of {id}"}


blocks = st.sampled_from([
    [{"role": "user", "content": "asked"}, {"role": "assistant", "content": "told"}],
    [{"role": "user", "content": "look"}, call("a", "b"), result("a"), result("b")],
    [call("c"), result("c"), {"role": "assistant", "content": "found"}],
])  # fmt: skip


@given(st.lists(blocks, min_size=1, max_size=4), st.data())
def test_what_is_redacted_is_in_no_context_and_the_rest_is_valid(parts: list[Any], data: st.DataObject) -> None:
    messages = [
        # calls of different blocks have ids of their own
        json.loads(json.dumps(message).replace('"a"', f'"a{n}"').replace('"b"', f'"b{n}"').replace('"c"', f'"c{n}"'))
        for n, block in enumerate(parts)
        for message in block
    ]
    made = whole = entry(messages)
    gone = data.draw(st.sets(st.integers(0, len(messages) - 1), min_size=1))
    for at in gone:
        made = redacted(made, at, None, 0, STAND_IN)
    assert (made.id, made.parent, made.count, made.upto, made.turn, made.digest, made.tokens_upto) == (
        whole.id, whole.parent, whole.count, whole.upto, whole.turn, whole.digest, whole.tokens_upto,
    )  # fmt: skip
    assert made.tokens == sum(shape.tokens for shape in made.facts.shapes)
    assert made.loose
    wires = [wire for _, _, wire in made.messages()]
    assert len(CHAT.messages(made.wire)) == len(messages)
    for at, (before, after) in enumerate(zip(whole.messages(), wires, strict=True)):
        assert (after == STAND_IN) == (at in gone)
        assert at in gone or after == before[2]
    shown = turn.repair([(shape, wire) for _, shape, wire in made.messages()], CHAT.no_result)
    assert STAND_IN not in shown
    follow = turn.follow([_shape(wire) for wire in shown])
    assert not follow.loose
    assert not follow.unknown
    left = {id for at, message in enumerate(messages) if at not in gone for id in _ids(message)}
    assert {json.loads(wire)["tool_call_id"] for wire in shown if b"tool_call_id" in wire} == left


def _shape(wire: bytes) -> Any:
    from proxy.conversation.message import shape

    (message,) = CHAT.messages(wire)
    return shape(message, 0)


def _ids(message: dict[str, Any]) -> list[str]:
    return [each["id"] for each in message.get("tool_calls") or ()]


def test_a_message_can_be_replaced_by_what_is_left_of_it() -> None:
    made = entry([{"role": "user", "content": "x"}, call("a", "b")])
    assert made.facts.open == ("a", "b")
    (left,) = CHAT.messages(json.dumps(call("b")).encode())
    made = redacted(made, 1, left, 7, STAND_IN)
    assert made.facts.open == ("b",)
    assert made.facts.shapes[1].calls == ("b",)
    assert made.facts.shapes[1].tokens == 7
    assert redacted(made, 1, None, 0, STAND_IN).facts.open == ()


def test_quotes_of_others_go() -> None:
    made = entry([{"role": "user", "content": "x"}, call("a")], recalled=b"quoted")
    assert made.facts.recalled == b"quoted"
    assert unquoted(made).facts.recalled == b""
    assert redacted(made, 0, None, 0, STAND_IN).facts.recalled == b""
    assert unquoted(made).wire == made.wire
