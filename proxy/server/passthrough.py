"""Requests that name no session, relayed untouched, both ways: bytes as they come, in bounded memory."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from aiohttp import web
from multidict import CIMultiDict

from proxy.errors import UpstreamError
from proxy.exchange.record import ExchangeRecord
from proxy.server.patience import Patience, arriving
from proxy.upstream.contract import Download, Frame, Relaying, UpstreamSocket
from proxy.upstream.headers import to_client

_MAX_MESSAGE_BYTES: Final = 32 << 20
_NO_CODE: Final = 1005
_BROKEN: Final = 1006

_ADDED = web.ResponseKey("added", frozenset[str])
_BY_AIOHTTP = ("Content-Type", "Date", "Server")


async def add_nothing(_: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: takes off the headers that aiohttp adds and the upstream did not send."""
    for name in response.get(_ADDED, ()):
        response.headers.popall(name, None)


def relayed(response: web.StreamResponse) -> None:
    """Marks a response, before it is prepared, as one that carries the upstream's headers and no others."""
    headers = response.headers
    if missing := frozenset(name for name in _BY_AIOHTTP if name not in headers):
        response[_ADDED] = missing


class Relay:
    """Relays requests to one upstream. The application must run `add_nothing` on `on_response_prepare`."""

    def __init__(self, upstream: Relaying, *, timeout_s: float = 300.0) -> None:
        """`timeout_s`: a client that takes nothing, or sends nothing of its body, for so long counts as gone."""
        self._upstream = upstream
        self._timeout_s = timeout_s

    async def relay(
        self,
        request: web.Request,
        *,
        target: str,
        headers: CIMultiDict[str],
        record: ExchangeRecord,
        first: Sequence[bytes] = (),
    ) -> web.StreamResponse:
        """Sends the request on and its reply back; WebSockets too. `headers` are those that travel
        (`headers.to_upstream`), credentials exchanged; `first` is what was read of the body already. Fills in
        `status`, `upstream_ms`, `bytes_out` and `error`.

        Raises UpstreamError while nothing was answered yet, BadRequest for a target that is no path. A reply that
        breaks later is cut off for the client as well."""
        if request.method == "GET" and "Upgrade" in request.headers:
            offered = _offered(request)
            # every protocol is taken here: of one that is not, aiohttp logs what was offered, which may hold an API key
            if web.WebSocketResponse(protocols=offered).can_prepare(request):
                return await self._websocket(request, offered, target, headers, record)
        started = time.perf_counter()
        reply = await self._upstream.download(request.method, target, headers, _upload(request, first, self._timeout_s))
        record.upstream_ms = (time.perf_counter() - started) * 1000
        return await _answer(request, reply, record, self._timeout_s)

    async def _websocket(
        self,
        request: web.Request,
        offered: tuple[str, ...],
        target: str,
        headers: CIMultiDict[str],
        record: ExchangeRecord,
    ) -> web.StreamResponse:
        """Opens the same WebSocket to the upstream and relays it message for message until one side closes or breaks;
        then the other is closed with the same code, or broken. A refusal is relayed as it came. A message of more
        than 32 MiB closes the socket with 1009."""
        started = time.perf_counter()
        opened = await self._upstream.open_socket(target, headers, offered)
        record.upstream_ms = (time.perf_counter() - started) * 1000
        if not isinstance(opened, UpstreamSocket):
            return await _answer(request, opened, record, self._timeout_s)
        record.status = 101
        try:
            client = await _accept(request, opened, offered)
            await _both_ways(request, client, opened, record)
        finally:
            await opened.close()
        return client


async def _answer(
    request: web.Request, reply: Download, record: ExchangeRecord, write_timeout_s: float
) -> web.StreamResponse:
    record.status = reply.status
    try:
        headers = to_client(reply.headers)
        if reply.complete:
            return await _at_once(request, reply, headers, record)
        response = web.StreamResponse(status=reply.status, reason=reply.reason, headers=headers)
        relayed(response)
        patience = Patience(request, write_timeout_s)
        try:
            await response.prepare(request)
            while data := await reply.read():
                with patience:
                    await response.write(data)
                record.bytes_out += len(data)
            with patience:
                await response.write_eof()
        except UpstreamError as error:
            record.error = error.code
            cut(request)
        except ConnectionError:
            pass  # the client has gone; aiohttp sees that by itself when it ends the response
        finally:
            patience.end()
        return response
    finally:
        reply.close()


async def _at_once(
    request: web.Request, reply: Download, headers: CIMultiDict[str], record: ExchangeRecord
) -> web.StreamResponse:
    """A reply whose body is here already goes out in one write with its head."""
    body = await reply.read()
    response = web.Response(status=reply.status, reason=reply.reason, headers=headers, body=body)
    if "Content-Length" not in headers and request.version >= (1, 1):
        response.enable_chunked_encoding()
    relayed(response)
    record.bytes_out = len(body)
    return response


def cut(request: web.Request) -> None:
    """Breaks the client's connection so that the client can tell: what was written goes out, the end never does.
    The response may be returned to aiohttp afterwards, which then writes nothing more."""
    transport = request.transport
    if transport is None:
        return
    if request.version < (1, 1):
        # a reply to HTTP/1.0 may have no other end than that of the connection: only a reset tells it from a clean one
        at_once = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        transport.abort()
    else:
        transport.close()


def _upload(request: web.Request, first: Sequence[bytes], timeout_s: float) -> bytes | AsyncIterator[bytes] | None:
    """The client's body on its way up, with the framing that it came in."""
    if not request.body_exists:
        return None
    content = request.content
    if content.is_eof() and "Content-Length" in request.headers:
        return b"".join([*first, content.read_nowait()])
    rest = arriving(request, timeout_s)
    return _parts(first, rest) if first else rest


async def _parts(first: Sequence[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for part in first:
        yield part
    async for part in rest:
        yield part


def _offered(request: web.Request) -> tuple[str, ...]:
    lists = request.headers.getall("Sec-WebSocket-Protocol", ())
    return tuple(name.strip() for names in lists for name in names.split(","))


async def _accept(
    request: web.Request, behind: UpstreamSocket, offered: tuple[str, ...]
) -> "web.WebSocketResponse[bool]":
    protocols = (behind.protocol,) if behind.protocol else ()
    client = web.WebSocketResponse(
        protocols=protocols,
        autoclose=False,
        autoping=False,
        decode_text=False,
        compress=False,
        max_msg_size=_MAX_MESSAGE_BYTES,
    )
    for name, value in to_client(behind.headers).items():
        if not name.lower().startswith("sec-websocket-"):
            client.headers.add(name, value)
    relayed(client)
    if offered and not protocols:
        # see above: aiohttp would log what was offered
        kept = CIMultiDict(request.headers)
        kept.popall("Sec-WebSocket-Protocol")
        request = request.clone(headers=kept)
    await client.prepare(request)
    return client


async def _both_ways(
    request: web.Request, client: "web.WebSocketResponse[bool]", behind: UpstreamSocket, record: ExchangeRecord
) -> None:
    async def up() -> Frame:
        while (frame := _frame(*await client.receive())).kind != "close":
            await behind.send(frame)
        return frame

    async def down() -> Frame:
        while (frame := await behind.receive()).kind != "close":
            await _send(request, client, frame)
            record.bytes_out += len(frame.data)
        return frame

    ways = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        results = await asyncio.gather(*ways, return_exceptions=True)
    last = next((result for result in results if isinstance(result, Frame)), Frame("close", b"", _BROKEN))
    for result in results:
        # a side that does not take messages any more has broken, and the other is told so below; the rest are bugs
        if isinstance(result, Exception) and not isinstance(result, UpstreamError | ConnectionError):
            raise result
    # each side is sent the close: the one that began it as the answer that it waits for
    await asyncio.gather(_send(request, client, last), behind.send(last), return_exceptions=True)


def _frame(kind: web.WSMsgType, data: Any, extra: str | None) -> Frame:  # noqa: ANN401 - as aiohttp types it
    match kind:
        case web.WSMsgType.TEXT:
            return Frame("text", data)
        case web.WSMsgType.BINARY:
            return Frame("binary", data)
        case web.WSMsgType.PING:
            return Frame("ping", bytes(data))
        case web.WSMsgType.PONG:
            return Frame("pong", bytes(data))
        case web.WSMsgType.CLOSE:
            return Frame("close", (extra or "").encode(), data or _NO_CODE)
        case web.WSMsgType.ERROR:
            # what the client sent was no WebSocket message, or too big: aiohttp has closed with this code
            return Frame("close", b"", getattr(data, "code", _BROKEN))
        case _:
            return Frame("close", b"", _BROKEN)


async def _send(request: web.Request, client: "web.WebSocketResponse[bool]", frame: Frame) -> None:
    match frame.kind:
        case "text":
            await client.send_frame(frame.data, web.WSMsgType.TEXT)
        case "binary":
            await client.send_frame(frame.data, web.WSMsgType.BINARY)
        case "ping":
            await client.ping(frame.data)
        case "pong":
            await client.pong(frame.data)
        case "close" if frame.code == _BROKEN:
            cut(request)
        case "close":
            # a close without a code cannot be sent by aiohttp; 1000 says the same
            await client.close(code=1000 if frame.code == _NO_CODE else frame.code, message=frame.data)
