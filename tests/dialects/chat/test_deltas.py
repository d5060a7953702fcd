"""Deltas become the message that the same reply would be in one piece, however a server cuts it."""

import json
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversation.message import canonical
from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from tests.dialects.chat.samples import asked, event, plain, streamed


def wire(reply: Reply) -> dict[str, object]:
    assert reply.message is not None
    return dict(orjson.loads(reply.message.wire))


def aside(reply: Reply) -> dict[str, object]:
    assert reply.message is not None
    return dict(orjson.loads(reply.message.aside or b"{}"))


TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
CALLS = st.lists(
    st.tuples(
        st.text("abc", min_size=1, max_size=5),
        st.dictionaries(TEXT, st.integers() | TEXT | st.floats(allow_nan=False), max_size=3),
    ),
    max_size=3,
)


@st.composite
def replies(draw: st.DrawFn) -> tuple[dict[str, object], list[dict[str, object]]]:
    """A message, and deltas that make it."""
    message: dict[str, object] = {"content": draw(TEXT)}
    if reasoning := draw(TEXT):
        message["reasoning_content"] = reasoning
    if refusal := draw(st.just("") | TEXT):
        message["refusal"] = refusal
    calls = [
        {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for at, (name, arguments) in enumerate(draw(CALLS))
    ]
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
    for member, text in message.items():
        deltas += [{member: piece} for piece in pieces(draw, str(text))]
    whole = draw(st.booleans())
    growing: list[list[dict[str, object]]] = []
    for at, call in enumerate(calls):
        if whole:
            growing.append([{"tool_calls": [{**call, "index": at}]}])
            continue
        function = call["function"]
        assert isinstance(function, dict)
        first = {**call, "index": at, "function": {"name": function["name"], "arguments": ""}}
        rest = [{"index": at, "function": {"arguments": piece}} for piece in pieces(draw, function["arguments"])]
        growing.append([{"tool_calls": [each]} for each in (first, *rest)])
    if draw(st.booleans()):
        deltas += [delta for call in growing for delta in call]
    else:  # side by side
        while any(growing):
            deltas += [call.pop(0) for call in growing if call]
    if calls:
        message["tool_calls"] = calls
    return message, deltas


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    at = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=3))})
    return [text[start:end] for start, end in pairwise(at)]


@settings(max_examples=120, deadline=None)
@given(replies())
def test_streamed_and_plain_give_an_equal_message(reply: tuple[dict[str, object], list[dict[str, object]]]) -> None:
    message, deltas = reply
    finish = "tool_calls" if "tool_calls" in message else "stop"
    one, other = plain(message, finish), streamed(*deltas, finish=finish)
    assert one.message is not None
    assert other.message is not None
    assert canonical(one.message) == canonical(other.message)
    assert wire(one) == wire(other)
    assert aside(one) == aside(other)
    assert one.whole
    assert other.whole


def call(
    index: int | None = None, id: str | None = None, name: str | None = None, arguments: str | None = None
) -> dict[str, object]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    members = {"index": index, "id": id, "function": function}
    return {"tool_calls": [{key: value for key, value in members.items() if value is not None}]}


def made(id: str, name: str, arguments: str) -> dict[str, object]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        ([call(0, None, None, "{"), call(0, "a", None, "}"), call(0, None, "f")], [("a", "f", "{}")]),
        ([call(0, "a", "get_", ""), call(0, None, "time", "{}")], [("a", "get_time", "{}")]),
        ([call(0, "a", "f", "{"), call(0, "a", "f", "}")], [("a", "f", "{}")]),
        ([call(0, "a", "f", "{}"), call(0, "b", "f", "{}")], [("a", "f", "{}"), ("b", "f", "{}")]),
        ([call(0, "a", "f", "{"), call(0, "other", None, "}")], [("a", "f", "{}")]),
        (
            [call(None, "a", "f", "{"), call(None, None, None, "}"), call(None, "b", "g", "{}")],
            [("a", "f", "{}"), ("b", "g", "{}")],
        ),
        (
            [
                call(None, "a", "f", "{"),
                call(None, "b", "g", "{"),
                call(None, "a", None, "}"),
                call(None, "b", None, "}"),
            ],
            [("a", "f", "{}"), ("b", "g", "{}")],
        ),
        ([call(None, None, "f", "{}"), call(None, None, "g", "{}")], [("", "f", "{}"), ("", "g", "{}")]),
        ([call(1, "b", "g", "{}"), call(0, "a", "f", "{}")], [("b", "g", "{}"), ("a", "f", "{}")]),
    ],
    ids=[
        "late",
        "name-in-pieces",
        "all-repeated",
        "all-index-0",
        "new-id-each-time",
        "no-index",
        "no-index-side-by-side",
        "nothing-but-names",
        "backwards",
    ],
)
def test_calls_come_in_many_ways(deltas: list[dict[str, object]], calls: list[tuple[str, str, str]]) -> None:
    read = streamed(*deltas, finish="tool_calls")
    listed = wire(read)["tool_calls"]
    assert isinstance(listed, list)
    assert [(each.get("id", ""), each["function"]["name"], each["function"]["arguments"]) for each in listed] == calls
    assert all("index" not in each and each["type"] == "function" for each in listed)


def test_arguments_that_are_an_object_become_a_string() -> None:
    arguments = {"a": 1.0, "n": 123456789012345678901234567890}
    body = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    for read in (plain({"tool_calls": [body]}), streamed({"tool_calls": [{**body, "index": 0}]})):
        assert read.message is not None
        assert json.loads(read.message.calls[0].arguments) == arguments


def test_unknown_members_are_kept_aside() -> None:
    read = streamed(
        {"content": "x", "citations": ["a"]}, {"citations": ["b"], "provider_note": "p"}, {"provider_note": "q"}
    )
    assert aside(read) == {"citations": ["a", "b"], "provider_note": "pq"}
    assert wire(read) == {"role": "assistant", "content": "x"}


def test_encrypted_reasoning_of_two_calls_is_not_mixed() -> None:
    one = {"type": "reasoning.encrypted", "data": "AAA", "id": "r1", "index": 0}
    read = streamed({"reasoning_details": [one]}, {"reasoning_details": [{**one, "data": "BBB"}]})
    assert aside(read) == {"reasoning_details": [one, {**one, "data": "BBB"}]}


def test_only_the_first_choice_is_read() -> None:
    reader = CHAT.reader(asked(n=2), stream=False)
    choices = [{"index": at, "message": {"content": str(at)}, "finish_reason": "stop"} for at in (1, 0)]
    reader.feed(json.dumps({"choices": choices}).encode())
    assert wire(reader.reply())["content"] == "0"


@pytest.mark.parametrize("finish", ["length", "content_filter", None])
def test_call_that_was_cut_off_is_kept_aside(finish: str | None) -> None:
    whole, cut = made("a", "f", "{}"), made("b", "g", '{"x": "')
    for read in (plain({"tool_calls": [whole, cut]}, finish), streamed({"tool_calls": [whole, cut]}, finish=finish)):
        assert wire(read)["tool_calls"] == [whole]
        assert aside(read) == {"tool_calls": [cut]}
        assert read.message is not None
        assert [each.id for each in read.message.calls] == ["a"]


def test_call_that_the_model_wrote_wrong_is_kept() -> None:
    wrong = made("b", "g", "{'x': 1}")
    assert wire(plain({"tool_calls": [wrong]}, "tool_calls"))["tool_calls"] == [wrong]


def test_length_cut_without_a_whole_call_is_a_text() -> None:
    read = plain({"content": None, "tool_calls": [made("b", "g", "{")]}, "length")
    assert wire(read) == {"role": "assistant", "content": ""}
    assert read.whole


def test_stream_that_was_left_gives_what_was_read() -> None:
    read = streamed({"content": "Once "}, {"content": "upon"}, call(0, "a", "f", '{"x'), finish=None, end=False)
    assert (read.whole, read.finish) == (False, "")
    assert wire(read) == {"role": "assistant", "content": "Once upon"}
    assert aside(read) == {"tool_calls": [made("a", "f", '{"x')]}


@pytest.mark.parametrize("deltas", [[], [{"role": "assistant"}], [{"role": "assistant", "content": ""}]])
def test_stream_that_was_left_before_anything_was_said_gives_nothing(deltas: list[dict[str, object]]) -> None:
    read = streamed(*deltas, finish=None, end=False)
    assert (read.message, read.whole) == (None, False)


def test_empty_reply_is_a_reply() -> None:
    for read in (plain({"content": ""}), plain({}), streamed(), streamed({"role": "assistant"})):
        assert wire(read) == {"role": "assistant", "content": ""}
        assert read.whole


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b'"x"', b"{}", b'{"choices":null}', b'{"choices":[]}', b'{"choices":{}}',
        b'{"choices":[1]}', b'{"choices":[{}]}', b'{"choices":[{"message":null}]}', b'{"choices":[{"message":[]}]}',
        b'{"choices":[{"message":{"content":[1]}}]}', b'{"choices":[{"message":{"tool_calls":[{"id":1}]}}]}',
        b"[" * 100_000, b'{"choices":[{"message":{"content":' + b"[" * 100_000,
        b'{"choices":[{"message":{"content":"x"}}]} x',
    ],
)  # fmt: skip
def test_what_is_no_completion_is_not_recorded(body: bytes) -> None:
    for stream in (False, True):
        reader = CHAT.reader(asked(), stream=stream)
        reader.feed(b"data: %b\n\n" % body if stream else body)
        reader.end()
        assert (reader.reply().message, reader.reply().whole) == (None, False)


PARTS = [
    "id", "type", "index", "function", "custom", "name", "arguments", "input", "text", "content", "refusal",
    "tool_calls", "url", "image_url", "thinking", "data",
]  # fmt: skip
MEMBERS = [
    "role", "content", "refusal", "tool_calls", "function_call", "audio", "reasoning", "reasoning_details", "images",
    "x",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(PARTS), inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    members=st.lists(
        st.dictionaries(
            st.sampled_from(MEMBERS),
            JSON,
            max_size=4,
        ),
        max_size=3,
    ),
    finish=st.sampled_from(["stop", "length", 7, None]),
    usage=JSON,
)
def test_hostile_replies_never_raise_and_what_is_recorded_can_be_read(
    members: list[dict[str, object]], finish: object, usage: object
) -> None:
    for stream in (False, True):
        reader = CHAT.reader(asked(), stream=stream)
        if stream:
            frames = b"".join(event(delta, usage=usage, error=None) for delta in members)
        else:
            choices = [{"message": message, "finish_reason": finish} for message in members]
            frames = json.dumps({"choices": choices, "usage": usage}).encode()
        reader.feed(frames)
        partial = reader.reply()
        reader.end()
        for read in (partial, reader.reply()):
            assert read.message is not None or not read.whole
            if read.message is not None:
                again = CHAT.read(b'{"messages":[%b]}' % read.message.wire)
                (message,) = (again.prefill,) if again.prefill else again.messages
                assert message is not None
                assert canonical(message) == canonical(read.message)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, (3, 2, 0)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}, (3, 0, 2)),
        ({"prompt_tokens": -1, "completion_tokens": True, "prompt_tokens_details": 5}, (0, 0, 0)),
        ({"prompt_tokens": 10**30, "completion_tokens": 1.5}, (0, 0, 0)),
        ([1], (0, 0, 0)),
    ],
)
def test_usage_is_natural_numbers_or_nothing(usage: object, tokens: tuple[int, int, int]) -> None:
    reader = CHAT.reader(asked(), stream=True)
    reader.feed(event({"content": "x"}, usage=usage))
    read = reader.reply()
    assert (read.prompt_tokens, read.completion_tokens, read.cached_tokens) == tokens


def test_reasoning_and_cache_writes_are_counted_apart() -> None:
    for usage, counts in (
        ({"prompt_tokens_details": {"cache_write_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 5}},
         (4, 5)),
        ({"reasoning_tokens": 5, "completion_tokens_details": None}, (0, 5)),
        ({"completion_tokens_details": {"reasoning_tokens": -1}}, (0, 0)),
        ({"completion_tokens_details": [1], "prompt_tokens_details": "x"}, (0, 0)),
    ):  # fmt: skip
        stream = CHAT.reader(asked(), stream=True)
        stream.feed(event({"content": "x"}, usage=usage))
        whole = CHAT.reader(asked(), stream=False)
        whole.feed(orjson.dumps({"choices": [{"message": {"content": "x"}}], "usage": usage}))
        for read in (stream.reply(), whole.reply()):
            assert (read.cache_write_tokens, read.reasoning_tokens) == counts


@pytest.mark.parametrize(
    ("first", "last", "tier"),
    [("flex", None, "flex"), (None, "flex", "flex"), ("auto", "default", "default"), (3, "", ""), ([1], None, "")],
)
def test_the_service_tier_is_the_newest_that_was_named(first: object, last: object, tier: str) -> None:
    reader = CHAT.reader(asked(), stream=True)
    reader.feed(event({"content": "x"}, service_tier=first).replace(b'"finish_reason":null', b'"logprobs":null'))
    reader.feed(event({"content": "y"}, finish="stop", service_tier=last))
    assert reader.reply().service_tier == tier
    assert wire(reader.reply())["content"] == "xy"
    whole = CHAT.reader(asked(), stream=False)
    whole.feed(orjson.dumps({"choices": [{"message": {"content": "x"}}], "service_tier": tier or first}))
    assert whole.reply().service_tier == tier


def test_logprobs_of_the_first_choice_are_kept_as_they_came() -> None:
    one, two, other = ({"token": token, "logprob": -1.0} for token in "abc")
    chunks = [
        {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [one], "refusal": [other]}},
        {"index": 1, "delta": {"content": "c"}, "logprobs": {"content": [other]}},
        {"index": 0, "delta": {"content": "b"}, "logprobs": {"content": [two, 3]}},
        {"index": 0, "delta": {}, "logprobs": 7},
        {"index": 0, "delta": {}, "logprobs": {"content": None}},
    ]
    stream = CHAT.reader(asked(n=2), stream=True)
    for chunk in chunks:
        stream.feed(b"data: %b\n\n" % orjson.dumps({"choices": [chunk]}))
    assert stream.reply().logprobs == (one, two)
    whole = CHAT.reader(asked(), stream=False)
    whole.feed(orjson.dumps({"choices": [{"message": {"content": "ab"}, "logprobs": {"content": [one, two]}}]}))
    assert whole.reply().logprobs == (one, two)


def test_an_error_is_named_without_its_content() -> None:
    for error, named in [
        ({"message": "secret", "code": "overloaded"}, "overloaded"),
        ({"message": "secret", "code": None, "type": "server_error"}, "server_error"),
        ({"message": "secret", "code": "a secret\nin a code"}, "error"),
        ("secret words of the user", "error"),
    ]:
        reader = CHAT.reader(asked(), stream=True)
        reader.feed(b"data: %b\n\n" % orjson.dumps({"error": error}))
        assert reader.ended
        assert reader.reply().error == named


def test_finish_reason_error_is_an_error() -> None:
    for read in (streamed({"content": "x"}, finish="error"), plain({"content": "x"}, "error")):
        assert (read.error, read.whole, read.finish) == ("error", False, "error")


def test_bare_error_event_is_an_error() -> None:
    reader = CHAT.reader(asked(), stream=True)
    assert reader.feed(b'event: error\ndata: {"message":"m","type":"overloaded_error"}\n\n') == b""
    assert (reader.ended, reader.reply().error) == (True, "overloaded_error")


def test_prefill_stands_before_the_reply() -> None:
    prefill = {"role": "assistant", "content": "Once ", "prefix": True, "name": "teller"}
    messages = [{"role": "user", "content": "?"}, prefill]
    expected = {"role": "assistant", "content": "Once upon a time", "name": "teller"}
    assert wire(plain({"content": "upon a time"}, messages=messages)) == expected
    assert wire(streamed({"content": "upon "}, {"content": "a time"}, messages=messages)) == expected
    assert wire(streamed({"content": "Once upon a time"}, messages=messages, echo=True)) == {
        "role": "assistant",
        "content": "Once upon a time",
    }


def test_prefill_of_parts_stands_before_the_reply() -> None:
    part = {"type": "text", "text": "Once ", "x": 1}
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": [part]}]
    read = plain({"content": "upon"}, messages=messages)
    assert wire(read)["content"] == [part, {"type": "text", "text": "upon"}]
    assert read.message is not None
    assert read.message.text == "Once upon"
