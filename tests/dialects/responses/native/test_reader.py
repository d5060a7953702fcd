"""Reading along: what is relayed and what is held, whatever the cuts."""

import json
import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Reader
from proxy.dialects.reading import LIMIT_BYTES
from proxy.dialects.responses.native import NATIVE
from proxy.errors import UpstreamReplyTooLarge
from tests.dialects.responses.native.samples import asked, call, event, message, reasoning, response, streamed

EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "100"))
ITEMS = [
    reasoning(content=[{"type": "reasoning_text", "text": "hm"}]),
    message("Grüße \U0001f600 error completed"),
    call(),
]
STREAMS = {
    "completed": streamed(response(ITEMS)),
    "bare": streamed(response(ITEMS), bare=True),
    "incomplete": streamed(
        response([message("cut")], "incomplete", incomplete_details={"reason": "max_output_tokens"})
    ),
    "failed": streamed(response([], "failed", error={"code": "server_error", "message": "m"})),
    "error": [*streamed(response([message("a")]))[:4], event("error", code="e", message="m", sequence_number=4)],
    "none": streamed(response([message("a")]))[:-1],
}


def run(chunks: list[bytes]) -> tuple[bytes, bytes, Reply]:
    """(relayed before the end, held at the end, the reply)."""
    read = NATIVE.reader(asked(), stream=True)
    relayed = b"".join(read.feed(chunk) for chunk in chunks)
    read.end()
    reply = read.reply()
    return relayed, read.release(), reply


def cut(body: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted({place % (len(body) + 1) for place in places}), len(body)]
    return [body[start:end] for start, end in pairwise(at)]


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "none"])
def test_stream_is_held_from_its_terminal_event_on(name: str) -> None:
    relayed, held, _ = run([b"".join(STREAMS[name])])
    assert (relayed, held) == (b"".join(STREAMS[name][:-1]), STREAMS[name][-1])


@pytest.mark.parametrize("name", STREAMS)
def test_single_bytes_read_like_one_piece(name: str) -> None:
    body = b"".join(STREAMS[name])
    assert run([body[at : at + 1] for at in range(len(body))]) == run([body])


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    name=st.sampled_from(list(STREAMS)),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    places=st.lists(st.integers(0, 20_000), max_size=12),
)
def test_any_cutting_relays_the_same_bytes_and_reads_the_same(name: str, end: bytes, places: list[int]) -> None:
    whole = b"".join(STREAMS[name])
    body = whole.replace(b"\n", end)
    relayed, held, reply = run(cut(body, places))
    assert (relayed, held, reply) == run([body])
    assert relayed + held == body
    assert reply == run([whole])[2]


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    frames=st.lists(
        st.sampled_from(
            [
                *STREAMS["completed"],
                event("error", message="m"),
                b": comment\n\n",
                b"\n",
                b"\r",
                b"\r\n",
                b'event: response.completed\ndata: {"response":\ndata: {"status":"completed","output":[]}}\n\n',
                b"data: [DONE]\r\r",
                b'data:{"error":{"code":"e"}}\n\r\n',
                b"data: nonsense completed\n\n",
                b"\xef\xbb\xbf",
                b"data",
            ]
        ),
        max_size=8,
    ),
    places=st.lists(st.integers(0, 500), max_size=8),
)
def test_no_byte_is_lost_or_moved(frames: list[bytes], places: list[int]) -> None:
    """Also of what is no proper stream."""
    body = b"".join(frames)
    read, whole = NATIVE.reader(asked(), stream=True), NATIVE.reader(asked(), stream=True)
    out = b""
    for chunk in cut(body, places):
        out += read.feed(chunk)
        assert body.startswith(out)
        assert read.ended or not read.done
    assert out == whole.feed(body)
    assert out + read.release() == body
    assert read.release() == b""
    assert read.reply() == whole.reply()


def relaying(*frames: bytes) -> tuple[Reader, list[bytes]]:
    read = NATIVE.reader(asked(), stream=True)
    return read, [read.feed(frame) for frame in frames]


def test_events_before_the_end_are_relayed_as_they_come() -> None:
    frames = STREAMS["completed"][:-1]
    read, out = relaying(*frames)
    assert out == frames
    assert not read.ended


def test_unfinished_event_is_held_until_it_is_whole() -> None:
    whole = event("response.output_text.delta", delta="a")
    _, out = relaying(whole[:30], whole[30:-1], whole[-1:])
    assert out == [b"", b"", whole]


def test_nothing_is_expected_after_the_terminal_event() -> None:
    read, _ = relaying(*STREAMS["completed"])
    assert (read.ended, read.done) == (True, True)
    assert read.reply().whole


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"type":"response.completed","response":{"status":"completed","output":[]}}\n\n',
        b'data: {"type" :\ndata: "response.completed","response":{}}\n\n',
        b'event: response.completed\ndata: {"response":{"output":[]}}\n\n',
        b'data: {"type":"response.incomplete","response":{}}\n\n',
        b'data: {"type":"response.failed","response":{}}\n\n',
        b'data: {"type": "error","code":"x"}\n\n',
        b'event: error\ndata: {"message":"x"}\n\n',
        b'data: {"error":{"message":"x"}}\n\n',
        b"data: [DONE]\n\n",
    ],
)
def test_the_end_is_seen_however_it_is_written(frame: bytes) -> None:
    read, out = relaying(frame)
    assert out == [b""]
    assert read.ended


def test_text_that_looks_like_an_end_is_relayed() -> None:
    text = '"type":"response.completed" [DONE] "error":{} event: error\n\ndata: [DONE]\n\ndata: {"type":"error"}'
    frame = event("response.output_text.delta", output_index=0, delta=text)
    read, out = relaying(frame)
    assert out == [frame]
    assert not read.ended


def test_plain_reply_is_held_to_its_end() -> None:
    read = NATIVE.reader(asked(), stream=False)
    body = json.dumps(response(ITEMS)).encode()
    assert read.feed(body[:9]) + read.feed(body[9:]) == b""
    assert (read.ended, read.done) == (False, False)
    read.end()
    assert (read.ended, read.done) == (True, True)
    assert read.reply().whole
    assert read.release() == body
    assert read.release() == b""
    assert read.reply().whole


@pytest.mark.parametrize("stream", [False, True])
def test_reply_beyond_the_limit_is_refused(stream: bool) -> None:
    read = NATIVE.reader(asked(), stream=stream)
    piece = b"x" * (LIMIT_BYTES // 4)
    for _ in range(4):
        read.feed(piece)
    with pytest.raises(UpstreamReplyTooLarge):
        read.feed(b"x")


def test_a_large_event_in_small_pieces_is_not_searched_again_and_again() -> None:
    read = NATIVE.reader(asked(), stream=True)
    for _ in range(100_000):
        assert read.feed(b"data: abc\n") == b""
    assert len(read.feed(b"\n")) == 1_000_001
