"""A side of a relayed exchange that goes, breaks or hangs: it is felt on the other side, and nothing is logged."""

import asyncio
import logging

import pytest

from tests.support.proxy import both, passing
from tests.support.raw import exchange, read_reply, request
from tests.support.upstream import Close, Reset, Script, ScriptedUpstream, Step, Wait, chunk, head, plain, sse

BIG = 48 << 20
PART = bytes(range(256)) * 256


def never() -> Wait:
    return Wait(asyncio.Event())


async def test_a_client_that_hangs_up_ends_the_upstream_s_work() -> None:
    """Before the head, in the middle of a stream, and in the middle of its own upload."""
    async with both() as (upstream, proxy):
        for script, raw, relayed in (
            (Script([never()]), request("POST", "/", [("Host", "h"), ("Content-Length", "2")], b"{}"), False),
            (sse(["x", never()]), request("POST", "/", [("Host", "h"), ("Content-Length", "2")], b"{}"), True),
        ):
            upstream.queue.append(script)
            before = len(upstream.requests)
            reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
            writer.write(raw)
            await upstream.until(lambda up, n=before: len(up.requests) == n + 1)  # type: ignore[misc]
            if relayed:
                await reader.readuntil(b"data: x")
            writer.close()
            await upstream.until(lambda up: up.open_connections == 0)
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(request("POST", "/", [("Host", "h"), ("Content-Length", "100")], b"half"))
        await upstream.until(lambda up: up.open_connections == 1)
        writer.close()
        await upstream.until(lambda up: up.open_connections == 0)
        await proxy.ended(3)


async def test_nothing_is_logged_when_sides_go(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await test_a_client_that_hangs_up_ends_the_upstream_s_work()
        for end in (Reset(), Close()):
            await test_a_reply_that_breaks_off_breaks_off_for_the_client(
                head(200, [("Content-Length", "9")]) + b"abc", end
            )
    assert caplog.records == []


@pytest.mark.parametrize("end", [Reset(), Close()], ids=["reset", "close"])
@pytest.mark.parametrize(
    "start",
    [
        head(200, [("Content-Length", "9")]),
        head(200, [("Content-Length", "9")]) + b"abc",
        head(200, [("Transfer-Encoding", "chunked")]) + chunk(b"abc"),
        head(200, [("Transfer-Encoding", "chunked")]) + b"6\r\nabc",
    ],
    ids=["no body", "length", "between chunks", "in a chunk"],
)
async def test_a_reply_that_breaks_off_breaks_off_for_the_client(start: bytes, end: Step) -> None:
    go = asyncio.Event()
    async with both() as (upstream, proxy):
        upstream.queue.append(Script([start, Wait(go), end]))
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(request("POST", "/", [("Host", "h"), ("Content-Length", "2")], b"{}"))
        reading = asyncio.ensure_future(read_reply(reader))
        await upstream.until(lambda up: len(up.requests) == 1)
        go.set()
        async with asyncio.timeout(5):
            got = await reading
        assert (got.status, got.complete) == (200, False)
        assert got.body in (b"", b"abc")
        writer.close()
        await proxy.ended(1)
        assert proxy.records[0].error == "upstream_broken"


async def test_a_break_is_felt_by_a_client_whose_only_sign_of_the_end_is_the_connection() -> None:
    go = asyncio.Event()
    async with both() as (upstream, proxy):
        upstream.queue.append(Script([head(200, [("Transfer-Encoding", "chunked")]), chunk(b"abc"), Wait(go), Close()]))
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        raw = request("POST", "/", [("Host", "h"), ("Content-Length", "2")], b"{}").replace(b"HTTP/1.1", b"HTTP/1.0")
        writer.write(raw)
        await reader.readuntil(b"abc")
        go.set()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.parametrize(
    ("steps", "status", "code"),
    [
        ([Reset()], 502, "upstream_broken"),
        ([Close()], 502, "upstream_broken"),
        ([b"HTTP/1.1 200 OK\r\nA: ", Reset()], 502, "upstream_broken"),
        ([b"hello\r\n\r\n"], 502, "upstream_broken"),
    ],
)
async def test_an_upstream_that_breaks_before_its_head_is_said_to_be_broken(
    steps: list[Step], status: int, code: str
) -> None:
    async with both() as (upstream, proxy):
        upstream.queue.append(Script(steps))
        got = await exchange(
            proxy.host, proxy.port, request("POST", "/?k=secret", [("Host", "h"), ("Content-Length", "0")])
        )
        assert (got.status, got.get("X-Remora-Error")) == (status, code)
        assert b"secret" not in got.body


async def test_a_silent_upstream_is_given_up_in_time() -> None:
    async with both(first_byte_timeout_s=0.2, idle_timeout_s=0.2) as (upstream, proxy):
        upstream.queue.extend([Script([never()]), sse(["x", never()])])
        raw = request("POST", "/", [("Host", "h"), ("Content-Length", "2")], b"{}")
        assert (await exchange(proxy.host, proxy.port, raw)).status == 504
        got = await exchange(proxy.host, proxy.port, raw)
        assert (got.status, got.complete, got.body) == (200, False, b"data: x\n\n")
        assert [record.error for record in proxy.records] == ["upstream_timeout", "upstream_timeout"]


async def test_a_client_that_takes_nothing_is_given_up_in_time() -> None:
    async with both(write_timeout_s=0.5) as (upstream, proxy):
        upstream.queue.append(plain(200, b"x" * BIG))
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(request("GET", "/", [("Host", "h")]))
        await proxy.ended(1)
        await upstream.until(lambda up: up.open_connections == 0)
        assert not (await read_reply(reader)).complete
        writer.close()


async def test_a_reply_that_comes_before_the_upload_ends_is_relayed() -> None:
    upstream = ScriptedUpstream(on_head=lambda _: plain(413, b"too much", [("Connection", "close")]))
    async with upstream, passing(upstream.url) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(request("POST", "/", [("Host", "h"), ("Content-Length", str(BIG))], PART))
        async with asyncio.timeout(5):
            got = await read_reply(reader)
        assert (got.status, got.body, got.complete) == (413, b"too much", True)
        writer.close()


async def test_an_upload_that_stops_is_given_up_in_time() -> None:
    """Silent, or with a chunk that is none, of which aiohttp tells nobody."""
    async with both(first_byte_timeout_s=0.3) as (upstream, proxy):
        for n, rest in enumerate((b"", b"zz\r\n")):
            reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
            writer.write(request("POST", "/", [("Host", "h"), ("Transfer-Encoding", "chunked")], chunk(b"abc")))
            await upstream.until(lambda up, n=n: up.connections == n + 1)  # type: ignore[misc]
            writer.write(rest)
            assert (await read_reply(reader)).status == 504
            await upstream.until(lambda up: up.open_connections == 0)
            writer.close()
        assert upstream.requests == []
