"""Events are found by the standard's rules, and where one starts does not depend on the cuts."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.framing.sse import Cutter, events, frames

BYTES = st.lists(
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"\n\n", b"data: x", b"data:y", b": c", b"event: e", b"data", b"\xef\xbb\xbf"]
    ),
    max_size=14,
).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(BYTES, st.lists(st.integers(0, 60), max_size=10))
def test_any_cutting_gives_the_same_whole_events(stream: bytes, places: list[int]) -> None:
    at = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    cutter, whole = Cutter(), Cutter()
    out = b"".join(cutter.feed(stream[start:end]) for start, end in pairwise(at))
    assert out == whole.feed(stream)
    assert stream.startswith(out)
    assert cutter.rest_bytes == whole.rest_bytes == len(stream) - len(out)


@settings(max_examples=200, deadline=None)
@given(BYTES)
def test_frames_are_the_stream_and_hold_one_event_each(stream: bytes) -> None:
    whole = Cutter().feed(stream.replace(b"\xef\xbb\xbf", b""))  # stands at the start of a stream only
    parts = list(frames(whole))
    assert b"".join(parts) == whole
    assert [event for part in parts for event in events(part)] == list(events(whole))
    assert all(len(list(events(part))) <= 1 for part in parts)


def by_the_book(stream: bytes) -> list[tuple[bytes, bytes]]:
    """The algorithm of the standard, word by word, with the last event taken in."""
    out: list[tuple[bytes, bytes]] = []
    data: list[bytes] = []
    name = b""
    for line in [*stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), b""]:
        if not line:
            if b"\n".join(data):
                out.append((name, b"\n".join(data)))
            data, name = [], b""
            continue
        if line.startswith(b":"):
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return out


@settings(max_examples=200, deadline=None)
@given(BYTES)
def test_events_are_those_of_the_standard(stream: bytes) -> None:
    assert list(events(stream)) == by_the_book(stream)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
        (b"event: e\nid: 1\nretry: 5\ndata: a\ndata:  b\n\n", [(b"e", b"a\n b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b": comment\n\n: another\ndata: a\n\n", [(b"", b"a")]),
        (b"data:a", [(b"", b"a")]),
        (b"data: \n\ndata\n\nevent: e\n\n", []),
        (b"", []),
    ],
)
def test_events_of(stream: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert list(events(stream)) == expected


def test_many_small_pieces_of_one_event_cost_linear_time() -> None:
    def cost(pieces: int) -> float:
        cutter = Cutter()
        start = time.process_time()
        for _ in range(pieces):
            cutter.feed(b"\n")
            cutter.feed(b"data: x")
        return time.process_time() - start

    assert cost(80_000) < 40 * cost(8_000) + 0.2
