"""How many connections of clients may be open; one more is answered by 503, whatever it asks, and closed."""

import asyncio
import contextlib
import resource
from collections.abc import Callable

import msgspec

from proxy.errors import Overloaded

EACH = 4
"""Connections for each exchange that may run: clients keep idle ones for their next request."""
OTHER_FILES = 64
"""Descriptors that are left for what is neither a client nor the upstream."""
LEAST = 16
AT_ONCE = 256
"""Connections that wait to be told that they are too many; beyond that they are closed without a word."""
HEAD_S = 1.0
"""For the head of a request that is one too many."""

_HEAD = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n"
    "X-Remora-Error: {}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
)


def room(exchanges: int) -> int:
    """How many connections of clients there is room for, where so many exchanges may run. The process may open as many
    files as the system lets it from here on; each client may need one to the upstream as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # some systems (macOS) name no limit, and refuse to set none
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    files = exchanges * 2 * EACH if soft == resource.RLIM_INFINITY else soft - OTHER_FILES
    return max(min(exchanges * EACH, files // 2), LEAST)


def refusal(most: int) -> bytes:
    """The whole reply."""
    error = Overloaded(
        f"{most} connections are open; close those that are idle, or raise REMORA_MAX_EXCHANGES.", retry_after_s=1
    )
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    body = msgspec.json.encode({"error": told})
    return _HEAD.format(len(body), error.code).encode() + body


class Door:
    """Counts those that wait to be told."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._reply = refusal(most)
        self._waiting: set[Refused] = set()

    def refuse(self, transport: asyncio.Transport) -> None:
        """Takes a new connection over, and ends it soon."""
        if len(self._waiting) >= AT_ONCE:
            transport.set_protocol(asyncio.Protocol())
            transport.abort()
            return
        refused = Refused(transport, self._reply, self._waiting.discard)
        self._waiting.add(refused)
        transport.set_protocol(refused)

    def close(self) -> None:
        for refused in tuple(self._waiting):
            refused.cut()


class Refused(asyncio.Protocol):
    """A connection that is one too many. It is told once its request has come: a connection that is closed with
    something unread is reset, and the client would not see why."""

    def __init__(self, transport: asyncio.Transport, reply: bytes, over: "Callable[[Refused], None]") -> None:
        self._transport = transport
        self._reply = reply
        self._over = over
        self._timer = asyncio.get_running_loop().call_later(HEAD_S, self.cut)

    def data_received(self, _: bytes) -> None:
        reply, self._reply = self._reply, b""
        if reply:
            self._transport.write(reply)
            # the rest of what the client sends is read and dropped, until it has seen this and closes, or is cut off
            self._transport.write_eof()

    def connection_lost(self, _: Exception | None) -> None:
        self._timer.cancel()
        self._over(self)

    def cut(self) -> None:
        self._transport.abort()
