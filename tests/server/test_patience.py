"""A body that is sent too slowly ends; one that is sent slowly, or read slowly, does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from proxy.server.patience import arriving
from tests.support import raw

LIMIT_S = 0.3
HEAD = raw.request("POST", "/", [("Host", "h"), ("Content-Length", "6")])


class Place:
    def __init__(self) -> None:
        self.address = ("", 0)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.read = asyncio.Event()
        self.over: asyncio.Queue[str] = asyncio.Queue()
        """`whole` or `cut`, of each request."""


@asynccontextmanager
async def reading() -> AsyncIterator[Place]:
    """A listener that answers with the body that it read, a piece each time that `go_on` is set."""
    here = Place()

    async def handle(request: web.Request) -> web.StreamResponse:
        pieces = []
        end = "cut"
        try:
            async for piece in arriving(request, LIMIT_S):
                pieces.append(piece)
                here.read.set()
                await here.go_on.wait()
            end = "whole"
        finally:
            here.over.put_nowait(end)
        return web.Response(body=b"".join(pieces))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        here.address = host, port
        yield here
    finally:
        await runner.cleanup()


async def test_a_body_arrives_in_one_piece_or_many() -> None:
    async with reading() as here:
        assert (await raw.exchange(*here.address, HEAD + b"abcdef")).body == b"abcdef"
        reader, writer = await asyncio.open_connection(*here.address)
        writer.write(HEAD + b"abc")
        await here.read.wait()
        writer.write(b"def")
        assert (await raw.read_reply(reader)).body == b"abcdef"
        writer.write(raw.request("POST", "/", [("Host", "h"), ("Content-Length", "0")]))
        assert (await raw.read_reply(reader)).body == b""
        writer.close()


async def test_a_client_that_falls_silent_is_cut_off() -> None:
    async with reading() as here:
        reader, writer = await asyncio.open_connection(*here.address)
        writer.write(HEAD + b"abc")
        async with asyncio.timeout(10):
            assert await here.over.get() == "cut"
            assert not await received(reader)
        writer.close()


async def test_a_client_that_sends_a_byte_now_and_then_is_cut_off_as_well() -> None:
    async with reading() as here:
        _, writer = await asyncio.open_connection(*here.address)
        writer.write(raw.request("POST", "/", [("Host", "h"), ("Content-Length", "1000")]))

        async def drip() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(LIMIT_S / 10)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(10):
            assert await here.over.get() == "cut"
        dripping.cancel()
        writer.close()


async def test_a_reader_that_takes_its_time_is_not_the_clients_fault() -> None:
    async with reading() as here:
        here.go_on.clear()
        reader, writer = await asyncio.open_connection(*here.address)
        writer.write(HEAD + b"abc")
        await here.read.wait()
        writer.write(b"def")
        # longer than a client may take
        asyncio.get_running_loop().call_later(3 * LIMIT_S, here.go_on.set)
        assert (await raw.read_reply(reader)).body == b"abcdef"
        assert await here.over.get() == "whole"
        writer.close()


async def received(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
