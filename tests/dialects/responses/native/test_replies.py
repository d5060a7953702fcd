"""What is read from a reply, plain or streamed: the same message, its finish, usage and error."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from proxy.conversation.message import canonical
from proxy.conversation.reply import UNREADABLE
from proxy.dialects.responses.native import NATIVE
from tests.dialects.responses.native.samples import (
    Item,
    call,
    custom,
    event,
    message,
    output,
    plain,
    read,
    reasoning,
    response,
    runs,
    streamed,
)  # fmt: skip


def wire(items: bytes) -> list[Item]:
    made: list[Item] = orjson.loads(b"[%b]" % items)
    return made


@settings(max_examples=100, deadline=None)
@given(st.booleans().flatmap(lambda calls: runs(calls=calls)), st.booleans())
def test_streamed_and_plain_give_the_same_reply(items: list[Item], bare: bool) -> None:
    made = response(items)
    expected = read(json.dumps(made).encode(), stream=False)
    assert expected.whole
    got = read(b"".join(streamed(made, bare=bare)), stream=True)
    assert got.message is not None
    assert expected.message is not None
    assert wire(got.message.wire) == wire(expected.message.wire)
    assert orjson.loads(got.message.aside or b"{}") == orjson.loads(expected.message.aside or b"{}")
    assert orjson.loads(got.original) == orjson.loads(expected.original) == made
    bare_of = {"message": None, "original": b""}
    assert structs.replace(got, **bare_of) == structs.replace(expected, **bare_of)


def test_members_are_read() -> None:
    reply = plain([message("a")], service_tier="flex")
    assert (reply.whole, reply.finish, reply.model, reply.error) == (True, "stop", "m-1", "")
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (20, 7, 8)
    assert (reply.reasoning_tokens, reply.cache_write_tokens, reply.service_tier) == (3, 2, "flex")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "more", "finish", "error"),
    [
        ("completed", {}, "stop", ""),
        ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, "length", ""),
        ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, "content_filter", ""),
        ("incomplete", {"incomplete_details": None}, "length", ""),
        ("incomplete", {"incomplete_details": {"reason": 5}}, "length", ""),
        ("failed", {"error": {"code": "server_error", "message": "secret"}}, "error", "server_error"),
        ("failed", {"error": {"code": "a\nb", "message": "secret"}}, "error", "error"),
        ("failed", {}, "error", "error"),
    ],
)
def test_the_end_is_named(stream: bool, status: str, more: dict[str, Any], finish: str, error: str) -> None:
    made = response([message("a")], status, **more)
    reply = read(b"".join(streamed(made)) if stream else json.dumps(made).encode(), stream=stream)
    assert (reply.whole, reply.finish, reply.error) == (not error, finish, error)
    assert reply.message is not None
    assert reply.message.text == "a"


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_in_the_making_is_not_recorded(status: str) -> None:
    assert not plain([message("a")], status).whole


def test_a_server_that_names_no_status_has_answered() -> None:
    body = {"object": "response", "output": [message("a")]}
    assert read(json.dumps(body).encode(), stream=False).whole


def test_calls_that_were_cut_are_kept_aside() -> None:
    details = {"incomplete_details": {"reason": "max_output_tokens"}}
    cut = call("b", arguments='{"x": ', status="incomplete")
    reply = plain([reasoning(), message("a"), call("a"), cut], "incomplete", **details)
    assert reply.message is not None
    assert [each.id for each in reply.message.calls] == ["a"]
    assert b'{"x\\": ' not in reply.message.wire
    assert orjson.loads(NATIVE.full(reply.message.wire, reply.message.aside))[3] == cut
    last = plain([custom("c")], "incomplete", **details).message
    assert last is not None
    assert last.calls == ()
    assert wire(last.wire)[0]["content"] == ""


def test_call_that_the_model_wrote_wrong_is_kept() -> None:
    reply = plain([call(arguments='{"x": ')])
    assert reply.whole
    assert reply.message is not None
    assert reply.message.calls[0].arguments == '{"x": '


def test_reasoning_of_a_cut_reply_is_kept_aside() -> None:
    reply = plain([reasoning()], "incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert reply.whole
    assert reply.message is not None
    assert wire(reply.message.wire) == [{"type": "message", "role": "assistant", "content": ""}]
    assert b"gAAA" in reply.message.aside


def test_empty_reply_is_a_reply() -> None:
    for reply in (plain([]), read(b"".join(streamed(response([]))), stream=True)):
        assert reply.whole
        assert reply.message is not None
        assert reply.message.text == ""


def test_numbers_and_escapes_keep_their_bytes() -> None:
    item = rb'{"type":"function_call","id":"x","call_id":"a","name":"\u0066","arguments":"{}","n":%b}' % (b"7" * 30)
    body = b'{"status":"completed","output":[%b]}' % item
    reply = read(body, stream=False)
    assert reply.message is not None
    assert reply.message.wire == item.replace(b'"id":"x",', b"")


def test_stream_that_was_left_gives_what_was_read() -> None:
    frames = streamed(response([reasoning(), message("Hello there"), call("a")]))
    at = next(n for n, frame in enumerate(frames) if b"there" in frame and b"delta" in frame)
    reply = read(b"".join(frames[: at + 1]), stream=True, end=False)
    assert not reply.whole
    assert reply.finish == ""
    assert reply.message is not None
    assert reply.message.text == "Hello there"
    assert [item["type"] for item in wire(reply.message.wire)] == ["reasoning", "message"]
    reply = read(b"".join(frames[:at]), stream=True, end=False)
    assert reply.message is not None
    assert reply.message.text == "Hello"
    reply = read(b"".join(frames[:-3]), stream=True, end=False)
    assert reply.message is not None
    assert reply.message.calls == ()
    assert b'"call_id":"a"' in reply.message.aside


def test_event_that_is_not_whole_is_not_read() -> None:
    frames = streamed(response([message("Hello")]))
    at = next(n for n, frame in enumerate(frames) if b"llo" in frame and b"delta" in frame)
    reply = read(b"".join(frames[: at + 1])[:-2], stream=True, end=False)
    assert reply.message is not None
    assert reply.message.text == "He"


def test_item_that_was_never_done_is_what_was_said_of_it() -> None:
    """Where the last event does not repeat it."""
    frames = streamed(response([message("Hello")], "incomplete"), bare=True)
    reply = read(b"".join([*frames[:-2], frames[-1]]), stream=True)
    assert (reply.whole, reply.finish) == (True, "length")
    assert reply.message is not None
    assert reply.message.text == "Hello"


def test_stream_that_was_left_before_anything_was_said_gives_nothing() -> None:
    frames = streamed(response([message("Hello")]))
    for upto in range(4):
        assert read(b"".join(frames[:upto]), stream=True, end=False).message is None


def test_stream_without_a_terminal_event_counts_as_ended_at_its_clean_end() -> None:
    frames = streamed(response([message("Hello")]))[:-1]
    reply = read(b"".join(frames), stream=True)
    assert (reply.whole, reply.finish) == (True, "stop")


def test_what_comes_after_the_terminal_event_is_not_read() -> None:
    frames = streamed(response([message("a")]))
    late = event("response.output_item.done", output_index=1, item=message("b"))
    reply = read(b"".join([*frames, late, event("error", message="x")]), stream=True)
    assert (reply.whole, reply.error) == (True, "")
    assert reply.message is not None
    assert reply.message.text == "a"


def test_error_makes_a_reply_not_whole() -> None:
    frames = streamed(response([message("a")]))[:-1]
    for told, code in (
        (event("error", code="e1", message="secret"), "e1"),
        (event("error", code=None, message="secret"), "error"),
        (event("error", error={"code": "e2"}), "e2"),
        (b'data: {"error":{"message":"secret","type":"e3"}}\n\n', "e3"),
        (b'event: error\ndata: {"message":"secret"}\n\n', "error"),
    ):
        reply = read(b"".join([*frames, told]), stream=True)
        assert (reply.whole, reply.error) == (False, code)


def test_halves_of_surrogate_pairs_are_joined() -> None:
    body = json.dumps(response([message("\U0001f600")])).encode()
    assert rb"\ud83d\ude00" in body
    for text, said in ((body, "\U0001f600"), (body.replace(rb"\ude00", b""), "\ufffd")):
        reply = read(text, stream=False)
        assert reply.message is not None
        assert reply.message.text == said
        reply = read(b'data: {"type":"response.completed","response":%b}\n\n' % text, stream=True)
        assert reply.message is not None
        assert reply.message.text == said


def test_prefill_stands_before_the_reply() -> None:
    given_input = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Once"}]
    reply = read(json.dumps(response([message("upon")])).encode(), stream=False, input=given_input)
    assert reply.message is not None
    assert [item["content"] for item in wire(reply.message.wire)] == ["Once", "upon"]
    (again,) = NATIVE.messages(reply.message.wire)
    assert canonical(again) == canonical(reply.message)


def test_a_result_that_the_upstream_made_itself_is_not_sent_as_the_client_s() -> None:
    reply = plain([call("a"), output("a"), message("b")])
    assert reply.message is not None
    assert [item["type"] for item in wire(reply.message.wire)] == ["function_call", "message"]
    (again,) = NATIVE.messages(reply.message.wire)
    assert canonical(again) == canonical(reply.message)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b'{"output":null}',
        b'{"output":"x"}',
        b'{"output":[5]}',
        b'{"output":[{"type":"function_call"}]}',
        b'{"output":[{"type":"message","role":"user","content":"x"}]}',
        b'{"output":[{"type":"message","role":"assistant","content":[{"type":"output_text"}]}]}',
        b'{"status":"completed","output":[{"type":"message","role":"assistant","content":"\xff"}]}',
        b'{"choices":[{"message":{"content":"a"}}]}',
        b'{"output":[' + b"[" * 5000,
        b'{"output":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_response_is_not_recorded(body: bytes) -> None:
    reply = read(body, stream=False)
    assert (reply.message, reply.whole, reply.error) == (None, False, "")
    reply = read(b"data: %b\n\n" % body, stream=True)
    assert (reply.message, reply.whole) == (None, False)


def test_a_response_that_cannot_be_kept_says_so() -> None:
    for items in ([{"type": "function_call"}], [5]):
        reply = read(b"".join([event("response.completed", response=response(items))]), stream=True)
        assert (reply.message, reply.whole, reply.error) == (None, False, UNREADABLE)
    reply = read(b"".join([*streamed(response([message("a")]))[:5], b"data: {cut\n\n"]), stream=True)
    assert (reply.message, reply.error) == (None, UNREADABLE)


NAMES = st.sampled_from(
    ["type", "response", "item", "output", "output_index", "content_index", "delta", "error", "code", "status", "role",
     "content", "text", "call_id", "name", "arguments", "usage", "input_tokens", "incomplete_details", "model"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["response.completed", "response.failed", "response.output_item.added", "response.output_item.done", "error",
     "response.output_text.delta", "response.function_call_arguments.delta", "message", "function_call", "reasoning",
     "assistant", "output_text", "completed", "incomplete", "a"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(NAMES, JSON, max_size=5), max_size=4), st.data())
def test_hostile_replies_never_raise_and_what_is_recorded_can_be_read(
    events: list[dict[str, object]], data: st.DataObject
) -> None:
    bodies = []
    for each in events:
        each["type"] = data.draw(WORDS | JSON)
        bodies.append(json.dumps(each).encode())
    replies = [read(b"".join(b"data: %b\n\n" % body for body in bodies), stream=True, end=data.draw(st.booleans()))]
    replies += [read(body, stream=False) for body in bodies]
    for reply in replies:
        assert isinstance(reply.error, str)
        assert reply.message is not None or not reply.whole
        if reply.message is not None:
            (again,) = NATIVE.messages(reply.message.wire)
            assert canonical(again) == canonical(reply.message)
            assert json.loads(NATIVE.full(reply.message.wire, reply.message.aside))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, (0, 0, 0)),
        ([], (0, 0, 0)),
        ({"input_tokens": -1, "output_tokens": "7"}, (0, 0, 0)),
        ({"input_tokens": True, "output_tokens": 1.5}, (0, 0, 0)),
        ({"input_tokens": 5, "input_tokens_details": 3}, (5, 0, 0)),
        ({"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}, (5, 2, 4)),
        ({"input_tokens": 2**53}, (0, 0, 0)),
    ],
)
def test_usage_is_natural_numbers_or_nothing(usage: object, tokens: tuple[int, int, int]) -> None:
    reply = plain([message("a")], usage=usage)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == tokens
