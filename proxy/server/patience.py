"""How long a client may take nothing."""

import asyncio

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
