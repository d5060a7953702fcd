"""Chunks add up to the completion that the openai SDK adds up from them, however they are cut."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.resources.accumulate import from_body, from_stream

Json = dict[str, Any]

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


def cut(text: str, places: list[int]) -> list[str]:
    marks = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(marks)]


PLACES = st.lists(st.integers(0, 20), max_size=4)
LOGPROB = st.builds(
    lambda token: {"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}, TEXT
)


@st.composite
def choices(draw: st.DrawFn, index: int) -> list[Json]:
    """The deltas of one choice, as choices of chunks."""
    deltas: list[Json] = [{"role": "assistant", "content": draw(st.sampled_from(["", None]))}]
    for member in draw(st.lists(st.sampled_from(["content", "refusal", "reasoning_content"]), max_size=3, unique=True)):
        deltas += [{member: piece} for piece in cut(draw(TEXT), draw(PLACES))]
    for at in range(draw(st.integers(0, 3))):
        first = {
            "index": at,
            "id": f"call_{index}_{at}",
            "type": "function",
            "function": {"name": "f", "arguments": ""},
        }
        deltas.append({"tool_calls": [first]})
        deltas += [
            {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}
            for piece in cut(json.dumps({"q": draw(TEXT)}), draw(PLACES))
        ]
    made = [{"index": index, "delta": delta, "finish_reason": None, "logprobs": None} for delta in deltas]
    if draw(st.booleans()):
        # the SDK counts those of a choice's first chunk twice
        for each in made[1:]:
            each["logprobs"] = {"content": draw(st.lists(LOGPROB, max_size=2)), "refusal": None}
    finish = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
    return [*made, {"index": index, "delta": {}, "finish_reason": finish, "logprobs": None}]


@st.composite
def streams(draw: st.DrawFn) -> list[Json]:
    count = draw(st.integers(1, 3))
    lines = [draw(choices(index)) for index in range(count)]
    # the SDK takes the first chunk of each choice in the order of their indexes
    order = [line.pop(0) for line in lines]
    while left := [line for line in lines if line]:
        order.append(draw(st.sampled_from(left)).pop(0))
    about = {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk", "system_fingerprint": "fp"}
    made: list[Json] = [{**about, "choices": [each], "usage": None} for each in order]
    if draw(st.booleans()):
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        made.append({**about, "choices": [], "usage": usage})
    return made


def sse(chunks: list[Json]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in chunks) + b"data: [DONE]\n\n"


def read(data: bytes) -> Json:
    return {name: json.loads(bytes(raw)) for name, raw in from_stream(data).items()}


def bare(value: object) -> object:
    """Without null members and what only the SDK adds."""
    if isinstance(value, dict):
        added = {"parsed", "parsed_arguments"}
        # in a call, the index is the stream's; a choice keeps it
        if "function" in value:
            added.add("index")
        return {name: bare(each) for name, each in value.items() if each is not None and name not in added}
    return [bare(each) for each in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=60)
@given(streams())
def test_a_stream_adds_up_to_what_the_sdk_makes_of_it(chunks: list[Json]) -> None:
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    made = read(sse(chunks))
    expected = state.current_completion_snapshot.to_dict()
    assert bare(made) == bare(expected)
    # and it is a completion in the strict sense of the types
    ChatCompletion.model_validate_json(json.dumps(made), strict=True)


def test_unknown_members_and_sound_are_kept() -> None:
    chunks: list[Json] = [
        {"id": "", "choices": [], "prompt_filter_results": [1]},
        {"id": "c", "obfuscation": "x", "choices": [{"index": 0, "delta": {"audio": {"id": "a", "data": "AA"}}}]},
        {"id": "d", "choices": [{"index": 0, "delta": {"audio": {"data": "BB", "expires_at": 5}, "own": {"k": 1}}}]},
        {
            "id": "d",
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 7, "obfuscation": "x"}],
        },
    ]
    made = read(sse(chunks))
    assert (made["id"], made["prompt_filter_results"], "obfuscation" in made) == ("c", [1], False)
    [choice] = made["choices"]
    assert choice == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "audio": {"id": "a", "data": "AABB", "expires_at": 5},
            "own": {"k": 1},
        },
        "logprobs": None,
        "finish_reason": "stop",
        "stop_reason": 7,
    }


def test_calls_without_a_type_get_the_one_that_they_have() -> None:
    calls = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]
    calls.append({"index": 1, "id": "b", "custom": {"name": "g", "input": "x"}})
    made = read(sse([{"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": calls}}]}]))
    assert [each["type"] for each in made["choices"][0]["message"]["tool_calls"]] == ["function", "custom"]


def test_halves_of_a_character_are_joined() -> None:
    halves = [
        b'{"id":"c","choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"\\ude00 \\ud800"}}]}',
    ]
    made = read(b"".join(b"data: %b\n\n" % each for each in halves))
    assert made["choices"][0]["message"]["content"] == "\U0001f600 �"


@given(
    st.binary(max_size=60)
    | st.builds(
        lambda value: b"data: " + json.dumps(value).encode(),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["id", "choices", "delta", "index", "tool_calls", "content", "x"]), inner
                )
            ),
            max_leaves=12,
        ),
    )
)
def test_nothing_that_comes_breaks_it(data: bytes) -> None:
    from_stream(data)
    from_body(data.removeprefix(b"data: "))


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b'"x"', b"\xff", b"[" * 100_000])
def test_what_is_no_object_has_no_members(body: bytes) -> None:
    assert from_body(body) == {}
    assert from_stream(b"data: %b\n\n" % body) == {}


def test_a_plain_completion_keeps_the_bytes_of_its_members() -> None:
    members = from_body(b'{"id": "c", "n": 1.0, "big": 123456789012345678901234567890, "e": "\\u00fc"}')
    assert {name: bytes(raw) for name, raw in members.items()} == {
        "id": b'"c"',
        "n": b"1.0",
        "big": b"123456789012345678901234567890",
        "e": b'"\\u00fc"',
    }
