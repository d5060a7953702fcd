"""How long a client may take nothing, or send nothing."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web


class Patience:
    """Cuts a client off that takes nothing for too long. One timer for a whole reply, so that a write costs none."""

    __slots__ = ("_limit_s", "_loop", "_request", "_since", "_timer")

    def __init__(self, request: web.Request, limit_s: float) -> None:
        self._request = request
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._timer = self._loop.call_later(limit_s, self._look)

    def __enter__(self) -> None:
        self._since = self._loop.time()

    def __exit__(self, *_: object) -> None:
        self._since = None

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left = self._limit_s if self._since is None else self._since + self._limit_s - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif self._request.transport is not None:
            self._request.transport.abort()


SLOWEST_BYTES_PER_S = 1024
"""A body may take longer than a pause by so much: who sends a byte now and then is not heard for ever."""


async def arriving(request: web.Request, limit_s: float) -> AsyncIterator[bytes]:
    """The pieces of a body as they come. A client that sends nothing for `limit_s`, or makes its reader wait longer
    than that by more than its bytes excuse, is cut off, which cancels its handler.

    Raises what aiohttp raises for a body that breaks off: ConnectionError, RequestPayloadError."""
    content = request.content
    if content.is_eof():
        if data := content.read_nowait():
            yield data
        return
    loop = asyncio.get_running_loop()
    patience = Patience(request, limit_s)
    left_s = limit_s
    try:
        while True:
            asked = loop.time()
            with patience:
                data = await content.readany()
            if not data:
                return
            left_s += len(data) / SLOWEST_BYTES_PER_S - (loop.time() - asked)
            if left_s < 0 and request.transport is not None:
                request.transport.abort()
            yield data
    finally:
        patience.end()
