"""Reading along: what is relayed and what is held, whatever the cuts; and each recorded form is read rightly."""

import json
import os
import time
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversation.reply import Reply
from proxy.dialects import reading
from proxy.dialects.chat import CHAT
from proxy.dialects.contract import Reader
from proxy.dialects.reading import LIMIT_BYTES
from proxy.errors import UpstreamReplyTooLarge
from tests.dialects.chat.samples import SAMPLES, STREAMS, Sample, asked, event, opened

EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "150"))


def names(samples: list[Sample]) -> list[str]:
    return [sample.name for sample in samples]


def run(sample: Sample, chunks: list[bytes]) -> tuple[bytes, bytes, Reply]:
    """(relayed before the end, held at the end, the reply)."""
    read = opened(sample)
    relayed = b"".join(read.feed(chunk) for chunk in chunks)
    read.end()
    reply = read.reply()
    return relayed, read.release(), reply


@pytest.mark.parametrize("sample", SAMPLES, ids=names(SAMPLES))
def test_recorded_reply_is_read_as_expected(sample: Sample) -> None:
    expected = sample.expected
    _, _, reply = run(sample, [sample.body])
    assert reply.whole is expected.get("whole", True)
    if expected["wire"] is None:
        assert reply.message is None
    else:
        assert reply.message is not None
        assert orjson.loads(reply.message.wire) == expected["wire"]
        assert orjson.loads(reply.message.aside or b"{}") == expected.get("aside", {})
    assert (reply.finish, reply.model, reply.error) == (
        expected["finish"],
        expected["model"],
        expected.get("error", ""),
    )
    assert [reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens] == expected["tokens"]


@pytest.mark.parametrize("sample", STREAMS, ids=names(STREAMS))
def test_stream_is_held_from_its_first_terminal_event_on(sample: Sample) -> None:
    relayed, held, _ = run(sample, [sample.body])
    first = next(frame for frame in held.replace(b"\r\n", b"\n").split(b"\n\n") if frame.strip())
    mark = sample.expected["first_held"].encode()
    assert mark in first
    assert mark not in relayed


@pytest.mark.parametrize("sample", SAMPLES, ids=names(SAMPLES))
def test_single_bytes_read_like_one_piece(sample: Sample) -> None:
    pieces = [sample.body[at : at + 1] for at in range(len(sample.body))]
    assert run(sample, pieces) == run(sample, [sample.body])


def cut(body: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted({place % (len(body) + 1) for place in places}), len(body)]
    return [body[start:end] for start, end in pairwise(at)]


def respelled(body: bytes, end: bytes) -> bytes:
    return body.replace(b"\r\n", b"\n").replace(b"\n", end)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    sample=st.sampled_from(STREAMS),
    end=st.sampled_from([b"\n", b"\r\n", b"\r", b""]),
    places=st.lists(st.integers(0, 20_000), max_size=12),
)
def test_any_cutting_relays_the_same_bytes_and_reads_the_same(sample: Sample, end: bytes, places: list[int]) -> None:
    body = respelled(sample.body, end) if end else sample.body
    sample = sample._replace(body=body)
    relayed, held, reply = run(sample, cut(body, places))
    assert (relayed, held, reply) == run(sample, [body])
    assert relayed + held == body
    assert reply == run(sample._replace(body=sample.body), [sample.body])[2]


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    frames=st.lists(
        st.sampled_from(
            [
                event({"content": "a"}),
                event({"content": "b"}).replace(b"\n", b"\r\n"),
                event(finish="stop"),
                b": comment\n\n",
                b"\n",
                b"\r",
                b"\r\n",
                b'event: x\ndata: {"choices":\ndata: [{"delta":{"content":"c"}}]}\n\n',
                b"data: [DONE]\r\r",
                b'data:{"error":{"code":"e"}}\n\r\n',
                b"data: nonsense\n\n",
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
    read, whole = CHAT.reader(asked(), stream=True), CHAT.reader(asked(), stream=True)
    out = b""
    for chunk in cut(body, places):
        out += read.feed(chunk)
        assert body.startswith(out)
        assert read.ended or not read.done
    relayed = whole.feed(body)
    assert out == relayed
    assert out + read.release() == body
    assert read.release() == b""
    assert read.reply() == whole.reply()


def relaying(*frames: bytes, **call: object) -> tuple[Reader, list[bytes]]:
    read = CHAT.reader(asked(**call), stream=True)
    return read, [read.feed(frame) for frame in frames]


def test_events_before_the_end_are_relayed_as_they_come() -> None:
    first, second = event({"content": "a"}), event({"content": "b"})
    read, out = relaying(first, second)
    assert out == [first, second]
    assert not read.ended


def test_unfinished_event_is_held_until_it_is_whole() -> None:
    whole = event({"content": "a"})
    _, out = relaying(whole[:30], whole[30:-1], whole[-1:])
    assert out == [b"", b"", whole]


def test_done_marker_comes_after_the_end() -> None:
    read, _ = relaying(event({"content": "a"}), event(finish="stop"))
    assert (read.ended, read.done) == (True, False)
    read.feed(b"data: [DO")
    assert not read.done
    read.feed(b"NE]\n\n")
    assert read.done


def test_each_of_several_choices_must_end() -> None:
    def ending(index: int) -> bytes:
        choice = {"index": index, "delta": {}, "finish_reason": "stop"}
        return b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()

    read, out = relaying(event({"content": "a"}), ending(0), ending(2), ending(1), ending(1), n=3)
    assert [bool(each) for each in out] == [True, True, True, False, False]
    assert read.ended


def test_a_repeated_finish_of_one_choice_does_not_end_the_others() -> None:
    read, _ = relaying(event(finish="stop"), event(finish="stop"), n=2)
    assert not read.ended


@pytest.mark.parametrize("value", ["null", " null", '""', ' ""'])
def test_empty_finish_reason_is_no_end(value: str) -> None:
    frame = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":%b}]}\n\n' % value.encode()
    read, out = relaying(frame)
    assert out == [frame]
    assert not read.ended


@pytest.mark.parametrize("space", [b"", b" ", b"\ndata: "])
def test_finish_reason_is_seen_however_it_is_spaced(space: bytes) -> None:
    frame = b'data: {"choices":[{"delta":{},"finish_reason":%b"stop"}]}\n\n' % space
    read, out = relaying(frame)
    assert out == [b""]
    assert read.ended


def test_text_that_looks_like_an_end_is_relayed() -> None:
    frame = event({"content": '"finish_reason":"stop" [DONE] "error":{} event: error\n\ndata: [DONE]'})
    read, out = relaying(frame)
    assert out == [frame]
    assert not read.ended


def test_clean_end_without_finish_reason_counts_as_ended() -> None:
    read, _ = relaying(event({"content": "a"}), event({"content": "b"})[:-1])
    assert read.reply().whole is False
    assert read.reply().message is not None
    assert read.reply().message.text == "a"  # type: ignore[union-attr]
    read.end()
    read.end()
    assert (read.ended, read.done) == (True, True)
    assert read.reply().whole is True
    assert read.reply().message.text == "ab"  # type: ignore[union-attr]


def test_error_makes_a_reply_not_whole_whatever_follows() -> None:
    read, out = relaying(
        event({"content": "a"}),
        b'data: {"error":{"message":"m"}}\n\n',
        event({"content": "b"}, "stop"),
        b"data: [DONE]\n\n",
    )
    assert [bool(each) for each in out] == [True, False, False, False]
    read.end()
    assert (read.reply().whole, read.reply().error) == (False, "error")


def test_what_comes_after_the_done_marker_is_not_read() -> None:
    read, _ = relaying(event({"content": "a"}, "stop"), b"data: [DONE]\n\n", event({"content": "b"}))
    assert read.reply().message.text == "a"  # type: ignore[union-attr]


def test_plain_reply_is_held_to_its_end() -> None:
    read = CHAT.reader(asked(), stream=False)
    body = b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}'
    assert read.feed(body[:9]) + read.feed(body[9:]) == b""
    assert (read.ended, read.done) == (False, False)
    read.end()
    assert (read.ended, read.done) == (True, True)
    assert read.reply().whole
    assert read.release() == body
    assert read.release() == b""
    assert read.reply().whole


def test_part_of_a_plain_reply_is_no_completion() -> None:
    read = CHAT.reader(asked(), stream=False)
    read.feed(b'{"choices":[{"message":{"content":"a"},"fin')
    assert (read.reply().message, read.reply().whole) == (None, False)


@pytest.mark.parametrize("stream", [False, True])
def test_reply_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    read = CHAT.reader(asked(), stream=stream)
    piece = b"x" * (LIMIT_BYTES // 4)
    for _ in range(4):
        read.feed(piece)
    with pytest.raises(UpstreamReplyTooLarge):
        read.feed(b"x")


def test_a_large_event_in_small_pieces_is_not_searched_again_and_again() -> None:
    """A megabyte of one event in pieces of ten bytes, with line ends in it: a search of everything at each piece
    would take minutes."""
    read = CHAT.reader(asked(), stream=True)
    for _ in range(100_000):
        assert read.feed(b"data: abc\n") == b""
    assert len(read.feed(b"\n")) == 1_000_001


@pytest.mark.parametrize("size", [1, 40, 700])
@pytest.mark.parametrize("sample", STREAMS, ids=names(STREAMS))
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_long_stream_that_is_parsed_in_pieces_reads_like_one(
    monkeypatch: pytest.MonkeyPatch, sample: Sample, end: bytes, size: int
) -> None:
    sample = sample._replace(body=respelled(sample.body, end))
    chunks = [sample.body[at : at + 97] for at in range(0, len(sample.body), 97)]
    expected = run(sample, chunks)
    monkeypatch.setattr(reading, "PIECE_BYTES", size)
    assert run(sample, chunks) == expected
    # also if it is asked for in between, and before its end
    read = opened(sample)
    for chunk in chunks:
        read.feed(chunk)
        read.reply()
    broken = opened(sample)
    for chunk in chunks:
        broken.feed(chunk)
    assert read.reply() == broken.reply()
    read.end()
    assert (read.reply(), read.reply()) == (expected[2], expected[2])


def test_a_byte_order_mark_counts_at_the_start_of_a_stream_only(monkeypatch: pytest.MonkeyPatch) -> None:
    body = (
        b"\xef\xbb\xbf" + event({"content": "a"}) + b"\xef\xbb\xbf" + event({"content": "b"}) + event({"content": "c"})
    )
    for size in (1, 1 << 20):
        monkeypatch.setattr(reading, "PIECE_BYTES", size)
        read = CHAT.reader(asked(), stream=True)
        for at in range(len(body)):
            read.feed(body[at : at + 1])
        read.end()
        message = read.reply().message
        assert message is not None
        assert message.text == "ac"


def test_the_end_of_a_long_stream_takes_no_longer_than_that_of_a_short_one() -> None:
    """Whether it ends or breaks off: nobody else is served meanwhile."""
    read = CHAT.reader(asked(), stream=True)
    chunk = event({"content": "a"}) * 100
    began = time.process_time()
    for _ in range(400):
        read.feed(chunk)
    fed = time.process_time()
    assert read.reply().message is not None
    assert time.process_time() - fed < (fed - began) / 10
