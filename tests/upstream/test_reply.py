"""A reply's body: read as it comes, told apart from one that breaks off, and never waited for without a bound."""

import asyncio
from collections.abc import Iterator

import pytest

from proxy.errors import UpstreamBroken, UpstreamTimeout
from tests.support.upstream import Close, Reset, Script, ScriptedUpstream, Step, head, sse
from tests.upstream.shared import after, never, none, opened, whole


async def test_a_reply_read_to_its_end_gives_the_connection_back() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        for n in range(3):
            reply = await client.send("POST", "/", none(), b'{"messages": []}')
            assert b"reply %d" % (n + 1) in await whole(reply)
            assert await reply.read() == b""
        assert upstream.connections == 1


async def test_a_reply_that_is_given_up_gives_the_connection_up() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.append(sse(["x", never()]))
        reply = await client.send("POST", "/", none(), b"{}")
        assert await reply.read()
        reply.close()
        reply.close()
        await upstream.until(lambda up: up.open_connections == 0)
        with pytest.raises(UpstreamBroken):
            await reply.read()


async def test_closing_wakes_a_read() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.append(sse([never()]))
        reply = await client.send("POST", "/", none(), b"{}")
        reading = asyncio.ensure_future(reply.read())
        await asyncio.sleep(0)
        reply.close()
        with pytest.raises(UpstreamBroken):
            await reading


async def test_a_cancelled_request_gives_the_connection_up() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.append(Script([never()]))
        sending = asyncio.ensure_future(client.send("POST", "/", none(), b"{}"))
        await upstream.until(lambda up: len(up.requests) == 1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await upstream.until(lambda up: up.open_connections == 0)


async def test_a_body_ended_by_the_connection_is_whole() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.append(Script([head(200, []), b"abc", Close()]))
        assert await whole(await client.send("GET", "/", none(), None)) == b"abc"


async def test_interim_replies_are_passed_over() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.append(Script([head(103, [("Link", "x")]), head(200, [("Content-Length", "1")]), b"a"]))
        reply = await client.send("GET", "/", none(), None)
        assert (reply.status, await whole(reply)) == (200, b"a")


@pytest.mark.parametrize("end", [Reset(), Close()], ids=["reset", "close"])
@pytest.mark.parametrize(
    "start",
    [
        head(200, [("Content-Length", "10")]) + b"abc",
        head(200, [("Content-Length", "10")]),
        head(200, [("Transfer-Encoding", "chunked")]) + b"3\r\nabc\r\n",
        head(200, [("Transfer-Encoding", "chunked")]) + b"6\r\nabc",
        head(200, [("Transfer-Encoding", "chunked")]) + b"3\r\nabc\r\nzz\r\n",
    ],
)
async def test_a_body_that_breaks_off_is_told_from_one_that_ends(start: bytes, end: Step) -> None:
    async with ScriptedUpstream(replies=lambda _: Script([start, end])) as upstream, opened(upstream.url) as client:
        with pytest.raises(UpstreamBroken):
            await whole(await client.send("POST", "/", none(), b"{}"))


async def test_a_body_that_idles_times_out_and_one_that_moves_does_not() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url, idle=0.3) as client:
        upstream.queue.append(sse(["a", after(0.15), "b", after(0.25), "c", after(0.35), never()]))
        reply = await client.send("POST", "/", none(), b"{}")
        got = b""
        with pytest.raises(UpstreamTimeout, match=r"0\.3 s"):
            while True:
                got += await reply.read()
        assert got == b"data: a\n\ndata: b\n\ndata: c\n\n"
        await upstream.until(lambda up: up.open_connections == 0)


async def test_the_time_that_the_reader_takes_is_not_the_upstream_s() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url, idle=0.1) as client:
        upstream.queue.append(sse(["a", after(0.02), "b", after(0.04), "c"], done=False))
        reply = await client.send("POST", "/", none(), b"{}")
        got = b""
        while b"b" not in got:
            got += await reply.read()
        await after(0.35).event.wait()
        assert await whole(reply) == b"data: c\n\n"


def dripping(kind: str) -> Script:
    def steps() -> Iterator[Step]:
        yield head(200, [("Content-Type", kind), ("Content-Length", "10")])
        for _ in range(10):
            yield after(0.06)
            yield b"x"

    return Script(steps())


async def test_a_plain_body_that_comes_in_drips_times_out() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url, first_byte=0.3) as client:
        upstream.queue.append(dripping("application/json"))
        reply = await client.send("POST", "/", none(), b"{}")
        with pytest.raises(UpstreamTimeout):
            await whole(reply)


async def test_a_plain_body_that_was_whole_in_time_may_be_read_late() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url, first_byte=0.2) as client:
        upstream.queue.append(Script([head(200, [("Content-Length", "4")]), b"ab", after(0.05), b"cd"]))
        reply = await client.send("POST", "/", none(), b"{}")
        got = b""
        while len(got) < 4:
            got += await reply.read()
        await after(0.3).event.wait()
        assert await reply.read() == b""


async def test_a_stream_and_a_download_may_take_their_time() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url, first_byte=0.3) as client:
        upstream.queue.append(dripping("text/event-stream; charset=utf-8"))
        assert await whole(await client.send("POST", "/", none(), b"{}")) == b"x" * 10
        upstream.queue.append(dripping("application/json"))
        assert await whole(await client.download("GET", "/", none(), None)) == b"x" * 10
