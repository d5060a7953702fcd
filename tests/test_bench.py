"""The bench measures what it says: a bench that miscounts would praise or blame the wrong code."""

import asyncio
import itertools
import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import report
from bench.job import Job
from bench.load import Connection, Run, body_frame
from bench.measure import FRESH_USES, USES, Pool
from bench.sample import Sample, Samples, Target
from bench.stub import Stub, content_events
from bench.text import stored_text, user_text


class Wire(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return False


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted({a % (len(data) + 1) for a in at}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


def stub_answers(pieces: list[bytes]) -> bytes:
    async def go() -> bytes:
        stub, wire = Stub(), Wire()
        stub.connection_made(wire)
        for piece in pieces:
            stub.data_received(piece)
        return wire.written

    return asyncio.run(go())


def request(*, stream: bool, serial: int = 1) -> bytes:
    before, after = body_frame(stream)
    body = before + user_text(serial) + after
    json.loads(body)
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


CUTS = st.lists(st.integers(-20, 20) | st.integers(0, 10_000), max_size=8)
"""Near both ends most often: there the head ends and the last chunk stands."""


@given(stream=st.booleans(), at=CUTS)
@settings(max_examples=60, deadline=None)
def test_the_stub_answers_a_request_however_it_is_cut_exactly_once(stream: bool, at: list[int]) -> None:
    both = stub_answers(cut(request(stream=not stream), at) + cut(request(stream=stream), at))
    assert both.count(b"HTTP/1.1 200 OK") == 2
    answer = both[both.rindex(b"HTTP/1.1 ") :]
    assert (b"data: [DONE]" in answer) is stream
    if not stream:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % len(body) in head
        assert json.loads(body)["choices"][0]["message"]["role"] == "assistant"


@given(at=CUTS)
@settings(max_examples=60, deadline=None)
def test_the_stub_waits_for_the_last_byte(at: list[int]) -> None:
    assert stub_answers(cut(request(stream=False)[:-1], at)) == b""


def test_no_two_replies_or_messages_are_alike() -> None:
    """Else a cache that is keyed by text would answer for the tokenizer."""
    answers = {stub_answers([request(stream=False)]) for _ in range(20)}
    assert len(answers) == 20
    assert len({user_text(i) for i in range(5000)} | {stored_text(i).encode() for i in range(5000)}) == 10_000


def test_a_stream_has_as_many_content_events_as_it_was_asked_for() -> None:
    for chunks in (1, 5, 20, 520):
        assert len(content_events(chunks)) == chunks


@given(stream=st.booleans(), at=CUTS, requests=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_the_load_generator_counts_each_reply_once_however_it_is_cut(
    stream: bool, at: list[int], requests: int
) -> None:
    async def go() -> Run:
        run = Run(Job(port=0, connections=1, requests=requests, stream=stream))
        connection, wire = Connection(run), Wire()
        connection.connection_made(wire)
        run.start([connection], requests)
        for _ in range(requests):
            assert not run.idle.is_set()
            for piece in cut(stub_answers_in_loop(wire), at):
                connection.data_received(piece)
        assert run.idle.is_set()
        return run

    run = asyncio.run(go())
    assert (len(run.latencies), len(run.firsts), run.errors, run.left) == (requests, requests, 0, 0)


def stub_answers_in_loop(wire: Wire) -> bytes:
    """The stub's answer to what the load generator wrote."""
    stub, answer = Stub(), Wire()
    stub.connection_made(answer)
    stub.data_received(wire.written)
    wire.written = b""
    return answer.written


@given(sessions=st.integers(3, 9), uses=st.integers(1, 4), order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_each_session_is_used_as_often_as_asked_and_by_one_connection_at_a_time(
    sessions: int, uses: int, order: random.Random
) -> None:
    async def go() -> None:
        names = tuple(f"s{i}" for i in range(sessions))
        run = Run(Job(port=0, connections=3, requests=sessions * uses, sessions=names, uses=uses))
        lines = [(Connection(run), Wire()) for _ in range(3)]
        for connection, wire in lines:
            connection.connection_made(wire)
        run.start([connection for connection, _ in lines], sessions * uses)
        seen: list[str] = []
        while waiting := [line for line in lines if line[1].written]:
            under_way = [named(wire.written) for _, wire in waiting]
            assert len(set(under_way)) == len(under_way)
            connection, wire = order.choice(waiting)
            seen.append(named(wire.written))
            connection.data_received(stub_answers_in_loop(wire))
        assert run.idle.is_set()
        assert run.errors == 0
        assert sorted(seen) == sorted(names * uses)

    asyncio.run(go())


def named(request: bytes) -> str:
    """The session that a request names."""
    return request.partition(b"X-Session-Id: ")[2].partition(b"\r\n")[0].decode()


def test_a_run_that_may_take_no_longer_ends_without_an_error() -> None:
    async def go() -> Run:
        run = Run(Job(port=0, connections=1, requests=100))
        connection, wire = Connection(run), Wire()
        connection.connection_made(wire)
        run.start([connection], 100)
        run.until = 0.0
        connection.data_received(stub_answers_in_loop(wire))
        return run

    run = asyncio.run(go())
    assert run.idle.is_set()
    assert (run.errors, len(run.latencies)) == (0, 1)


@pytest.mark.parametrize("recycle", [False, True])
def test_sessions_that_do_not_reach_are_an_error_unless_they_may_be_taken_again(*, recycle: bool) -> None:
    async def go() -> Run:
        run = Run(Job(port=0, connections=1, requests=3, sessions=("a",), uses=2, recycle=recycle))
        connection, wire = Connection(run), Wire()
        connection.connection_made(wire)
        run.start([connection], 3)
        while wire.written:
            connection.data_received(stub_answers_in_loop(wire))
        return run

    run = asyncio.run(go())
    assert run.idle.is_set()
    assert (run.errors, len(run.latencies)) == ((0, 3) if recycle else (1, 2))


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n\r\n",
    ],
)
def test_a_reply_that_is_not_what_was_asked_for_is_an_error(reply: bytes) -> None:
    async def go() -> int:
        run = Run(Job(port=0, connections=1, requests=1))
        connection = Connection(run)
        connection.connection_made(Wire())
        run.start([connection], 1)
        connection.data_received(reply)
        return run.errors

    assert asyncio.run(go()) == 1


def test_a_broken_connection_is_an_error_and_ends_the_run() -> None:
    async def go() -> Run:
        run = Run(Job(port=0, connections=1, requests=3))
        connection = Connection(run)
        connection.connection_made(Wire())
        run.start([connection], 3)
        connection.connection_lost(None)
        await asyncio.wait_for(run.finish(), 1)
        return run

    assert asyncio.run(go()).errors == 1


@given(uses=st.lists(st.integers(1, 200), min_size=1, max_size=20), connections=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_a_fresh_pool_never_deals_a_session_twice_and_always_enough(uses: list[int], connections: int) -> None:
    pool = Pool([str(i) for i in range(10_000)], fresh=True)
    dealt = [pool.deal(wanted, connections) for wanted in uses]
    names = [name for some in dealt for name in some]
    assert len(set(names)) == len(names)
    for wanted, some in zip(uses, dealt, strict=True):
        # the worst case: every connection but one stops right after it took a session
        assert (len(some) - connections) * FRESH_USES >= wanted


def test_a_pool_of_deep_sessions_deals_all_of_them_and_starts_elsewhere_each_time() -> None:
    pool = Pool([str(i) for i in range(64)], fresh=False)
    first, second = pool.deal(10 * USES, 4), pool.deal(10 * USES, 4)
    assert set(first) == set(second) == {str(i) for i in range(64)}
    assert second[0] == first[14]


def sample(case: str, round_: int, cpu_us: float, **more: object) -> Sample:
    base: dict[str, object] = {
        "case": case, "kind": "plain", "connections": 16, "round": round_, "requests": 100, "errors": 0, "seconds": 1.0,
        "p50_ms": 1.0, "p99_ms": 2.0, "first_ms": 1.0, "cpu_us": cpu_us, "rss_mb": 30.0, "pieces": 1.0, "at_once": 1,
    }  # fmt: skip
    return Sample(**{**base, **more})  # type: ignore[arg-type]


def test_a_ratio_compares_within_a_round() -> None:
    """A machine that is three times slower in one round changes no ratio."""
    pairs = [(0, 100.0), (1, 300.0), (2, 110.0)]
    samples = Samples([s for r, us in pairs for s in (sample("bare", r, us), sample("pass", r, us * 1.1))])
    assert samples.ratio("pass", "bare", "plain", 16, lambda s: s.cpu_us) == pytest.approx(1.1)
    assert samples.median("bare", "plain", 16, lambda s: s.cpu_us) == 110
    assert math.isnan(samples.ratio("s10", "bare", "plain", 16, lambda s: s.cpu_us))


def test_a_chunk_costs_what_the_longer_stream_costs_more() -> None:
    samples = Samples(
        [sample("bare", 0, 200 + 30.0 * n, kind=kind) for kind, n in (("short", 20), ("long", 520))]
        + [sample("pass", 0, 900 + 36.0 * n, kind=kind) for kind, n in (("short", 20), ("long", 520))]
    )
    assert samples.chunk_us("bare", 16, 500) == pytest.approx(30)
    assert samples.chunk_ratio("pass", "bare", 16, 500) == pytest.approx(1.2)


def test_targets_are_marked_by_what_was_measured() -> None:
    assert [Target("x", 1.1, v).mark for v in (1.1, 1.11, math.nan)] == ["PASS", "SHORT", "not measured"]


def test_the_worst_depth_counts() -> None:
    runs = [sample(case, 0, us) for case, us in (("bare", 100.0), ("s10", 170.0), ("s100", 230.0))]
    stateful = report.targets(Samples(runs), (10, 100))[0]
    assert stateful.value == pytest.approx(2.3)
    assert stateful.mark == "SHORT"


def test_streams_that_are_missing_count_as_broken() -> None:
    runs = [sample("pass", 0, 1, kind="slow", at_once=report.SLOW), sample("s100", 0, 1, kind="slow", at_once=999)]
    marks = {t.what: t.mark for t in report.targets(Samples(runs), (100,)) if "slow" in t.what}
    assert list(marks.values()) == ["PASS", "SHORT"]


def test_a_section_is_replaced_and_the_others_stay() -> None:
    page = report.merge(report.merge("# Title\n", "house", "old"), "peers", "peers \\1")
    again = report.merge(page, "house", "new\\g<0>")
    assert again == page.replace("old", "new\\g<0>")
    assert report.merge(again, "house", "new\\g<0>") == again
