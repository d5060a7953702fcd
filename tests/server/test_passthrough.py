"""Pass-through, byte against byte over raw sockets: what one side sends is what the other gets, less what belongs to
the connection; in bounded memory; and a side that goes, breaks or hangs is felt on the other."""

import asyncio
import contextlib
import gzip
import hashlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from tests.support.proxy import Passing, passing
from tests.support.raw import exchange, read_head, read_reply, request
from tests.support.upstream import (
    Call,
    Close,
    Received,
    Reset,
    Script,
    ScriptedUpstream,
    Step,
    Wait,
    chunk,
    head,
    plain,
    sse,
)

Headers = list[tuple[str, str]]


def by_name(headers: Headers) -> dict[str, list[str]]:
    """Names in lower case, repeats in order: what a proxy has to keep."""
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in headers:
        grouped[name.lower()].append(value)
    return dict(grouped)


def never() -> Wait:
    return Wait(asyncio.Event())


@asynccontextmanager
async def both(**options: Any) -> AsyncIterator[tuple[ScriptedUpstream, Passing]]:
    async with ScriptedUpstream() as upstream, passing(upstream.url, **options) as proxy:
        yield upstream, proxy


# byte against byte

CONNECTION = {
    "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "expect", "content-length"
}  # fmt: skip
NAME = st.one_of(
    st.text("abcxyzABCXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=16),
    st.sampled_from(["Date", "Server", "Via", "Content-Type", "Accept", "Accept-Encoding", "User-Agent", "Cookie",
                     "Set-Cookie", "ETag", "Vary", "Content-Encoding", "Authorization", "X-Request-Id", "x-request-id",
                     "Cache-Control", "Age", "Forwarded", "Origin", "Content-Disposition", "Location"]),
).filter(lambda name: not name.lower().startswith((*CONNECTION, "proxy-", "x-session-")))  # fmt: skip
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F, exclude_categories=["Cc"]), max_size=30).map(
    lambda text: text.strip().encode().decode("latin-1")
)
ONCE = {"content-type", "etag", "server", "user-agent"}
"""A request that repeats one of these is refused by aiohttp's parser."""


def once(headers: Headers) -> Headers:
    seen: set[str] = set()
    return [(n, v) for n, v in headers if n.lower() not in ONCE or not (n.lower() in seen or seen.add(n.lower()))]  # type: ignore[func-returns-value]


HEADERS = st.lists(st.tuples(NAME, VALUE), max_size=10).map(once)
TARGET = st.text("abcXYZ019-._~!$&'()*+,;=:@%/?", max_size=30).map(lambda rest: f"/{rest}")
BODY = st.binary(max_size=200)


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND", "REPORT"]),
    target=TARGET, asked=HEADERS, body=st.none() | BODY, chunked=st.booleans(),
    status=st.sampled_from([200, 201, 203, 206, 299, 302, 307, 400, 401, 404, 418, 429, 500, 503, 599]),
    reason=st.text("abc DEF-'", max_size=12).map(str.strip), replied=HEADERS, reply=BODY,
    framing=st.sampled_from(["length", "chunked", "close"]),
)  # fmt: skip
async def test_any_request_and_any_reply_travel_untouched(
    method: str, target: str, asked: Headers, body: bytes | None, chunked: bool,
    status: int, reason: str, replied: Headers, reply: bytes, framing: str,
) -> None:  # fmt: skip
    sent = [*asked]
    wire = body or b""
    if body is not None and chunked:
        sent.append(("Transfer-Encoding", "chunked"))
        wire = b"".join(chunk(body[at : at + 50]) for at in range(0, len(body), 50)) + b"0\r\n\r\n"
    elif body is not None:
        sent.append(("Content-Length", str(len(body))))
    steps: list[Step] = {
        "length": [head(status, [*replied, ("Content-Length", str(len(reply)))], reason=reason), reply],
        "chunked": [
            head(status, [*replied, ("Transfer-Encoding", "chunked")], reason=reason),
            chunk(reply) if reply else b"",
            b"0\r\n\r\n",
        ],
        "close": [head(status, replied, reason=reason), reply, Close()],
    }[framing]  # type: ignore[assignment]
    if method == "HEAD":
        steps[1:] = [Close()]
    async with both() as (upstream, proxy):
        upstream.queue.append(Script(steps))
        got = await exchange(proxy.host, proxy.port, request(method, target, [("Host", "client.example"), *sent], wire))
    (received,) = upstream.requests
    assert (received.method, received.target, received.body) == (method, target, body or b"")
    expected = by_name(sent)
    # a chunked body of no bytes is a body all the same
    assert by_name(received.headers) == {**expected, "host": [f"{upstream.host}:{upstream.port}"]}
    assert got.line == f"HTTP/1.1 {status} {reason}"
    assert got.complete
    assert got.body == (b"" if method == "HEAD" else reply)
    ours = {name: values for name, values in by_name(got.headers).items() if name not in CONNECTION}
    assert ours == by_name(replied)
    if framing == "length":
        assert got.all("Content-Length") == [str(len(reply))]
    else:
        assert got.get("Content-Length") is None


@pytest.mark.parametrize(
    "target",
    [
        "/?",
        "/x?#y",
        "//host/x",
        "/%2F%2f%5C/..;a=b/./../",
        "/a?b=c&&d==e&f=%zz&g=+%20",
        '/"<>^`{|}\\',
        "/" + "a" * 7000,
        "http://other.example/abs?x",
    ],
)
async def test_odd_targets_travel_byte_for_byte(target: str) -> None:
    async with both() as (upstream, proxy):
        upstream.queue.append(plain())
        assert (await exchange(proxy.host, proxy.port, request("GET", target, [("Host", "h")]))).status == 200
        assert upstream.requests[0].target == target.removeprefix("http://other.example")


async def test_what_belongs_to_the_connection_does_not_travel() -> None:
    async with both() as (upstream, proxy):
        upstream.queue.append(
            plain(
                200,
                b"x",
                [("Connection", "x-hop, keep-alive"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("B", "2")],
            )
        )
        asked = [("Host", "h"), ("Connection", "X-Mine"), ("X-Mine", "1"), ("TE", "trailers"),
                 ("A", "1"), ("X-Session-Id", "s"), ("x-session-b", "s"), ("Proxy-Authorization", "p"),
                 ("Upgrade", "h2c")]  # fmt: skip
        got = await exchange(proxy.host, proxy.port, request("GET", "/", asked))
        assert by_name(got.headers) == {"b": ["2"], "content-length": ["1"]}
        assert by_name(upstream.requests[0].headers) == {"host": [f"{upstream.host}:{upstream.port}"], "a": ["1"]}


@pytest.mark.parametrize("status", [204, 304])
async def test_replies_without_a_body_have_none(status: int) -> None:
    async with both() as (upstream, proxy):
        upstream.queue.append(Script([head(status, [("ETag", '"x"')])]))
        got = await exchange(proxy.host, proxy.port, request("GET", "/", [("Host", "h")]))
        assert (got.status, by_name(got.headers), got.wire) == (status, {"etag": ['"x"']}, b"")


async def test_head_tells_the_length_of_what_is_not_sent() -> None:
    async with both() as (upstream, proxy):
        upstream.queue.append(Script([head(200, [("Content-Length", "12345")])]))
        got = await exchange(proxy.host, proxy.port, request("HEAD", "/", [("Host", "h")]))
        assert got.headers == [("Content-Length", "12345")]


async def test_a_reply_to_http_1_0_ends_with_the_connection() -> None:
    async with both() as (upstream, proxy):
        upstream.queue.append(sse(["a", "b"], done=False))
        raw = request("POST", "/", [("Host", "h"), ("Content-Length", "2")], b"{}").replace(b"HTTP/1.1", b"HTTP/1.0")
        got = await exchange(proxy.host, proxy.port, raw)
        assert (got.get("Transfer-Encoding"), got.body) == (None, b"data: a\n\ndata: b\n\n")


async def test_an_error_of_the_upstream_is_relayed_as_it_is() -> None:
    async with both() as (upstream, proxy):
        body = b'{"error": {"message": "no", "code": 1.0}}'
        upstream.queue.append(plain(429, body, [("Retry-After", "7"), ("x-should-retry", "true")], reason="Slow Down"))
        got = await exchange(proxy.host, proxy.port, request("GET", "/", [("Host", "h")]))
        assert (got.line, got.body) == ("HTTP/1.1 429 Slow Down", body)
        assert (got.get("Retry-After"), got.get("x-should-retry"), got.get("X-Remora-Error")) == ("7", "true", None)


async def test_compressed_bodies_are_not_looked_into() -> None:
    """Neither a bomb (30 MB in 30 kB) nor bytes that are not what their header says."""
    bomb = gzip.compress(bytes(30_000_000))
    async with both() as (upstream, proxy):
        for encoding, data in (("gzip", bomb), ("gzip", b"no gzip"), ("br", b"\x00\x01"), ("zstd, gzip", b"x")):
            upstream.queue.append(plain(200, data, [("Content-Encoding", encoding)]))
            sent = [("Host", "h"), ("Content-Encoding", encoding), ("Content-Length", str(len(data)))]
            got = await exchange(proxy.host, proxy.port, request("POST", "/", sent, data))
            assert upstream.requests[-1].body == data
            assert upstream.requests[-1].get("Content-Encoding") == encoding
            assert (got.body, got.get("Content-Encoding")) == (data, encoding)


async def test_expect_is_answered_here() -> None:
    async with both() as (upstream, proxy):
        upstream.queue.append(plain(200, b"done"))
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(request("POST", "/", [("Host", "h"), ("Expect", "100-continue"), ("Content-Length", "3")]))
        assert await read_head(reader) == ("HTTP/1.1 100 Continue", [])
        writer.write(b"abc")
        assert (await read_reply(reader)).body == b"done"
        assert (upstream.requests[0].body, upstream.requests[0].get("Expect")) == (b"abc", None)
        writer.close()


async def test_one_connection_serves_many_requests() -> None:
    async with both() as (upstream, proxy):
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        for n in range(5):
            upstream.queue.append(plain(200, f"{n}") if n % 2 else sse([f"{n}"], done=False))
            writer.write(request("POST", "/", [("Host", "h"), ("Content-Length", "2")], b"{}"))
            assert str(n).encode() in (await read_reply(reader)).body
        writer.close()
        assert upstream.connections == 1


# streams


async def test_each_event_is_relayed_before_the_next_one_comes() -> None:
    more = [asyncio.Event() for _ in range(3)]
    async with both() as (upstream, proxy):
        upstream.queue.append(sse([step for n, event in enumerate(more) for step in (f"{n}", Wait(event))], done=False))
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(request("POST", "/", [("Host", "h"), ("Content-Length", "2")], b"{}"))
        async with asyncio.timeout(5):
            assert "200" in (await read_head(reader))[0]
            for n, event in enumerate(more):
                assert await reader.readuntil(b"\n\n\r\n") == chunk(f"data: {n}\n\n".encode())
                event.set()
            assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
        writer.close()


async def test_the_head_of_a_stream_does_not_wait_for_its_first_event() -> None:
    go = asyncio.Event()
    async with both() as (upstream, proxy):
        upstream.queue.append(sse([Wait(go), "x"]))
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(request("POST", "/", [("Host", "h"), ("Content-Length", "2")], b"{}"))
        async with asyncio.timeout(5):
            await read_head(reader)
        go.set()
        writer.close()


async def test_each_part_of_an_upload_is_relayed_before_the_next_one_comes() -> None:
    async with both() as (upstream, proxy):
        upstream.queue.append(plain(200, b"ok"))
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(request("PUT", "/", [("Host", "h"), ("Transfer-Encoding", "chunked")]))
        for n in range(1, 4):
            writer.write(chunk(b"x" * 10))
            await upstream.until(lambda up, n=n: up.read_bytes == 10 * n)  # type: ignore[misc]
        writer.write(b"0\r\n\r\n")
        assert (await read_reply(reader)).body == b"ok"
        writer.close()


BIG = 48 << 20
PART = bytes(range(256)) * 256
BOUND = 24 << 20
"""What the system's own socket buffers and the proxy's may hold between them; a proxy that collects holds BIG."""


async def test_a_large_upload_waits_for_an_upstream_that_does_not_read() -> None:
    gate = asyncio.Event()
    upstream = ScriptedUpstream(gate=gate, keep_bodies=False, replies=lambda _: plain(200, b"ok"))
    async with upstream, passing(upstream.url, first_byte_timeout_s=60) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        written = 0

        async def upload() -> None:
            nonlocal written
            writer.write(request("POST", "/", [("Host", "h"), ("Content-Length", str(BIG))]))
            while written < BIG:
                writer.write(PART)
                await writer.drain()
                written += len(PART)

        uploading = asyncio.ensure_future(upload())
        done, _ = await asyncio.wait([uploading], timeout=1.5)
        assert not done
        assert written < BOUND
        gate.set()
        async with asyncio.timeout(30):
            await uploading
            assert (await read_reply(reader)).body == b"ok"
        writer.close()
        assert upstream.requests[0].sha256 == hashlib.sha256(PART * (BIG // len(PART))).hexdigest()


async def test_a_large_download_waits_for_a_client_that_does_not_read() -> None:
    given_out, all_given = 0, asyncio.Event()

    def steps() -> Iterator[Step]:
        nonlocal given_out
        yield head(200, [("Content-Length", str(BIG))])
        for _ in range(BIG // len(PART)):
            yield PART
            given_out += len(PART)
        yield Call(all_given.set)

    async with both() as (upstream, proxy):
        upstream.queue.append(Script(steps()))
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(request("GET", "/", [("Host", "h")]))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await all_given.wait()
        assert given_out < BOUND
        digest = hashlib.sha256()
        async with asyncio.timeout(30):
            await read_head(reader)
            left = BIG
            while left:
                data = await reader.read(min(left, 1 << 20))
                left -= len(data)
                digest.update(data)
        assert digest.hexdigest() == hashlib.sha256(PART * (BIG // len(PART))).hexdigest()
        writer.close()


# one side goes


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


# WebSockets


class Sockets:
    """An upstream that speaks WebSocket, and what it was sent."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[tuple[WSMsgType, Any, str | None]] = asyncio.Queue()
        self.handshakes: list[web.Request] = []
        self.socket: asyncio.Future[web.WebSocketResponse] = asyncio.get_running_loop().create_future()
        self.protocols: tuple[str, ...] = ()

    async def handle(self, asked: web.Request) -> web.StreamResponse:
        self.handshakes.append(asked)
        if asked.path == "/refused":
            return web.json_response({"error": "no"}, status=401, headers={"X-Why": "key"})
        ws = web.WebSocketResponse(
            protocols=self.protocols, autoping=False, autoclose=False, max_msg_size=0, compress=False
        )
        ws.headers["Set-Cookie"] = "a=b"
        await ws.prepare(asked)
        self.socket.set_result(ws)
        while True:
            message = await ws.receive()
            await self.frames.put((message.type, message.data, message.extra))
            if message.type is WSMsgType.CLOSE:
                await ws.close(code=message.data or 1000, message=(message.extra or "").encode())
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
                return ws


@asynccontextmanager
async def sockets() -> AsyncIterator[tuple[Sockets, str, aiohttp.ClientSession]]:
    there = Sockets()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", there.handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with passing(f"http://127.0.0.1:{runner.addresses[0][1]}") as proxy, aiohttp.ClientSession() as http:
            async with asyncio.timeout(15):
                yield there, f"http://{proxy.host}:{proxy.port}", http
    finally:
        await runner.cleanup()


async def test_messages_travel_both_ways_as_they_are() -> None:
    async with sockets() as (there, url, http):
        headers = {"X-A": "1", "X-Session-Id": "s", "Authorization": "Bearer k"}
        async with http.ws_connect(
            URL(f"{url}/v1/realtime?model=x%2Fy", encoded=True), autoping=False, max_msg_size=0, headers=headers
        ) as ws:
            behind = await there.socket
            for data in ("hello", "", "ü" * 70_000):
                await ws.send_str(data)
                assert await there.frames.get() == (WSMsgType.TEXT, data, "")
                await behind.send_str(data)
                assert (await ws.receive()).data == data
            for raw in (b"", b"\x00\xff", b"x" * (5 << 20)):
                await ws.send_bytes(raw)
                assert await there.frames.get() == (WSMsgType.BINARY, raw, "")
                await behind.send_bytes(raw)
                assert (await ws.receive()).data == raw
            await ws.ping(b"1")
            assert (await there.frames.get())[:2] == (WSMsgType.PING, b"1")
            await behind.pong(b"1")
            assert (await ws.receive())[:2] == (WSMsgType.PONG, b"1")
            await behind.ping(b"2")
            assert (await ws.receive())[:2] == (WSMsgType.PING, b"2")
        handshake = there.handshakes[0]
        assert handshake.raw_path == "/v1/realtime?model=x%2Fy"
        assert (handshake.headers["X-A"], handshake.headers["Authorization"]) == ("1", "Bearer k")
        assert "X-Session-Id" not in handshake.headers
        assert "User-Agent" in handshake.headers  # the client's own


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "bye"), (4321, "grüße")])
async def test_a_close_travels_with_its_code_and_reason(code: int, reason: str) -> None:
    async with sockets() as (there, url, http):
        ws = await http.ws_connect(url)
        await ws.close(code=code, message=reason.encode())
        assert await there.frames.get() == (WSMsgType.CLOSE, code, reason)
        assert ws.close_code == code
    async with sockets() as (there, url, http):
        ws = await http.ws_connect(url)
        closing = asyncio.ensure_future((await there.socket).close(code=code, message=reason.encode()))
        assert await ws.receive() == (WSMsgType.CLOSE, code, reason)
        await closing


async def test_a_side_that_vanishes_is_felt_on_the_other() -> None:
    async with sockets() as (there, url, http):
        ws = await http.ws_connect(url)
        await there.socket
        there.handshakes[0].transport.abort()  # type: ignore[union-attr]
        assert (await ws.receive()).type in (WSMsgType.CLOSED, WSMsgType.ERROR)
        assert ws.close_code == 1006
    async with sockets() as (there, url, http):
        ws = await http.ws_connect(url)
        await there.socket
        ws._conn.transport.abort()  # type: ignore[union-attr]
        kind, data, _ = await there.frames.get()
        assert kind in (WSMsgType.CLOSED, WSMsgType.ERROR, WSMsgType.CLOSING)
        assert data is None
        await ws.close()


async def test_a_message_over_the_bound_closes_both_sides() -> None:
    async with sockets() as (there, url, http):
        ws = await http.ws_connect(url, max_msg_size=0)
        with contextlib.suppress(ConnectionError):  # the rest of the message is not taken
            await ws.send_bytes(bytes((32 << 20) + 1))
        assert (await there.frames.get())[0] in (WSMsgType.CLOSE, WSMsgType.CLOSED)
        await ws.close()
    async with sockets() as (there, url, http):
        ws = await http.ws_connect(url)
        with contextlib.suppress(ConnectionError):
            await (await there.socket).send_bytes(bytes((32 << 20) + 1))
        assert (await ws.receive())[:2] == (WSMsgType.CLOSE, 1009)
        await ws.close()


async def test_a_refused_handshake_is_relayed_with_its_body() -> None:
    async with sockets() as (_, url, _http):
        host, port = url.removeprefix("http://").split(":")
        got = await exchange(host, int(port), request("GET", "/refused", HANDSHAKE))
        assert (got.status, got.body, got.get("X-Why")) == (401, b'{"error": "no"}', "key")


async def test_the_upstream_chooses_the_subprotocol() -> None:
    async with sockets() as (there, url, http):
        there.protocols = ("realtime",)
        ws = await http.ws_connect(url, protocols=("other", "realtime", "openai-insecure-api-key.sk-1"))
        assert ws.protocol == "realtime"
        offered = there.handshakes[0].headers["Sec-WebSocket-Protocol"]
        assert [name.strip() for name in offered.split(",")] == ["other", "realtime", "openai-insecure-api-key.sk-1"]
        await ws.close()


async def test_offered_subprotocols_which_may_be_keys_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with sockets() as (there, url, http):
        with caplog.at_level(logging.DEBUG):
            ws = await http.ws_connect(url, protocols=("openai-insecure-api-key.sk-1",))
            assert ws.protocol is None
            await ws.close()
        behind = await there.socket
        assert behind.ws_protocol is None
    # the upstream of this test is aiohttp as well and logs once
    assert [record.name for record in caplog.records if "sk-1" in record.getMessage()] == ["aiohttp.websocket"]


HANDSHAKE = [
    ("Host", "h"), ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]  # fmt: skip


async def test_the_reply_to_a_handshake_carries_the_upstream_s_headers_and_no_others() -> None:
    async with sockets() as (_, url, _http):
        host, port = url.removeprefix("http://").split(":")
        got = await exchange(host, int(port), request("GET", "/", HANDSHAKE))
        assert got.status == 101
        assert {name.lower() for name, _ in got.headers} == {
            "upgrade", "connection", "sec-websocket-accept", "set-cookie", "date", "server"
        }  # fmt: skip
        assert got.get("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


async def test_an_upgrade_to_something_else_is_relayed_without_it() -> None:
    async with both() as (upstream, proxy):
        upstream.queue.append(plain(200, b"ok"))
        asked = [("Host", "h"), ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "x"),
                 ("Content-Length", "3")]  # fmt: skip
        got = await exchange(proxy.host, proxy.port, request("POST", "/", asked, b"abc"))
        assert got.body == b"ok"
        assert (upstream.requests[0].body, len(upstream.requests[0].headers)) == (b"abc", 2)


def test_received_is_what_the_tests_compare() -> None:
    assert Received("GET", "/", [("A", "1"), ("a", "2")], b"").all("A") == ["1", "2"]
