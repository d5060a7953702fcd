"""A request to the stateful API becomes one that a stateless upstream takes; everything that is not ours travels."""

import json
from typing import Any

import pytest

from proxy.conversation.quirks import Quirks
from proxy.dialects.responses.native import NATIVE
from proxy.dialects.responses.native.request import read
from proxy.errors import InvalidBody, NotFound

ID = "ab" * 24


def asked(**members: object) -> Any:
    return read(json.dumps({"model": "m", "input": "?", **members}).encode(), ID, {})


def test_what_is_not_ours_travels_with_its_bytes() -> None:
    items, tools = b'[ {"role":"user","content":"x"} ]', b'[{"type": "web_search"}]'
    body = b'{"n": 1.0, "input": %b, "big": 123456789012345678901234567890, "tools": %b}' % (items, tools)
    chat = read(body, ID, {}).chat
    for kept in (b'"n":1.0', items, b"123456789012345678901234567890", tools):
        assert kept in chat


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "conversation_id", "background"])
def test_what_names_stored_things_does_not_travel(name: str) -> None:
    value: object = True if name == "background" else "x"
    assert name not in json.loads(asked(**{name: value}).chat)
    # without an input the dialect must know why it is missing, and leaves it out when it writes
    chat = asked(**{"previous_response_id": "x", name: value, "input": None} if name == "background" else
                 {name: value, "input": []}).chat  # fmt: skip
    written = NATIVE.write(NATIVE.read(chat), (), (b'{"role":"user","content":"a"}',), Quirks())
    assert name not in json.loads(written)


def test_sealed_reasoning_is_asked_for_where_it_is_kept() -> None:
    assert json.loads(asked(include=["a"]).chat)["include"] == ["a", "reasoning.encrypted_content"]
    assert json.loads(asked(store=None).chat)["store"] is False
    unstored = asked(store=False, include=["a"])
    assert (unstored.store, json.loads(unstored.chat)["include"]) == (False, ["a"])


def test_what_the_response_repeats() -> None:
    said = {"metadata": {"a": "b"}, "instructions": "Be kind.", "conversation": {"id": "c"}}
    made = asked(**said, temperature=0.5, truncation="auto")
    assert made.fixed == {
        "store": True, "background": False, "previous_response_id": None, "conversation": {"id": "c"},
        "conversation_id": "c", "metadata": {"a": "b"}, "instructions": "Be kind.",
    }  # fmt: skip
    assert (made.echo["temperature"], made.echo["truncation"], made.truncates) == (0.5, "auto", True)
    assert made.instructions == b""


def test_references_and_own_summaries_are_replaced() -> None:
    stored = b'{"type":"message","id":"msg_1","role":"assistant","content":"hi"}'
    chat = read(b'{"input":[{"id":"msg_1"},{"role":"user","content":"x"}]}', ID, {"msg_1": stored}).chat
    assert json.loads(chat)["input"] == [json.loads(stored), {"role": "user", "content": "x"}]
    with pytest.raises(NotFound):
        asked(input=[{"type": "item_reference", "id": "msg_2"}])


def test_too_deep_a_tool_is_refused() -> None:
    deep = b'{"input":"x","tools":' + b"[" * 260 + b"]" * 260 + b"}"
    with pytest.raises(InvalidBody) as refused:
        read(deep, ID, {})
    assert refused.value.param == "tools"
