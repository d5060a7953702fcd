"""Binds a listener: how many clients it hears, how much each may send at first, and how long it may do nothing."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TypedDict, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy.errors import SettingsError
from proxy.server.room import Door

KEEP_ALIVE_S = 75.0
"""For a whole head to come, on a new connection and after each reply."""
LINE_AT_MOST = 16_384
"""Bytes of a request line or a header line ..."""
HEADERS_AT_MOST = 128
"""... of which there may be so many."""
LOOKS = 4
"""In the time that a client may take nothing, it is looked so often whether it does."""
CONNECTIONS = 256
"""Open at once, where nothing else is said."""

_silent = logging.getLogger("proxy.silent")
"""For aiohttp, which would log requests that are no HTTP with their bytes, credentials included. What matters is told
by the handler itself."""
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class _Limits(TypedDict):
    access_log: None
    logger: logging.Logger
    auto_decompress: bool
    keepalive_timeout: float
    max_line_size: int
    max_field_size: int
    max_headers: int


_LIMITS: _Limits = {
    "access_log": None,
    "logger": _silent,
    "auto_decompress": False,
    "keepalive_timeout": KEEP_ALIVE_S,
    "max_line_size": LINE_AT_MOST,
    "max_field_size": LINE_AT_MOST,
    "max_headers": HEADERS_AT_MOST,
}


async def listen(
    app: web.Application,
    address: tuple[str, int],
    flag: str,
    stack: AsyncExitStack,
    *,
    stop_timeout_s: float,
    take_timeout_s: float = KEEP_ALIVE_S,
    most: int = CONNECTIONS,
    shared: bool = False,
) -> tuple[str, int]:
    """Serves `app` on `address` until `stack` ends; returns the address that was bound.

    A client that takes nothing of what waits for it for `take_timeout_s` is cut off, also when its reply is complete
    and only waits in the connection. `most`: connections that may be open; one more is told so and closed. `shared`:
    other processes listen there as well, and the system deals the connections out among them. Raises SettingsError that
    names `flag`."""
    runner = web.AppRunner(app, handler_cancellation=True, **_LIMITS, shutdown_timeout=stop_timeout_s)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    server = runner.server
    assert server is not None
    watch = Watch(take_timeout_s, Door(most))
    stack.callback(watch.end)
    loop = asyncio.get_running_loop()
    site = _Site(runner, lambda: _Connection(server, watch, loop), address, shared=shared)
    try:
        await site.start()
    except OSError as error:
        raise unusable(flag, address, error) from None
    bound: tuple[str, int] = runner.addresses[0][:2]
    return bound


class Watch:
    """Cuts connections off whose clients take nothing. Looked at a few times in the time that they may, all at once, so
    that a request costs nothing. Who is too many is sent to the `door`."""

    def __init__(self, limit_s: float, door: Door) -> None:
        self._limit_s = limit_s
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._open: set[asyncio.Transport] = set()
        self._waiting: dict[asyncio.Transport, tuple[int, float]] = {}
        """How many bytes wait, and since when it is so many."""
        self._timer = self._loop.call_later(limit_s / LOOKS, self._look)

    def add(self, transport: asyncio.Transport) -> bool:
        """False, and it is taken care of, if it is one too many."""
        if len(self._open) >= self._door.most:
            self._door.refuse(transport)
            return False
        self._open.add(transport)
        return True

    def remove(self, transport: asyncio.Transport) -> None:
        self._open.discard(transport)
        self._waiting.pop(transport, None)

    def end(self) -> None:
        self._timer.cancel()
        self._door.close()

    def _look(self) -> None:
        now = self._loop.time()
        for transport in tuple(self._open):
            size = transport.get_write_buffer_size()
            before, since = self._waiting.get(transport, (0, now))
            if not size:
                self._waiting.pop(transport, None)
            elif size != before:
                self._waiting[transport] = size, now
            elif now - since >= self._limit_s:
                transport.abort()
        self._timer = self._loop.call_later(self._limit_s / LOOKS, self._look)


class _Connection(RequestHandler):
    """aiohttp forgets a connection that it has closed; the system keeps it until the client has taken the rest."""

    __slots__ = ("_transport", "_watch")

    def __init__(self, server: web.Server, watch: Watch, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, **_LIMITS)  # type: ignore[arg-type] # its `if access_log` takes None
        self._watch = watch

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # a cast: uvloop's transports have its methods, but are none by inheritance
        self._transport = cast("asyncio.Transport", transport)
        if self._watch.add(self._transport):
            super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._watch.remove(self._transport)
        super().connection_lost(exc)


class _Site(web.BaseSite):
    """An address with connections of our own kind."""

    def __init__(
        self,
        runner: web.AppRunner,
        connection: Callable[[], RequestHandler],
        address: tuple[str, int],
        *,
        shared: bool,
    ) -> None:
        super().__init__(runner)
        self._connection = connection
        self._address = address
        self._shared = shared

    @property
    def name(self) -> str:
        return f"http://{shown(self._address)}"

    async def start(self) -> None:
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            self._connection, *self._address, reuse_port=self._shared or None
        )


def unusable(flag: str, address: tuple[str, int], error: OSError) -> SettingsError:
    why = (error.strerror or str(error)).lower()
    return SettingsError(f"{flag} {shown(address)}: {why}; choose another address")


def shown(address: tuple[str, int]) -> str:
    """`127.0.0.1:8080`, `[::1]:8080`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
