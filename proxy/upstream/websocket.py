"""A WebSocket to the upstream: opened with the client's headers, then message by message, pings and closes included."""

from contextvars import ContextVar
from typing import Final

import aiohttp
from aiohttp import WSMsgType
from aiohttp.client_middlewares import ClientHandlerType
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.errors import UpstreamBroken, UpstreamReplyTooLarge
from proxy.upstream.contract import Frame

MAX_MESSAGE_BYTES: Final = 32 << 20
_MAX_REFUSAL_BYTES: Final = 1 << 20
_CLOSE_S: Final = 10.0
_NO_CODE: Final = 1005
_BROKEN: Final = 1006

_HANDSHAKE = ("key", "version", "extensions", "protocol", "accept")


class Socket:
    """Implements `UpstreamSocket`. Messages are not compressed on this hop."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[bool], reply: aiohttp.ClientResponse, host: str) -> None:
        self.protocol = socket.protocol
        self.headers: CIMultiDictProxy[str] = reply.headers
        self._socket = socket
        self._reply = reply
        self._host = host

    async def receive(self) -> Frame:
        message = await self._socket.receive()
        match message.type:
            case WSMsgType.TEXT:
                return Frame("text", message.data)
            case WSMsgType.BINARY:
                return Frame("binary", message.data)
            case WSMsgType.PING:
                return Frame("ping", bytes(message.data))
            case WSMsgType.PONG:
                return Frame("pong", bytes(message.data))
            case WSMsgType.CLOSE:
                return Frame("close", (message.extra or "").encode(), message.data or _NO_CODE)
            case WSMsgType.ERROR:
                # what the upstream sent was no WebSocket message, or too big: aiohttp has closed with this code
                return Frame("close", b"", getattr(message.data, "code", _BROKEN))
            case _:
                return Frame("close", b"", _BROKEN)

    async def send(self, frame: Frame) -> None:
        try:
            match frame.kind:
                case "text":
                    await self._socket.send_frame(frame.data, WSMsgType.TEXT)
                case "binary":
                    await self._socket.send_frame(frame.data, WSMsgType.BINARY)
                case "ping":
                    await self._socket.ping(frame.data)
                case "pong":
                    await self._socket.pong(frame.data)
                case "close":
                    if frame.code == _BROKEN:
                        self._reply.close()
                    else:
                        # a close without a code cannot be sent by aiohttp; 1000 says the same
                        code = 1000 if frame.code == _NO_CODE else frame.code
                        await self._socket.close(code=code, message=frame.data)
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamBroken(f"The WebSocket to the upstream {self._host} broke.") from error

    async def close(self) -> None:
        self._reply.close()


class Refusal:
    """Implements `UpstreamReply`: the upstream's answer to a handshake that it refused, whole."""

    complete = True

    def __init__(self, reply: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = reply.status
        self.reason = reply.reason or ""
        self.headers: CIMultiDictProxy[str] = reply.headers
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        """Nothing is held."""


class Connector:
    """Opens WebSockets over a session of its own, which shares the connections of another."""

    def __init__(self, connector: aiohttp.BaseConnector, timeout: aiohttp.ClientTimeout, host: str) -> None:
        self._host = host
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            middlewares=(_keep_reply,),
        )

    async def open(self, url: URL, headers: CIMultiDict[str], protocols: tuple[str, ...]) -> Socket | Refusal:
        """Raises aiohttp's errors."""
        # one spelling for a name: aiohttp takes two spellings of one for a replacement
        travelling = CIMultiDict((name.lower(), value) for name, value in headers.items())
        for name in _HANDSHAKE:
            travelling.popall(f"sec-websocket-{name}", None)
        answer = _Answer()
        token = _answer.set(answer)
        try:
            socket = await self._session.ws_connect(
                url,
                headers=travelling,
                protocols=protocols,
                autoclose=False,
                autoping=False,
                decode_text=False,
                max_msg_size=MAX_MESSAGE_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
            )
        except aiohttp.WSServerHandshakeError:
            if answer.refusal is not None:
                return answer.refusal
            raise
        finally:
            _answer.reset(token)
        if answer.opened is None:
            raise RuntimeError("aiohttp opened a WebSocket past its middlewares")
        return Socket(socket, answer.opened, self._host)

    async def close(self) -> None:
        await self._session.close()


class _Answer:
    """The upstream's answer to the handshake that is under way."""

    opened: aiohttp.ClientResponse | None = None
    refusal: Refusal | None = None


_answer: ContextVar[_Answer] = ContextVar("_answer")


async def _keep_reply(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """Keeps the reply to the handshake, which `ws_connect` throws away: what an upstream says when it refuses is what
    the client needs to know."""
    reply = await handler(request)
    if reply.status == 101:
        _answer.get().opened = reply
        return reply
    parts, size = [], 0
    while part := await reply.content.readany():
        parts.append(part)
        if (size := size + len(part)) > _MAX_REFUSAL_BYTES:
            reply.close()
            raise UpstreamReplyTooLarge("The upstream refused a WebSocket with a reply of more than 1 MiB.")
    _answer.get().refusal = Refusal(reply, b"".join(parts))
    return reply
