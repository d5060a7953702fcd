"""Binds a listener: how much a client may send before it is heard, and how long it may stay silent."""

import logging
from contextlib import AsyncExitStack

from aiohttp import web

from proxy.errors import SettingsError

KEEP_ALIVE_S = 75.0
"""For a whole head to come, on a new connection and after each reply."""
LINE_AT_MOST = 16_384
"""Bytes of a request line or a header line; of header lines there may be 128."""

_silent = logging.getLogger("proxy.silent")
"""For aiohttp, which would log requests that are no HTTP with their bytes, credentials included. What matters is told
by the handler itself."""
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


async def listen(
    app: web.Application,
    address: tuple[str, int],
    flag: str,
    stack: AsyncExitStack,
    *,
    stop_timeout_s: float,
    shared: bool = False,
) -> tuple[str, int]:
    """Serves `app` on `address` until `stack` ends; returns the address that was bound. `shared`: other processes
    listen there as well, and the system deals the connections out among them. Raises SettingsError that names `flag`.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_silent,
        handle_signals=False,
        handler_cancellation=True,
        auto_decompress=False,
        keepalive_timeout=KEEP_ALIVE_S,
        max_line_size=LINE_AT_MOST,
        max_field_size=LINE_AT_MOST,
        shutdown_timeout=stop_timeout_s,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, *address, reuse_port=shared or None).start()
    except OSError as error:
        raise unusable(flag, address, error) from None
    bound: tuple[str, int] = runner.addresses[0][:2]
    return bound


def unusable(flag: str, address: tuple[str, int], error: OSError) -> SettingsError:
    why = (error.strerror or str(error)).lower()
    return SettingsError(f"{flag} {shown(address)}: {why}; choose another address")


def shown(address: tuple[str, int]) -> str:
    """`127.0.0.1:8080`, `[::1]:8080`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
