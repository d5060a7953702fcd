"""A stream under its own ids and numbers: however it is cut, wherever it stops, it keeps the grammar of the API."""

import json
import re
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dialects.responses.native import NATIVE
from proxy.dialects.responses.native.translation import NATIVE_RESPONSES as API
from tests.dialects.responses import grammar
from tests.support.stateless import call, events, message, response

ID = "ab" * 24
ITEMS = [message("one two"), message('\u00e9\u2028 "sequence_number": 5'), call("call_1")]
SENT = b"".join(events(response({"model": "m"}, ITEMS)))


def asked(**members: object) -> Any:
    return API.read(json.dumps({"model": "m", "input": "?", "stream": True, **members}).encode(), ID, {})


def answer(about: Any, data: bytes, *, end: bool) -> dict[str, object]:
    reader = NATIVE.reader(NATIVE.read(about.chat), stream=True)
    reader.feed(data)
    if end:
        reader.end()
    return API.answer(about, ID, 1, reader.reply())


def transcoded(about: Any, pieces: list[bytes], made: dict[str, object]) -> bytes:
    transcoder = API.transcoder(about, ID, 1)
    out = [transcoder.begin(), *map(transcoder.feed, pieces)]
    return b"".join([*out, transcoder.end(made)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(SENT)), max_size=6), st.booleans())
def test_every_way_of_cutting_gives_the_same_events(cuts: list[int], background: bool) -> None:
    about = asked(background=background)
    pieces = [SENT[a:b] for a, b in pairwise([0, *sorted(cuts), len(SENT)])]
    made = answer(about, SENT, end=True)
    body = transcoded(about, pieces, made)
    assert body == transcoded(about, [SENT], made)
    assert grammar.check(body) == made
    assert b"_up" not in body


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SENT) - 1), st.booleans())
def test_a_stream_that_stops_anywhere_is_closed(upto: int, background: bool) -> None:
    about = asked(background=background)
    made = answer(about, SENT[:upto], end=False)
    assert made["status"] == "failed" or b"response.completed" in SENT[:upto]
    assert grammar.check(transcoded(about, [SENT[:upto]], made)) == made
    cancelled = {**made, "status": "cancelled", "error": None}
    assert grammar.check(transcoded(about, [SENT[:upto]], cancelled)) == cancelled


@pytest.mark.parametrize("number", [b"", b'"sequence_number": 7, '])
def test_events_are_numbered_by_their_places(number: bytes) -> None:
    given = events(response({"model": "m"}, ITEMS))
    sent = b"".join(re.sub(rb'"sequence_number": \d+, ', number, each, count=1) for each in given)
    body = transcoded(asked(), [sent], answer(asked(), sent, end=True))
    assert grammar.check(body) == grammar.check(transcoded(asked(), [SENT], answer(asked(), SENT, end=True)))


def test_what_is_no_event_is_left_out_and_lines_may_end_in_any_way() -> None:
    noisy = b": ping\n\ndata: ping\n\n" + SENT.replace(b"\n\n", b"\n\n:\n\nid: 1\n\n") + b"data: [DONE]\n\n"
    made = answer(asked(), SENT, end=True)
    assert transcoded(asked(), [noisy], made) == transcoded(asked(), [SENT], made)
    assert transcoded(asked(), [SENT.replace(b"\n", b"\r\n")], made) == transcoded(asked(), [SENT], made)


def test_half_a_surrogate_pair_stays_and_is_numbered() -> None:
    made = answer(asked(), SENT, end=True)
    halves = SENT.replace(b'"delta": "one "', b'"delta": "\\ud83d"')
    halves = halves.replace(b'"sequence_number": 4', b'"sequence_number": 9')
    out = transcoded(asked(), [halves], made)
    [event] = [each for each in out.split(b"\n\n") if b"\\ud83d" in each]
    assert b'"sequence_number": 4' in event
    assert f"msg_{ID}00".encode() in event


def test_a_finished_response_is_told_as_a_whole_stream() -> None:
    made = answer(asked(), SENT, end=True)
    assert grammar.check(API.whole(made)) == made
    # nothing of it came as a stream
    assert grammar.check(transcoded(asked(), [], made)) == made
    hosted = [{"id": "ws_1", "type": "web_search_call", "status": "completed"}]
    body = API.whole({**made, "output": hosted})
    kinds = [orjson.loads(each.split(b"data: ")[1])["type"] for each in body.split(b"\n\n")[:-1]]
    assert kinds[2:-1] == ["response.output_item.added", "response.output_item.done"]


def test_an_error_ends_a_stream() -> None:
    transcoder = API.transcoder(asked(), ID, 1)
    body = transcoder.feed(SENT[:200]) + transcoder.error("server_error", "Broken.")
    assert grammar.check(body)["error"] == {"code": "server_error", "message": "Broken."}
