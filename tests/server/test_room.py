"""As many connections as there is room for; one more is told, and takes nothing for long."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from proxy.server import room as rooms
from proxy.server.listen import listen
from tests.support import raw

ASK = raw.request("GET", "/", [("Host", "h")])
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(most: int) -> AsyncIterator[tuple[str, int]]:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=b"ok")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with AsyncExitStack() as stack:
        yield await listen(app, ("127.0.0.1", 0), "--listen", stack, stop_timeout_s=1.0, most=most)


async def kept(address: tuple[str, int]) -> Streams:
    """A connection that was served and stays open."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(ASK)
    assert (await raw.read_reply(reader)).status == 200
    return reader, writer


async def cut_off(streams: Streams) -> None:
    reader, writer = streams
    try:
        assert await reader.read() == b""
    except ConnectionError:
        pass  # the same, told otherwise
    writer.close()


async def test_one_connection_too_many_is_told_whatever_it_asks_and_there_is_room_again_when_one_goes() -> None:
    async with serving(2) as address, asyncio.timeout(20):
        first, second = await kept(address), await kept(address)
        for body in (b"", b"x" * 3_000_000):
            ask = raw.request("POST", "/", [("Host", "h"), ("Content-Length", str(len(body)))], body)
            refused = await raw.exchange(*address, ask)
            assert (refused.status, refused.get("Retry-After")) == (503, "1")
            assert refused.get("X-Remora-Error") == "overloaded"
            assert json.loads(refused.body)["error"]["code"] == "overloaded"
            assert "2 connections are open" in refused.body.decode()
        # those that are open are served all the same
        first[1].write(ASK)
        assert (await raw.read_reply(first[0])).status == 200
        second[1].close()
        await second[1].wait_closed()
        while (await raw.exchange(*address, ASK)).status != 200:  # noqa: ASYNC110 - nobody is told of an end
            await asyncio.sleep(0.01)
        first[1].close()


async def test_who_is_too_many_and_says_nothing_or_never_stops_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "HEAD_S", 0.2)
    async with serving(1) as address, asyncio.timeout(20):
        held = await kept(address)
        await cut_off(await asyncio.open_connection(*address))
        _, endless = await asyncio.open_connection(*address)
        with pytest.raises(ConnectionError):
            while True:
                endless.write(b"x" * 65_536)
                await endless.drain()
                await asyncio.sleep(0)
        endless.close()
        held[1].close()


async def test_many_that_are_too_many_wait_for_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "AT_ONCE", 3)
    monkeypatch.setattr(rooms, "HEAD_S", 60.0)
    async with serving(1) as address, asyncio.timeout(20):
        held = await kept(address)
        waiting = [await asyncio.open_connection(*address) for _ in range(3)]
        for _ in range(5):
            await cut_off(await asyncio.open_connection(*address))
        for reader, writer in waiting:
            writer.write(ASK)
            assert (await raw.read_reply(reader)).status == 503
            writer.close()
        held[1].close()


@pytest.mark.parametrize(
    ("soft", "hard", "exchanges", "expected"),
    [
        (256, 1064, 2000, 500),
        (256, 1064, 50, 200),
        (64, 64, 2000, rooms.LEAST),
    ],
)
def test_there_is_room_for_idle_clients_too_as_far_as_files_may_be_open(
    soft: int, hard: int, exchanges: int, expected: int
) -> None:
    """In a process of its own: a limit that was lowered cannot be raised again."""
    code = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "from proxy.server.room import room\n"
        f"print(room({exchanges}), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(expected), str(hard), str(hard)]
