"""A request is honoured member by member, or refused by name; what nobody knows travels as it is."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.dialects.responses.reply import response
from proxy.dialects.responses.request import HONOURED, REFUSED, Asked, read
from proxy.errors import InvalidBody, NotFound
from tests.dialects.responses.grammar import check_response

ID = "ab" * 24
NUMBERS = {"temperature", "top_p", "presence_penalty", "frequency_penalty", "max_output_tokens", "top_logprobs"}


def ask(**members: object) -> Asked:
    return read(json.dumps({"model": "m", "input": "hi"} | members).encode(), ID)


def chat(**members: object) -> dict[str, Any]:
    asked = ask(**members)
    CHAT.read(asked.chat)
    check_response(response(asked, ID, 1, Reply(None, whole=True), status="in_progress"))
    made: dict[str, Any] = orjson.loads(asked.chat)
    assert made.pop("messages") == [{"role": "user", "content": "hi"}]
    made.pop("model", None)
    return made


def refused(body: dict[str, object] | bytes) -> InvalidBody:
    with pytest.raises(InvalidBody) as told:
        read(body if isinstance(body, bytes) else json.dumps(body).encode(), ID)
    return told.value


def test_every_member_of_the_sdk_is_honoured_or_refused() -> None:
    known = set(ResponseCreateParamsNonStreaming.__annotations__) | set(ResponseCreateParamsStreaming.__annotations__)
    assert known
    assert not known - HONOURED - set(REFUSED)
    assert not HONOURED & set(REFUSED)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_done_is_refused_by_name(name: str) -> None:
    error = refused({"input": "hi", name: {"a": 1}})
    assert error.param == name
    assert name in error.message
    assert chat(**{name: None}) == {}


@pytest.mark.parametrize("name", sorted(HONOURED))
def test_each_honoured_member_is_looked_at(name: str) -> None:
    """A value of the wrong type is refused by the member's name."""
    error = refused({"input": "hi", "model": "m", name: "x" if name in NUMBERS else 7})
    assert error.param == name
    if name != "input":
        chat(**{name: None})


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"temperature": 0.5, "top_p": 1}, {"temperature": 0.5, "top_p": 1}),
        ({"max_output_tokens": 9}, {"max_tokens": 9}),
        ({"presence_penalty": 1, "frequency_penalty": -1}, {"presence_penalty": 1, "frequency_penalty": -1}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"verbosity": "low"}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}, "strict": True}}},
            {"response_format": {"type": "json_schema",
                                 "json_schema": {"name": "n", "schema": {"a": 1}, "strict": True}}},
        ),
        ({"reasoning": {"effort": "low", "summary": None}}, {"reasoning_effort": "low"}),
        ({"metadata": {"a": "b"}, "store": False, "truncation": "auto"}, {}),
        ({"background": False, "context_management": [], "top_logprobs": 0}, {}),
        ({"include": ["reasoning.encrypted_content"]}, {}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"prompt_cache_options": {"mode": "explicit"}}, {"prompt_cache_options": {"mode": "explicit"}}),
        ({"background": True, "stream_options": {"include_obfuscation": True}}, {}),
        ({"conversation": {"id": "conv_1"}, "conversation_id": "conv_1"}, {}),
        ({"stream": True, "stream_options": {"include_obfuscation": False}},
         {"stream": True, "stream_options": {"include_usage": True}}),
        ({"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "prompt_cache_retention": "24h",
          "service_tier": "flex"},
         {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "prompt_cache_retention": "24h",
          "service_tier": "flex"}),
        ({"seed": 1, "stop": ["a"], "top_k": 4}, {"seed": 1, "stop": ["a"], "top_k": 4}),
        ({"parallel_tool_calls": False, "tool_choice": "auto"}, {}),
    ],
)  # fmt: skip
def test_members_become_those_of_chat(given: dict[str, object], made: dict[str, object]) -> None:
    assert chat(**given) == made


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options.include_usage"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": {"context": "auto"}}, "reasoning.context"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": None}}}, "text.format.schema"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"prompt_cache_options": {"ttl": "12h"}}, "prompt_cache_options.ttl"),
        ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "b" * 513}}, "metadata.a"),
        ({"metadata": {str(at): "" for at in range(17)}}, "metadata"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 4}, "max_tokens"),
        ({"response_format": {}}, "response_format"),
        ({"n": 2}, "n"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"previous_response_id": ""}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_refusals_name_the_member(given: dict[str, object], param: str) -> None:
    assert refused({"model": "m", "input": "hi"} | given).param == param


@pytest.mark.parametrize("model", ["gpt-5-mini", "openai/gpt-5", "o1", "o3-mini", "o4-mini"])
def test_models_that_reason_take_the_other_limit(model: str) -> None:
    assert chat(model=model, max_output_tokens=9) == {"max_completion_tokens": 9}


def test_what_nobody_knows_keeps_its_bytes() -> None:
    asked = read(b'{ "input":"hi", "top_k" : 1.50e1 , "guided": {"a" :  12345678901234567890123} }', ID)
    assert b'"top_k":1.50e1,' in asked.chat
    assert b'"guided":{"a" :  12345678901234567890123}' in asked.chat
    assert b'"model"' not in asked.chat
    assert asked.model == ""


def test_the_facts_of_a_request() -> None:
    asked = ask(instructions="Be brief.", previous_response_id="resp_1", store=False, stream=True, input=[])
    assert orjson.loads(asked.instructions) == {"role": "system", "content": "Be brief."}
    assert (asked.previous, asked.store, asked.stream, asked.model) == ("resp_1", False, True, "m")
    assert asked.echo["instructions"] == "Be brief."
    assert (ask().instructions, ask().previous, ask().store, ask().stream) == (b"", "", True, False)
    assert ask(instructions="").instructions == b""
    assert asked.items == ()


def test_what_it_goes_on_from() -> None:
    named: list[dict[str, object]] = [
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"conversation_id": "conv_1"},
    ]
    for each in named:
        asked = ask(**each, input=None)
        assert (asked.conversation, asked.previous) == ("conv_1", "")
        assert (asked.echo["conversation"], asked.echo["conversation_id"]) == ({"id": "conv_1"}, "conv_1")
        assert orjson.loads(asked.chat)["messages"] == []
    assert not {"conversation", "conversation_id"} & set(ask().echo)


def test_truncation_that_was_left_out_is_disabled_in_the_reply() -> None:
    ways: list[dict[str, object]] = [{}, {"truncation": "auto"}, {"truncation": "disabled"}, {"truncation": None}]
    told = [(ask(**each).truncates, ask(**each).echo["truncation"]) for each in ways]
    assert told == [(None, "disabled"), (True, "auto"), (False, "disabled"), (None, "disabled")]


def test_references_are_read_as_the_items_that_they_name() -> None:
    content = [{"type": "input_text", "text": "a"}]
    stored = orjson.dumps({"type": "message", "role": "user", "id": "msg_x", "status": "completed", "content": content})
    body = b'{"input":[{"type":"item_reference","id":"msg_x"}]}'
    asked = read(body, ID, {"msg_x": stored})
    assert orjson.loads(asked.chat)["messages"] == [{"role": "user", "content": "a"}]
    assert [orjson.loads(item) for item in asked.items] == [orjson.loads(stored)]
    with pytest.raises(NotFound, match="Item with id 'msg_x' not found"):
        read(body, ID)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from(["message", "function_call", "function", "user", "assistant", "input_text", "json_schema"]),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "role", "content", "name", "text", "call_id", "arguments", "output", "format", "tools",
                         "input_image", "image_url", "file_data", "summary", "parameters", "schema", "status", "id"]),
        each, max_size=4),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(HONOURED)), JSON, max_size=3), st.lists(JSON, max_size=3))
def test_hostile_bodies_are_refused_and_nothing_else(body: dict[str, object], items: list[object]) -> None:
    for each in (body, {"input": items}, {"input": "hi", "tools": items}, {**body, "input": "hi"}):
        try:
            asked = read(json.dumps(each).encode(), ID)
        except (InvalidBody, NotFound) as error:
            told = error.param or error.message
        else:
            told = orjson.loads(asked.chat)["messages"] or asked.previous or asked.conversation
        assert told


TOOL = b'{"input":"a","tools":[{"type":"function","name":"f","parameters":'


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b"null", b"\xff", b'{"input":"\\ud800"}', b'{"input":"a","input":"b"}',
        b'{"input":"a","temperature":1e999}', b'{"input":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"input":"a","metadata":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
        TOOL + b'{"a":' * 252 + b"1" + b"}" * 252 + b"}]}",
        b'{"input":[{"role":"user","x":' + b'{"a":' * 252 + b"1" + b"}" * 252 + b',"content":"a"}]}',
        *(TOOL + b'{"a":' * deep + b"1" + b"}" * deep + b"}]}" for deep in range(243, 255)),
    ],
)  # fmt: skip
def test_hostile_bytes_are_refused_and_nothing_else(body: bytes) -> None:
    try:
        asked = read(body, ID)
    except InvalidBody:
        return
    made = response(asked, ID, 1, Reply(None, whole=True), status="in_progress")
    orjson.dumps({"response": made})
