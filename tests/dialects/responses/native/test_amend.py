"""What the proxy itself says in this dialect, and how it asks for something of its own."""

import json

import orjson

from proxy.conversation.message import canonical
from proxy.conversation.quirks import Quirks
from proxy.dialects.responses.native import NATIVE
from tests.dialects.responses.native.samples import call, message, output, plain, reasoning

BODY = {
    "model": "gpt-5",
    "input": "hi",
    "instructions": "i",
    "temperature": 0.5,
    "top_k": 30,
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "max_output_tokens": 5,
    "text": {"format": {"type": "json_object"}},
    "reasoning": {"effort": "low"},
    "previous_response_id": "resp_1",
    "background": True,
    "store": True,
    "metadata": {"a": "b"},
    "prompt_cache_key": "k",
}


def test_a_text_goes_before_or_behind_and_other_members_keep_their_bytes() -> None:
    wire = b'{"role":"user","content":"b","n":1.0,"big":123456789012345678901234567890}'
    assert NATIVE.amended(wire, "a", before=True) == wire.replace(b'"b"', b'"a\\n\\nb"')
    assert NATIVE.amended(wire, "c", before=False) == wire.replace(b'"b"', b'"b\\n\\nc"')


def test_parts_get_a_part() -> None:
    image = {"type": "input_image", "image_url": "data:,"}
    wire = json.dumps({"role": "user", "content": [image]}).encode()
    parts = json.loads(NATIVE.amended(wire, "a", before=True))["content"]
    assert parts == [{"type": "input_text", "text": "a"}, image]
    refusal = {"type": "refusal", "refusal": "no"}
    wire = json.dumps({"type": "message", "role": "assistant", "content": [refusal]}).encode()
    parts = json.loads(NATIVE.amended(wire, "a", before=False))["content"]
    assert parts == [refusal, {"type": "output_text", "text": "a", "annotations": []}]


def test_a_message_that_says_nothing_says_the_text() -> None:
    for wire in (b'{"role":"user"}', b'{"role":"user","content":null}', b'{"role":"user","content":[]}'):
        assert json.loads(NATIVE.amended(wire, "a", before=True)) == {"role": "user", "content": "a"}


def test_a_result_is_amended_where_it_says_something() -> None:
    wire = json.dumps(output("x", "1")).encode()
    assert json.loads(NATIVE.amended(wire, "a", before=True)) == output("x", "a\n\n1")


def test_a_run_is_amended_at_its_texts_and_never_behind_its_calls() -> None:
    for items, before, after in (
        ([reasoning(), message("a"), message("b"), call()], "t\n\nab", "ab\n\nt"),
        ([reasoning(), call()], "t", "t"),
    ):
        made = plain(items).message
        assert made is not None
        for first, text in ((True, before), (False, after)):
            wire = NATIVE.amended(made.wire, "t", before=first)
            (again,) = NATIVE.messages(wire)
            assert (again.text, again.calls) == (text, made.calls)
            assert json.loads(b"[%b]" % wire)[-1]["type"] == "function_call"


def test_said_is_a_message_that_says_just_that() -> None:
    for role in ("system", "user", "assistant"):
        (made,) = NATIVE.messages(NATIVE.said(role, 'a"é'))
        assert (made.role, made.text, made.calls) == (role, 'a"é', ())
        assert canonical(made) == canonical(NATIVE.messages(NATIVE.said(role, 'a"é'))[0])


def test_a_request_of_its_own_keeps_what_bears_on_the_prompt() -> None:
    call = NATIVE.read(json.dumps(BODY).encode())
    body = NATIVE.ask(NATIVE.aside(call), (NATIVE.said("system", "s"),), (NATIVE.said("user", "q"),), Quirks(), "")
    assert json.loads(body) == {
        "model": "gpt-5",
        "instructions": "i",
        "temperature": 0.5,
        "top_k": 30,
        "reasoning": {"effort": "low"},
        "prompt_cache_key": "k",
        "store": False,
        "input": [
            {"type": "message", "role": "system", "content": "s"},
            {"type": "message", "role": "user", "content": "q"},
        ],
    }


def test_tools_stay_in_the_prompt_and_may_not_be_called() -> None:
    tools = [{"type": "function", "name": "f"}]
    call = NATIVE.read(json.dumps({**BODY, "tools": tools, "tool_choice": "required"}).encode())
    body = json.loads(NATIVE.ask(NATIVE.aside(call), (), (NATIVE.said("user", "q"),), Quirks(), "other"))
    assert (body["tools"], body["tool_choice"], body["model"]) == (tools, "none", "other")


def test_the_quirks_of_the_upstream_hold_for_it_too() -> None:
    call = NATIVE.read(json.dumps(BODY).encode())
    messages = (NATIVE.said("user", "a"), NATIVE.said("user", "b"))
    body = orjson.loads(NATIVE.ask(NATIVE.aside(call), (), messages, Quirks(alternate=True), ""))
    assert [each["content"] for each in body["input"]] == ["a\n\nb"]
