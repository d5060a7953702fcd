"""WebSockets through the proxy: message for message, pings, closes and breaks included."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from tests.support.proxy import passing
from tests.support.raw import exchange, request

HANDSHAKE = [
    ("Host", "h"), ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]  # fmt: skip


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
            URL(f"{url}/v1/realtime?model=x%2Fy", encoded=True),
            autoping=False,
            max_msg_size=0,
            headers=headers,
            compress=15,
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
        assert "Sec-WebSocket-Extensions" not in handshake.headers  # agreed hop by hop
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


async def test_the_reply_to_a_handshake_carries_the_upstream_s_headers_and_no_others() -> None:
    async with sockets() as (_, url, _http):
        host, port = url.removeprefix("http://").split(":")
        got = await exchange(host, int(port), request("GET", "/", HANDSHAKE))
        assert got.status == 101
        assert {name.lower() for name, _ in got.headers} == {
            "upgrade", "connection", "sec-websocket-accept", "set-cookie", "date", "server"
        }  # fmt: skip
        assert got.get("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
