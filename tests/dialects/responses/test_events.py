"""A chat stream becomes a Responses stream that keeps the grammar, however it was cut, and says what the reply says."""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.dialects.responses.events import Transcoder, whole
from proxy.dialects.responses.items import pieces
from proxy.dialects.responses.reply import response, settled
from proxy.dialects.responses.request import Asked, read
from proxy.dialects.responses.sealed import REASONING, unseal
from tests.dialects.responses.grammar import check, events

ID = "ab" * 24
ASKED = read(b'{"model":"m","input":"hi","stream":true}', ID)
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


def chat(*deltas: Mapping[str, object], finish: str | None = "stop") -> bytes:
    found: list[dict[str, object]] = [{"choices": [{"index": 0, "delta": delta}], "model": "m-1"} for delta in deltas]
    found.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "model": "m-1"})
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    return b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in [*found, usage]) + b"data: [DONE]\n\n"


def read_reply(data: bytes) -> Reply:
    reader = CHAT.reader(CHAT.read(ASKED.chat), stream=True)
    reader.feed(data)
    reader.end()
    return reader.reply()


def transcoded(data: bytes, cuts: list[int] | None = None, status: str | None = None) -> bytes:
    coder = Transcoder(ASKED, ID, 1)
    places = sorted({0, len(data), *(cuts or ())})
    made = coder.begin()
    made += b"".join(coder.feed(data[a:b]) for a, b in pairwise(places))
    answer = response(ASKED, ID, 1, read_reply(data), status=status)
    made += coder.end(answer)
    return made


def call(at: int, piece: str, **more: object) -> dict[str, object]:
    function: dict[str, object] = {"arguments": piece}
    if more:
        function["name"] = more.pop("name", "f")
    return {"tool_calls": [{"index": at, **more, "function": function}]}


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Any deltas in any order: also calls side by side, late ids, pieces that say nothing."""
    pieces = st.one_of(
        st.builds(lambda text: {"content": text}, TEXT),
        st.builds(lambda text: {"reasoning_content": text}, TEXT),
        st.builds(lambda text: {"refusal": text}, TEXT),
        st.builds(call, st.integers(0, 2), TEXT),
        st.builds(lambda at: call(at, "", id=f"call_{at}", name=f"f{at}", type="function"), st.integers(0, 2)),
        st.builds(lambda at, text: call(at, text, id=f"c{at}", name="f"), st.integers(0, 2), st.just("{}") | TEXT),
        st.sampled_from([{}, {"content": None}, {"role": "assistant", "content": ""}, {"tool_calls": None}]),
        st.sampled_from(
            [
                {
                    "tool_calls": [
                        {"index": 3, "id": "x", "type": "custom", "custom": {"name": "shell", "input": "ls "}}
                    ]
                },
                {"tool_calls": [{"index": 3, "custom": {"input": "-l"}}]},
                {"function_call": {"name": "old", "arguments": "{"}},
                {"function_call": {"arguments": "}"}},
                {"content": [{"type": "text", "text": "part"}, {"type": "thinking", "thinking": "hm"}, 4]},
                {"tool_calls": [{"function": {"name": "g", "arguments": {"a": 1}}}]},
            ]
        ),
    )
    deltas = draw(st.lists(pieces, max_size=12))
    return chat(*deltas, finish=draw(st.sampled_from(["stop", "length", "content_filter", "tool_calls", None])))


@settings(max_examples=200, deadline=None)
@given(data=streams(), cuts=st.lists(st.integers(0, 2000), max_size=5), end=st.integers(0, 5000))
def test_any_stream_cut_anywhere_keeps_the_grammar(data: bytes, cuts: list[int], end: int) -> None:
    data = data[:end]
    made = transcoded(data, [at for at in cuts if at < len(data)])
    check(made)
    assert made == transcoded(data)


@settings(max_examples=150, deadline=None)
@given(
    reasoning=TEXT,
    text=TEXT,
    refusal=TEXT,
    arguments=st.lists(st.dictionaries(TEXT, TEXT | st.integers(), max_size=2), max_size=3),
    size=st.integers(1, 9),
)
def test_the_stream_ends_with_the_object_of_the_reply(
    reasoning: str, text: str, refusal: str, arguments: list[dict[str, object]], size: int
) -> None:
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
    for member, value in (("reasoning_content", reasoning), ("content", text), ("refusal", refusal)):
        deltas += [{member: value[at : at + size]} for at in range(0, len(value), size)]
    for at, value in enumerate(map(json.dumps, arguments)):
        deltas.append(call(at, "", id=f"call_{at}", name="f", type="function"))
        deltas += [call(at, value[a : a + size]) for a in range(0, len(value), size)]
    data = chat(*deltas)
    last = check(transcoded(data))
    assert last == orjson.loads(orjson.dumps(response(ASKED, ID, 1, read_reply(data))))
    assert last["output_text"] == text
    assert last["usage"]["total_tokens"] == 10


@settings(max_examples=150, deadline=None)
@given(data=streams(), cut=st.integers(0, 2000), status=st.sampled_from(["completed", "incomplete", "failed"]))
def test_what_is_settled_before_the_end_is_what_the_end_tells(data: bytes, cut: int, status: str) -> None:
    """Though the response may have failed by then."""
    answer = response(ASKED, ID, 1, read_reply(data), status="completed")
    coder = Transcoder(ASKED, ID, 1)
    made = coder.begin() + coder.feed(data[:cut])
    closing, settled = coder.settle(data[cut:], answer)
    items = orjson.loads(orjson.dumps(settled["output"]))
    last = check(made + closing + coder.end({**settled, "status": status}))
    assert (last["output"], last["output_text"]) == (items, settled["output_text"])


def test_a_plain_reply_has_the_events_of_a_stream() -> None:
    data = chat({"reasoning": "hm"}, {"content": "a"}, {"refusal": "no"}, call(0, "{}", id="c", name="f"))
    answer = response(ASKED, ID, 1, read_reply(data))
    assert check(whole(answer)) == orjson.loads(orjson.dumps(answer))
    assert events(whole(answer))[2:] == events(transcoded(data))[2:]


def test_deltas_come_as_soon_as_they_can() -> None:
    coder = Transcoder(ASKED, ID, 1)
    coder.begin()
    sent = chat({"content": "a"}, {"content": "b"}, call(0, "{", id="c", name="f"), call(0, "}")).split(b"\n\n")
    names = [[event["type"] for event in _events(coder.feed(each + b"\n\n"))] for each in sent[:4]]
    assert names == [
        ["response.output_item.added", "response.content_part.added", "response.output_text.delta"],
        ["response.output_text.delta"],
        [
            "response.output_text.done", "response.content_part.done", "response.output_item.done",
            "response.output_item.added", "response.function_call_arguments.delta",
        ],
        ["response.function_call_arguments.delta"],
    ]  # fmt: skip


def _events(stream: bytes) -> list[dict[str, Any]]:
    return events(stream)


def test_calls_side_by_side_come_one_after_the_other() -> None:
    data = chat(
        call(0, "", id="a", name="f"), call(1, "", id="b", name="g"),
        call(0, '{"x":'), call(1, '{"y":'), call(0, "1}"), {"content": "la"}, call(1, "2}"), {"content": "te"},
    )  # fmt: skip
    last = check(transcoded(data))
    said = [(item["type"], item.get("call_id"), item.get("arguments")) for item in last["output"]]
    assert said == [
        ("function_call", "a", '{"x":1}'), ("function_call", "b", '{"y":2}'), ("message", None, None)
    ]  # fmt: skip
    assert last["output_text"] == "late"


def test_halves_of_a_surrogate_pair_are_joined() -> None:
    data = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % each
        for each in (b"a\\ud83d", b"\\ude00b", b"\\ud83d")
    )
    assert check(transcoded(data))["output_text"] == "a\U0001f600b\ufffd"


@pytest.mark.parametrize(
    ("status", "end"),
    [("cancelled", "incomplete"), ("failed", "failed"), ("incomplete", "incomplete"), ("completed", "completed")],
)
def test_the_last_event_tells_the_status(status: str, end: str) -> None:
    made = transcoded(chat({"content": "a"}), status=status)
    last = check(made)
    assert events(made)[-1]["type"] == f"response.{end}"
    assert last["output"][-1]["status"] == ("completed" if status == "completed" else "incomplete")


def test_an_error_closes_what_is_open() -> None:
    coder = Transcoder(ASKED, ID, 1)
    made = coder.begin() + coder.feed(chat({"content": "a"}, finish=None))
    made += coder.error("upstream_broken", "It broke off.")
    last = check(made)
    assert last["error"] == {"code": "server_error", "message": "It broke off."}
    assert last["output_text"] == "a"
    error = events(made)[-2]
    assert (error["type"], error["code"], error["message"]) == ("error", "upstream_broken", "It broke off.")


def test_a_last_event_without_its_empty_line_counts() -> None:
    first = b'data: {"choices":[{"index":0,"delta":{"content":"the "}}]}\n\n'
    data = b'data: {"choices":[{"index":0,"delta":{"content":"end"},"finish_reason":"stop"}]}'
    assert check(transcoded(first + data))["output_text"] == "the end"


def test_nothing_is_read_behind_the_end_marker() -> None:
    more = b'data: {"choices":[{"index":0,"delta":{"content":"more"}}]}\n\n'
    data = chat({"content": "a"})
    for cuts in ([], [len(data)]):
        assert check(transcoded(data + more, cuts))["output_text"] == "a"


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.integers() | TEXT,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "delta", "index", "content", "tool_calls", "function", "id", "type", "name"]),
        each, max_size=4),
    max_leaves=20,
).map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n"))  # fmt: skip
def test_hostile_events_break_nothing(data: bytes) -> None:
    coder = Transcoder(ASKED, ID, 1)
    made = coder.begin() + coder.feed(data)
    answer = response(ASKED, ID, 1, Reply(None, whole=False))
    check(made + coder.end(answer))


def asking(**more: object) -> Asked:
    return read(orjson.dumps({"model": "m", "input": "hi", "stream": True, **more}), ID)


def streamed(asked: Asked, data: bytes, status: str | None = None) -> bytes:
    coder = Transcoder(asked, ID, 1)
    made = coder.begin() + coder.feed(data)
    return made + coder.end(response(asked, ID, 1, read_reply(data), status=status))


@pytest.mark.parametrize("status", [None, "cancelled", "failed"])
def test_a_background_response_is_queued_first(status: str | None) -> None:
    made = streamed(asking(background=True), chat({"content": "a"}), status)
    check(made)
    lead = [(event["type"], event["response"]["status"]) for event in events(made)[:3]]
    assert lead == [("response.created", "queued"), ("response.queued", "queued"),
                    ("response.in_progress", "in_progress")]  # fmt: skip


def test_deltas_are_padded_when_that_is_asked_for() -> None:
    data = chat(*({"content": text} for text in ("a", "two", "a longer one, of many letters")),
                call(0, '{"a":', id="c", name="f"), call(0, "1}"))  # fmt: skip
    made = streamed(asking(stream_options={"include_obfuscation": True}), data)
    check(made)
    deltas = [event for event in events(made) if event["type"].endswith(".delta")]
    assert len(deltas) == 5
    assert {(len(orjson.dumps(event["delta"])) + len(event["obfuscation"])) % 16 for event in deltas} == {0}
    assert len({event["obfuscation"] for event in deltas}) == 5
    assert not any("obfuscation" in event for event in events(made) if event not in deltas)
    assert b"obfuscation" not in streamed(asking(), data)


def with_logprobs(text: object, *tokens: str) -> bytes:
    listed: list[dict[str, object]] = [
        {"token": token, "logprob": -1.5, "bytes": None, "top_logprobs": []} for token in tokens
    ]
    choice = {"index": 0, "delta": {"content": text}, "logprobs": {"content": listed}}
    return b"data: %b\n\n" % orjson.dumps({"choices": [choice]})


def test_logprobs_come_with_their_deltas() -> None:
    data = (
        with_logprobs("", "<s>") + with_logprobs("ab", "a", "b") + with_logprobs(None)
        + with_logprobs("c", "c") + with_logprobs("", "</s>")
    )  # fmt: skip
    data += chat()
    made = streamed(asking(include=["message.output_text.logprobs"]), data)
    last = check(made)
    told = [[one["token"] for one in event["logprobs"]] for event in events(made) if "logprobs" in event]
    assert told == [["<s>", "a", "b"], ["c"], ["<s>", "a", "b", "c", "</s>"]]
    asked = asking(include=["message.output_text.logprobs"])
    assert last == orjson.loads(orjson.dumps(response(asked, ID, 1, read_reply(data))))
    assert check(whole(last)) == last
    assert all(event["logprobs"] == [] for event in events(streamed(asking(), data)) if "logprobs" in event)


def test_logprobs_of_what_is_held_stay_with_it() -> None:
    data = with_logprobs("a", "a") + chat(call(0, "{}", id="c", name="f")).split(b"\n\n")[0] + b"\n\n"
    data += with_logprobs("late", "late") + chat()
    last = check(streamed(asking(top_logprobs=1), data))
    told = [[one["token"] for one in item["content"][0]["logprobs"]] for item in last["output"] if "content" in item]
    assert told == [["a"], ["late"]]


ENCRYPTED = {"type": "reasoning.encrypted", "data": "x", "index": 1}


def opened(made: bytes) -> list[tuple[str, object]]:
    """(type, what is sealed in it) of each item."""
    last = check(made)
    return [
        (item["type"], unseal(REASONING, item["encrypted_content"], "m") if "encrypted_content" in item else None)
        for item in last["output"]
    ]


def test_reasoning_in_the_upstreams_own_form_is_sealed_into_its_item() -> None:
    text = {"type": "reasoning.text", "text": "h", "index": 0}
    whole_text = {**text, "text": "hm", "signature": "s"}
    first = {"reasoning": "h", "reasoning_details": [text]}
    second = {"reasoning": "m", "reasoning_details": [{**text, "text": "m", "signature": "s"}]}
    late = {"reasoning_details": [ENCRYPTED]}
    asked = asking(include=["reasoning.encrypted_content"])
    assert opened(streamed(asked, chat(first, second, late, {"content": "a"}))) == [
        ("reasoning", {"reasoning_details": [whole_text, ENCRYPTED]}), ("message", None)]  # fmt: skip
    assert opened(streamed(asked, chat(first, second, {"content": "a"}, late))) == [
        ("reasoning", {"reasoning_details": [whole_text]}), ("message", None),
        ("reasoning", {"reasoning_details": [ENCRYPTED]})]  # fmt: skip
    assert opened(streamed(asked, chat(late, {"content": "a"}))) == [
        ("reasoning", {"reasoning_details": [ENCRYPTED]}), ("message", None)]  # fmt: skip
    assert opened(streamed(asked, chat({**call(0, "{}", id="c", name="f"), **late}))) == [
        ("reasoning", {"reasoning_details": [ENCRYPTED]}), ("function_call", None)]  # fmt: skip
    assert opened(streamed(asking(), chat(first, late, {"content": "a"}))) == [("reasoning", None), ("message", None)]


def test_what_was_sealed_in_a_stream_is_put_together_again() -> None:
    first = {"reasoning": "h", "reasoning_details": [{"type": "reasoning.text", "text": "h", "index": 0}]}
    data = chat(first, {"content": "a"}, {"reasoning_details": [ENCRYPTED]})
    last = check(streamed(asking(include=["reasoning.encrypted_content"]), data))
    (piece,) = pieces([orjson.dumps(item) for item in last["output"]])
    assert orjson.loads(piece.wire) == {
        "role": "assistant", "content": "a", "reasoning_content": "h",
        "reasoning_details": [*first["reasoning_details"], ENCRYPTED],
    }  # fmt: skip
    assert piece.items == (0, 1, 2)


def test_calls_without_an_id_have_the_one_that_is_recorded() -> None:
    ways: list[list[dict[str, object]]] = [
        [{"content": "x"}, call(0, "{}", name="f"), call(1, "{}", id="b", name="g"), call(2, "{}", name="h")],
        [call(0, "{}", id="b", name="f"), {"content": "late"}, call(1, "{}", name="g")],
    ]
    for deltas in ways:
        data = chat(*deltas)
        last = check(transcoded(data))
        kept = settled(read_reply(data), ID).message
        assert kept is not None
        assert [item["call_id"] for item in last["output"] if "call_id" in item] == [each.id for each in kept.calls]
