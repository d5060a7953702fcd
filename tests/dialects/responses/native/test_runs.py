"""Items become messages; a reply's items are one message, read again as one, and shown whole."""

import json
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversation.message import Message, canonical
from proxy.dialects.responses.native import NATIVE
from proxy.dialects.responses.native.runs import SILENCE, full, read_list, split
from tests.dialects.responses.native import samples
from tests.dialects.responses.native.samples import Item, call, histories, message, output, plain, reasoning


def grouped(*items: Item) -> list[Message]:
    return read_list(json.dumps(items).encode())


def test_neighbours_of_the_model_s_are_one_message() -> None:
    made = grouped(
        samples.USER,
        reasoning(),
        message("a"),
        call("x"),
        call("y"),
        output("x"),
        output("y"),
        message("b"),
        samples.USER,
    )
    assert [each.role for each in made] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert made[1].text == "a"
    assert [each.id for each in made[1].calls] == ["x", "y"]
    assert [item["type"] for item in orjson.loads(b"[%b]" % made[1].wire)] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]


def test_reasoning_that_nothing_follows_is_left_out() -> None:
    made = grouped(samples.USER, reasoning(1), message("a"), reasoning(2), samples.USER)[1]
    assert b"gAAA1" in made.wire
    assert b"gAAA2" not in made.wire
    assert b"gAAA2" in full(made.wire, made.aside)


def test_reasoning_at_the_very_end_is_what_the_model_goes_on_with() -> None:
    assert b"gAAA" in grouped(samples.USER, reasoning())[1].wire


def test_a_run_of_which_nothing_can_be_sent_says_nothing() -> None:
    made = grouped(samples.USER, reasoning(encrypted_content=None), samples.USER)[1]
    assert (made.wire, made.text, made.calls) == (SILENCE, "", ())
    assert orjson.loads(full(made.wire, made.aside))["id"] == "rs_0000"


def test_full_is_one_item_or_a_list_and_is_read_again_as_one_message() -> None:
    cited = message("", content=[{"type": "output_text", "text": "hi", "annotations": [{"type": "file_path"}]}])
    items = [reasoning(1, encrypted_content=None), cited, reasoning(2), call("x"), reasoning(3)]
    reply = plain(items)
    assert reply.message is not None
    whole = full(reply.message.wire, reply.message.aside)
    shown = orjson.loads(whole)
    assert [item["type"] for item in shown] == ["reasoning", "message", "reasoning", "function_call", "reasoning"]
    assert shown[:2] == items[:2]
    (again,) = NATIVE.messages(whole)
    assert canonical(again) == canonical(reply.message)
    assert full(message_wire := NATIVE.said("user", "a"), b"") == message_wire


@settings(max_examples=100, deadline=None)
@given(histories)
def test_what_is_recorded_is_read_again_as_the_same_messages(history: list[list[Item]]) -> None:
    """An entry's bytes: what the client sent and the reply, joined."""
    for sent, made in zip(history[::2], history[1::2], strict=True):
        reply = plain(made)
        assert reply.message is not None
        messages = [*grouped(*sent), reply.message]
        again = NATIVE.messages(b",".join(each.wire for each in messages))
        assert [(each.wire, canonical(each)) for each in again] == [(each.wire, canonical(each)) for each in messages]


@settings(max_examples=100, deadline=None)
@given(histories)
def test_nothing_that_was_said_is_lost(history: list[list[Item]]) -> None:
    for made in history[1::2]:
        reply = plain(made).message
        assert reply is not None
        shown = orjson.loads(full(reply.wire, reply.aside))
        shown = shown if isinstance(shown, list) else [shown]
        assert [said(item) for item in shown] == [said(item) for item in made]


def said(item: Item) -> Any:
    content = item.get("content") or ""
    if isinstance(content, list):
        content = "".join(str(part.get("text", part.get("refusal"))) for part in content)
    labels = ("id", "status", "content")
    return content, {name: each for name, each in item.items() if name not in labels and each is not None}


@given(st.lists(st.sampled_from([b'{"a":1}', b'{"b":[{}]}']), max_size=4))
def test_runs_are_split_into_their_items(items: list[bytes]) -> None:
    assert split([b",".join(items)] if items else []) == items
