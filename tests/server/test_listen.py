"""What a client may do to a listener: long heads, silence, replies that nobody takes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from proxy.errors import SettingsError
from proxy.server.listen import HEADERS_AT_MOST, LINE_AT_MOST, listen
from tests.support import raw

SMALL = 48 * 1024
"""Bytes that fit into what a connection holds without making its writer wait."""


class Place:
    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.transports: list[asyncio.Transport] = []


@asynccontextmanager
async def serving(*, take_timeout_s: float = 60.0, body: bytes = b"ok") -> AsyncIterator[Place]:
    here = Place(("", 0))

    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        here.transports.append(request.transport)
        return web.Response(body=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with AsyncExitStack() as stack:
        here.address = await listen(
            app, ("127.0.0.1", 0), "--listen", stack, stop_timeout_s=1.0, take_timeout_s=take_timeout_s
        )
        yield here


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/" + "a" * (LINE_AT_MOST - 100), [], 200),
        ("/" + "a" * LINE_AT_MOST, [], 400),
        ("/", [("X-Long", "b" * (LINE_AT_MOST - 100))], 200),
        ("/", [("X-Long", "secret" * LINE_AT_MOST)], 400),
        ("/", [(f"X-{n}", "") for n in range(HEADERS_AT_MOST - 1)], 200),
        ("/", [(f"X-{n}", "") for n in range(HEADERS_AT_MOST + 1)], 400),
    ],
)
async def test_a_head_that_is_too_long_is_a_clear_400(
    target: str, headers: list[tuple[str, str]], status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving() as here:
        reply = await raw.exchange(*here.address, raw.request("GET", target, [("Host", "h"), *headers]))
    assert reply.status == status
    if status == 400:
        assert len(reply.body) < 1000
        assert reply.body
    # what a stranger sends is not told to the log: it may hold a credential
    assert capfd.readouterr() == ("", "")


async def test_an_endless_head_is_answered_while_it_comes() -> None:
    async with serving() as here:
        reader, writer = await asyncio.open_connection(*here.address)
        sent = 0
        writer.write(b"GET / HTTP/1.1\r\nX-Endless: ")
        try:
            async with asyncio.timeout(20):
                while not here.transports and not reader.at_eof() and sent < 64 << 20:
                    writer.write(b"x" * 65_536)
                    await writer.drain()
                    sent += 65_536
                    await asyncio.sleep(0)
                    if reader._buffer:  # type: ignore[attr-defined] # the answer has come
                        break
        except ConnectionError:
            pass
        writer.close()
        assert sent < 16 << 20


async def test_a_small_reply_that_nobody_takes_is_cut_off_when_it_is_complete() -> None:
    """It waits in the connection when aiohttp has long done with it."""
    async with serving(take_timeout_s=0.4, body=b"x" * SMALL) as here:
        # a small window, so that the system itself does not hold it all
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, here.address)
            ask = raw.request("GET", "/", [("Host", "h")])
            async with asyncio.timeout(20):
                # as many requests as it takes until something waits here
                while not here.transports or not here.transports[0].get_write_buffer_size():
                    await loop.sock_sendall(client, ask)
                    await asyncio.sleep(0.001)
                while here.transports[0].get_write_buffer_size():  # noqa: ASYNC110 - nobody is told
                    await asyncio.sleep(0.01)
            assert here.transports[0].is_closing()


async def test_a_client_that_takes_a_little_now_and_then_is_served_to_the_end() -> None:
    body = b"x" * (4 << 20)
    async with serving(take_timeout_s=0.4, body=body) as here:
        reader, writer = await asyncio.open_connection(*here.address, limit=4096)
        writer.write(raw.request("GET", "/", [("Host", "h"), ("Connection", "close")]))
        got = 0
        while piece := await reader.read(256 * 1024):
            got += len(piece)
            await asyncio.sleep(0.002)
        writer.close()
    assert got > len(body)


async def test_an_address_in_use_names_the_flag() -> None:
    async with serving() as here, AsyncExitStack() as stack:
        with pytest.raises(SettingsError, match=f"--flag 127.0.0.1:{here.address[1]}: .*in use; choose another"):
            await listen(web.Application(), here.address, "--flag", stack, stop_timeout_s=1.0)


async def test_only_who_shares_may_come_beside() -> None:
    async with AsyncExitStack() as stack:
        bound = await listen(web.Application(), ("127.0.0.1", 0), "--listen", stack, stop_timeout_s=1.0, shared=True)
        assert await listen(web.Application(), bound, "--listen", stack, stop_timeout_s=1.0, shared=True) == bound
        with pytest.raises(SettingsError, match="in use"):
            await listen(web.Application(), bound, "--listen", stack, stop_timeout_s=1.0)
