"""What the proxy itself says in this dialect, and how it asks for something of its own."""

import json

from proxy.conversation.quirks import Quirks
from proxy.dialects.chat import CHAT

BODY = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hi"}],
    "temperature": 0.5,
    "top_k": 30,
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_completion_tokens": 5,
    "response_format": {"type": "json_object"},
    "n": 3,
    "stop": ["."],
    "reasoning_effort": "low",
}


def test_a_text_goes_before_or_behind_and_other_members_keep_their_bytes() -> None:
    wire = b'{"role":"user","content":"b","n":1.0,"big":123456789012345678901234567890}'
    assert CHAT.amended(wire, "a", before=True) == wire.replace(b'"b"', b'"a\\n\\nb"')
    assert CHAT.amended(wire, "c", before=False) == wire.replace(b'"b"', b'"b\\n\\nc"')


def test_parts_get_a_part() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    wire = json.dumps({"role": "user", "content": [image]}).encode()
    parts = json.loads(CHAT.amended(wire, "a", before=True))["content"]
    assert parts == [{"type": "text", "text": "a"}, image]


def test_a_message_that_says_nothing_says_the_text() -> None:
    for wire in (b'{"role":"user"}', b'{"role":"user","content":null}', b'{"role":"user","content":""}'):
        assert json.loads(CHAT.amended(wire, "a", before=True)) == {"role": "user", "content": "a"}


def test_a_request_of_its_own_keeps_what_bears_on_the_prompt() -> None:
    call = CHAT.read(json.dumps(BODY).encode())
    body = json.loads(
        CHAT.ask(CHAT.aside(call), (b'{"role":"system","content":"s"}',), (CHAT.said("user", "q"),), Quirks(), "")
    )
    assert body == {
        "model": "gpt-4o",
        "temperature": 0.5,
        "top_k": 30,
        "reasoning_effort": "low",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
    }


def test_tools_stay_in_the_prompt_and_may_not_be_called() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    call = CHAT.read(json.dumps({**BODY, "tools": tools, "tool_choice": "required"}).encode())
    body = json.loads(CHAT.ask(CHAT.aside(call), (), (CHAT.said("user", "q"),), Quirks(), "other"))
    assert body["tools"] == tools
    assert body["tool_choice"] == "none"
    assert body["model"] == "other"
    old = CHAT.read(json.dumps({**BODY, "functions": [{"name": "f"}], "function_call": {"name": "f"}}).encode())
    assert json.loads(CHAT.ask(CHAT.aside(old), (), (CHAT.said("user", "q"),), Quirks(), ""))["function_call"] == "none"


def test_the_quirks_of_the_upstream_hold_for_it_too() -> None:
    call = CHAT.read(json.dumps(BODY).encode())
    messages = (CHAT.said("user", "a"), CHAT.said("user", "b"))
    body = json.loads(CHAT.ask(CHAT.aside(call), (), messages, Quirks(alternate=True), ""))
    assert body["messages"] == [{"role": "user", "content": "a\n\nb"}]
