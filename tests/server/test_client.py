"""The client of an exchange over a real connection: what it gets, when it counts as gone, how it is cut off."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.exchange.contract import NO_HEADERS
from proxy.server.client import HttpClient
from proxy.server.passthrough import add_nothing
from tests.support import raw

Work = Callable[[HttpClient], Awaitable[None]]

ASK = raw.request("GET", "/", [("Host", "x")])
HEADERS = CIMultiDictProxy(
    CIMultiDict([("Content-Type", "a/b"), ("X-A", "1"), ("x-a", "2"), ("Connection", "close"), ("Keep-Alive", "x")])
)
MARKS = (("X-Session-Id", "s"), ("X-Session-Turn", "1"))
MIB = bytes(1 << 20)


@asynccontextmanager
async def serving(work: Work, *, write_timeout_s: float = 10.0) -> AsyncIterator[tuple[str, int]]:
    """A listener whose every request `work` answers, as the house runs it: in a task that outlives its client."""
    tasks: set[asyncio.Task[None]] = set()
    asked = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        client = HttpClient(request, write_timeout_s)
        task = asyncio.ensure_future(_run(work, client))
        tasks.add(task)
        asked.set()
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            client.hang_up()
            raise
        assert client.response is not None
        return client.response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    app.on_response_prepare.append(add_nothing)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield host, port
        async with asyncio.timeout(10):
            await asked.wait()
            await asyncio.gather(*tasks)
    finally:
        await runner.cleanup()


async def _run(work: Work, client: HttpClient) -> None:
    try:
        await work(client)
    finally:
        client.end()


def connected(place: tuple[str, int]) -> socket.socket:
    """A client that has asked, and reads nothing by itself."""
    here = socket.socket()
    here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    here.connect(place)
    here.sendall(ASK)
    return here


async def test_a_whole_reply_is_the_upstream_s_with_the_marks_beside_it() -> None:
    delivered = []

    async def work(client: HttpClient) -> None:
        assert not client.started
        delivered.append(await client.send(201, "Made", HEADERS, MARKS, b"said"))
        assert client.started

    async with serving(work) as place:
        reply = await raw.exchange(*place, ASK)
    assert reply.line == "HTTP/1.1 201 Made"
    assert sorted(reply.headers) == sorted(
        [("Content-Type", "a/b"), ("X-A", "1"), ("x-a", "2"), *MARKS, ("Content-Length", "4")]
    )
    assert (reply.body, reply.complete, delivered) == (b"said", True, [True])


async def test_the_length_is_that_of_what_is_sent() -> None:
    """The upstream's may have been another: its reply came compressed, or was made by the proxy."""

    async def work(client: HttpClient) -> None:
        await client.send(200, "", CIMultiDictProxy(CIMultiDict({"Content-Length": "999"})), (), b"said")

    async with serving(work) as place:
        reply = await raw.exchange(*place, ASK)
    assert reply.line == "HTTP/1.1 200 OK"
    assert reply.headers == [("Content-Length", "4")]


async def test_each_part_of_a_stream_goes_out_before_the_next_is_written() -> None:
    seen = asyncio.Event()
    finished = []

    async def work(client: HttpClient) -> None:
        await client.start(200, "OK", HEADERS, MARKS, sized=False)
        await client.write(b"one")
        await client.write(b"")
        await seen.wait()
        await client.write(b"two")
        finished.append(await client.finish())

    async with serving(work) as place:
        reader, writer = await asyncio.open_connection(*place)
        writer.write(ASK)
        _, headers = await raw.read_head(reader)
        assert set(MARKS) <= set(headers)
        assert await reader.readexactly(8) == b"3\r\none\r\n"
        seen.set()
        assert await reader.readexactly(13) == b"3\r\ntwo\r\n0\r\n\r\n"
        writer.close()
    assert finished == [True]


async def test_a_reply_that_is_broken_off_is_seen_not_to_be_whole() -> None:
    async def work(client: HttpClient) -> None:
        await client.start(200, "OK", HEADERS, (), sized=False)
        await client.write(b"one")
        await client.break_off("upstream_broken")

    async with serving(work) as place:
        reply = await raw.exchange(*place, ASK)
    assert (reply.body, reply.complete) == (b"one", False)


async def test_breaking_off_before_anything_was_sent_leaves_nothing() -> None:
    async def work(client: HttpClient) -> None:
        await client.break_off("upstream_broken")
        await client.send(200, "OK", NO_HEADERS, (), b"late")

    async with serving(work) as place:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await raw.exchange(*place, ASK)


async def test_a_client_that_hangs_up_is_gone_at_once_and_once() -> None:
    """What is written then goes nowhere, raises nothing, and is not taken for delivered."""
    calls = []
    gone = asyncio.Event()
    delivered = []

    async def work(client: HttpClient) -> None:
        def note() -> None:
            calls.append(client.gone)
            gone.set()

        client.on_gone(note)
        await client.start(200, "OK", HEADERS, (), sized=False)
        await gone.wait()
        client.hang_up()
        await client.write(b"one")
        delivered.append(await client.finish())
        await client.break_off("upstream_broken")

    async with serving(work) as place:
        here = connected(place)
        # the head has come, so the exchange runs
        assert await asyncio.to_thread(here.recv, 9) == b"HTTP/1.1 "
        here.close()
    assert calls == [True]
    assert delivered == [False]


async def test_a_client_that_went_before_anyone_asked_is_said_to_be_gone() -> None:
    calls = []
    asked = asyncio.Event()
    delivered = []

    async def work(client: HttpClient) -> None:
        asked.set()
        first = asyncio.Event()
        client.on_gone(first.set)
        await first.wait()
        client.on_gone(lambda: calls.append("late"))
        delivered.append(await client.send(200, "OK", HEADERS, (), b"said"))

    async with serving(work) as place:
        here = connected(place)
        await asked.wait()
        here.close()
    assert calls == ["late"], "who asks late is told at once"
    assert delivered == [False]


async def test_a_client_that_takes_nothing_counts_as_gone() -> None:
    wrote = []
    calls = []

    async def work(client: HttpClient) -> None:
        client.on_gone(lambda: calls.append("gone"))
        await client.start(200, "OK", HEADERS, (), sized=False)
        while not client.gone:
            await client.write(MIB)
            wrote.append(len(MIB))
        assert not await client.finish()

    async with serving(work, write_timeout_s=0.2) as place:
        here = connected(place)
    here.close()
    assert calls == ["gone"]
    assert sum(wrote) < 64 << 20, "what it does not take is not kept"


async def test_a_whole_reply_that_nobody_takes_is_not_delivered() -> None:
    delivered = []

    async def work(client: HttpClient) -> None:
        delivered.append(await client.send(200, "OK", HEADERS, (), MIB * 32))

    async with serving(work, write_timeout_s=0.2) as place:
        here = connected(place)
    here.close()
    assert delivered == [False]


async def test_a_client_that_is_kept_waiting_is_not_to_blame() -> None:
    """The time between two writes is the upstream's."""
    finished = []

    async def work(client: HttpClient) -> None:
        await client.start(200, "OK", HEADERS, (), sized=False)
        for _ in range(3):
            pause = asyncio.Event()
            asyncio.get_running_loop().call_later(0.15, pause.set)
            await pause.wait()
            await client.write(b"x")
        finished.append(await client.finish())

    async with serving(work, write_timeout_s=0.1) as place:
        reply = await raw.exchange(*place, ASK)
    assert (reply.body, reply.complete, finished) == (b"xxx", True, [True])
