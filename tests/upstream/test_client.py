"""The client against a real server on loopback: what it sends, how it fails, what it waits for."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from multidict import CIMultiDict

from proxy.errors import BadRequest, SettingsError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from proxy.upstream.client import UpstreamClient
from tests.support.upstream import Close, Received, Reset, Script, ScriptedUpstream, Step, Wait, head, plain
from tests.upstream.shared import after, never, none, opened, whole

# what is sent


@pytest.mark.parametrize(
    ("base", "target", "sent"),
    [
        ("", "/v1/models", "/v1/models"),
        ("/", "/v1/models", "/v1/models"),
        ("/v1", "/v1/models", "/v1/models"),
        ("/v1/", "/v1?x", "/v1?x"),
        ("/v1", "/v1", "/v1"),
        ("/v1", "/v10/x", "/v1/v10/x"),
        ("/v1", "/health", "/v1/health"),
        ("/openai", "/v1/models", "/openai/v1/models"),
        ("/openai/v1", "/v1/models", "/openai/v1/models"),
        ("/openai/v1", "/models", "/openai/v1/models"),
        ("/a%2Fb", "/v1/x", "/a%2Fb/v1/x"),
        ("", "/x?", "/x?"),
        ("", "/a//b;c=1/%2F/%2e%2E/../x?q=a+b%20c&&=%zz?#f", "/a//b;c=1/%2F/%2e%2E/../x?q=a+b%20c&&=%zz?#f"),
        ("", "//evil.example/x", "//evil.example/x"),
        ("", "http://evil.example/v1/x?y", "/v1/x?y"),
        ("/v1", "http://evil.example", "/v1/"),
    ],
)
async def test_the_target_is_put_behind_the_base_untouched(base: str, target: str, sent: str) -> None:
    """And whatever the target says, the request goes to the upstream of the settings."""
    async with ScriptedUpstream() as upstream, opened(upstream.url + base) as client:
        for _ in range(2):
            upstream.queue.append(plain())
            await client.send("GET", target, none(), None)
        assert [request.target for request in upstream.requests] == [sent, sent]
        assert upstream.requests[0].get("Host") == f"{upstream.host}:{upstream.port}"


@pytest.mark.parametrize("target", ["", "x", "@evil.example/", "*", "/\udce9", "/é"])
async def test_a_target_that_is_no_path_is_refused(target: str) -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        with pytest.raises(BadRequest):
            await client.send("GET", target, none(), None)
        assert upstream.connections == 0


async def test_options_of_the_server_itself_travels() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url + "/v1") as client:
        upstream.queue.append(plain())
        await client.send("OPTIONS", "*", none(), None)
        assert upstream.requests[0].target == "*"


async def test_connect_is_refused() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        with pytest.raises(BadRequest):
            await client.send("CONNECT", "/", none(), None)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY"])
async def test_nothing_is_added_to_a_request_without_a_body(method: str) -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.append(plain())
        await client.send(method, "/", none(), None)
        assert upstream.requests[0].headers == [("Host", f"{upstream.host}:{upstream.port}")]


@pytest.mark.parametrize("size", [0, 1, 1 << 18, (1 << 18) + 1, 3 << 20])
async def test_bytes_travel_with_their_length_and_nothing_else(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.append(plain())
        await client.send("POST", "/", CIMultiDict({"Content-Length": "7"}), body[:size])
        assert upstream.requests[0].body == body[:size]
        assert upstream.requests[0].headers[1:] == [("Content-Length", str(size))]


async def test_a_body_without_a_length_is_chunked() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"bc"

    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.append(plain())
        await client.send("POST", "/", none(), parts())
        assert upstream.requests[0].body == b"abc"
        assert upstream.requests[0].headers[1:] == [("Transfer-Encoding", "chunked")]


async def test_repeats_spelled_in_two_ways_both_travel() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.append(plain())
        await client.send("GET", "/", CIMultiDict([("X-A", "1"), ("x-a", "2"), ("X-A", "3")]), None)
        assert upstream.requests[0].all("x-a") == ["1", "2", "3"]


async def test_redirects_are_not_followed_and_cookies_not_kept() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        for _ in range(2):
            upstream.queue.append(plain(302, b"", [("Location", "/elsewhere"), ("Set-Cookie", "a=b")], reason="Found"))
            reply = await client.send("GET", "/", none(), None)
            assert (reply.status, reply.reason) == (302, "Found")
        assert [request.get("Cookie") for request in upstream.requests] == [None, None]
        assert len(upstream.requests) == 2


# how it breaks


@pytest.mark.parametrize("end", [Reset(), Close()], ids=["reset", "close"])
@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\nContent-", b"garbage\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n"],
)
async def test_a_head_that_does_not_come_is_a_broken_upstream(start: bytes, end: Step) -> None:
    async with ScriptedUpstream(replies=lambda _: Script([start, end])) as upstream, opened(upstream.url) as client:
        with pytest.raises(UpstreamBroken) as caught:
            await client.send("POST", "/v1/x?key=secret", none(), b"{}")
        assert "secret" not in str(caught.value)
        assert upstream.host in str(caught.value)
        assert len(upstream.requests) == 1, "a POST is never sent twice"


async def test_a_switch_of_protocols_that_nobody_asked_for_is_broken() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.append(Script([head(101, [("Upgrade", "x"), ("Connection", "Upgrade")])]))
        with pytest.raises(UpstreamBroken):
            await client.send("GET", "/", none(), None)


async def test_a_reset_before_the_request_is_read_is_a_broken_upstream() -> None:
    async with ScriptedUpstream(on_head=lambda _: Script([Reset()])) as upstream, opened(upstream.url) as client:
        with pytest.raises(UpstreamBroken):
            await client.send("POST", "/", none(), b"x" * (8 << 20))


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 70_000, b"X-A: a\r\n" * 400], ids=["long", "many"])
async def test_an_endless_head_is_not_read_for_ever(line: bytes) -> None:
    def steps() -> Iterator[Step]:
        yield b"HTTP/1.1 200 OK\r\n"
        while True:
            yield line

    async with ScriptedUpstream(replies=lambda _: Script(steps())) as upstream, opened(upstream.url) as client:
        with pytest.raises(UpstreamBroken):
            await client.send("POST", "/", none(), b"{}")


async def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with opened(f"http://127.0.0.1:{bound.getsockname()[1]}") as client:
            with pytest.raises(UpstreamUnreachable, match="refused"):
                await client.send("POST", "/", none(), b"{}")


async def test_a_host_that_does_not_exist_is_unreachable() -> None:
    async with opened("http://nowhere.invalid") as client:
        with pytest.raises(UpstreamUnreachable, match=r"nowhere\.invalid"):
            await client.send("POST", "/", none(), b"{}")


# a connection that is over is not used


async def test_a_kept_connection_whose_end_has_arrived_is_not_used() -> None:
    """Even if the event loop has not had the time to notice it: a POST could not be sent again."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)
    answered, pause = threading.Event(), threading.Event()
    heads: list[bytes] = []

    def serve() -> None:
        for n in range(2):
            connection, _ = listener.accept()
            with connection:
                data = b""
                while not data.endswith(b"\r\n\r\n{}"):
                    data += connection.recv(65536)
                heads.append(data)
                connection.sendall(head(200, [("Content-Length", "1")]) + b"x")
                if n == 0:
                    answered.wait(10)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        async with opened(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            assert await whole(await client.send("POST", "/", none(), b"{}")) == b"x"
            answered.set()
            # the loop is held here while the connection ends, so it cannot know; the kernel does
            pause.wait(0.2)
            reply = await client.send("POST", "/", none(), b"{}")
            assert await whole(reply) == b"x"
    finally:
        thread.join(10)
        listener.close()
    assert len(heads) == 2


async def test_a_get_on_a_connection_that_ends_then_is_sent_again() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url) as client:
        upstream.queue.extend([plain(), Script([Close()]), plain(200, b"again")])
        await whole(await client.send("GET", "/", none(), None))
        assert await whole(await client.send("GET", "/", CIMultiDict({"A": "1"}), None)) == b"again"
        assert [request.get("A") for request in upstream.requests] == [None, "1", "1"]


# what it waits for


async def test_a_connection_that_is_not_taken_times_out() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):  # the queue of connections nobody accepts is full then
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with opened(f"http://127.0.0.1:{full.getsockname()[1]}", connect=0.2) as client:
            with pytest.raises(UpstreamTimeout, match=r"0\.2 s"):
                await client.send("POST", "/", none(), b"{}")


async def test_a_head_that_does_not_come_in_time_times_out() -> None:
    async with ScriptedUpstream() as upstream, opened(upstream.url, first_byte=0.2) as client:
        upstream.queue.append(Script([never()]))
        with pytest.raises(UpstreamTimeout, match=r"0\.2 s"):
            await client.send("POST", "/", none(), b"{}")
        await upstream.until(lambda up: up.open_connections == 0)


async def test_a_head_that_comes_in_drips_times_out() -> None:
    def steps() -> Iterator[Step]:
        yield b"HTTP/1.1 200 OK\r\n"
        while True:
            yield after(0.03)
            yield b"X-A: b\r\n"

    async with ScriptedUpstream() as upstream, opened(upstream.url, first_byte=0.3, idle=0.1) as client:
        upstream.queue.append(Script(steps()))
        with pytest.raises(UpstreamTimeout):
            await client.send("POST", "/", none(), b"{}")


async def test_a_long_upload_is_not_taken_for_silence() -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(5):
            await after(0.1).event.wait()
            yield b"x"

    async with ScriptedUpstream() as upstream, opened(upstream.url, first_byte=0.3) as client:
        upstream.queue.append(plain())
        assert (await client.send("POST", "/", none(), slow())).status == 200
        assert upstream.requests[0].body == b"xxxxx"


async def test_many_requests_at_once_do_not_wait_for_one_another() -> None:
    together = asyncio.Event()
    arrived = 0

    def reply(_: Received) -> Script:
        nonlocal arrived
        if (arrived := arrived + 1) == 150:
            together.set()
        return Script([Wait(together), head(200, [("Content-Length", "0")])])

    async with ScriptedUpstream(replies=reply) as upstream, opened(upstream.url) as client:
        replies = await asyncio.gather(*(client.send("POST", "/", none(), b"{}") for _ in range(150)))
        assert {reply.status for reply in replies} == {200}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://h",
        "localhost:8080",
        "http://",
        "http://u:p@h",
        "http://h/?q=1",
        "http://h/#f",
        "http://h:99999",
        "http://[",
    ],
)
def test_a_url_that_cannot_be_an_upstream_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="upstream") as caught:
        UpstreamClient(url, connect_timeout_s=1, first_byte_timeout_s=1, idle_timeout_s=1)
    assert "\n" not in str(caught.value)
    assert ":p@" not in str(caught.value)


async def test_an_ipv6_upstream_is_reached() -> None:
    server = await asyncio.start_server(_ok, "::1", 0)
    async with server, opened(f"http://[::1]:{server.sockets[0].getsockname()[1]}") as client:
        assert (await client.send("GET", "/", none(), None)).status == 204


async def _ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert b"Host: [::1]:" in await reader.readuntil(b"\r\n\r\n")
    writer.write(head(204, []))
    await writer.drain()
    writer.close()
