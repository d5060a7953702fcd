"""Pass-through, byte against byte over raw sockets: what one side sends is what the other gets, less what belongs to
the connection, in bounded memory."""

import asyncio
import gzip
import hashlib
from collections import defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.proxy import both, passing
from tests.support.raw import exchange, read_head, read_reply, request
from tests.support.upstream import (
    Call,
    Close,
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


async def test_an_upgrade_to_something_else_is_relayed_without_it() -> None:
    async with both() as (upstream, proxy):
        upstream.queue.append(plain(200, b"ok"))
        asked = [("Host", "h"), ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "x"),
                 ("Content-Length", "3")]  # fmt: skip
        got = await exchange(proxy.host, proxy.port, request("POST", "/", asked, b"abc"))
        assert got.body == b"ok"
        assert (upstream.requests[0].body, len(upstream.requests[0].headers)) == (b"abc", 2)
