"""The only joiner: settings -> store, upstream, policies, dialects -> the two listeners; and their orderly end."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from aiohttp import web

from proxy.dialects import DIALECTS, generates
from proxy.dialects.chat import CHAT
from proxy.dialects.responses.api import RESPONSES
from proxy.echo import start_echo
from proxy.errors import SettingsError, traced
from proxy.exchange.house import House
from proxy.exchange.tenant import Tenants
from proxy.observe.log import Log
from proxy.policy import Policies, unsearchable
from proxy.resources.responses import Responses
from proxy.server.admin import Admin
from proxy.server.handler import Handler
from proxy.server.passthrough import Relay
from proxy.server.routes import admin_app, client_app
from proxy.settings import Settings
from proxy.stores import open_store
from proxy.stores.contract import Store
from proxy.stores.retention import sweep
from proxy.tokens import vocabulary
from proxy.upstream.client import UpstreamClient

_silent = logging.getLogger("proxy.silent")
"""For aiohttp, which would log requests that are no HTTP with their bytes, credentials included. What matters is told
by the handler itself."""
_silent.addHandler(logging.NullHandler())
_silent.propagate = False

SWEEP_EVERY_S = 5.0
KEEP_ALIVE_S = 75.0
GC_THRESHOLD = 20_000
"""Objects made between two collections: cycles are rare here, and a look for them costs more than they do."""
LINE_AT_MOST = 16_384
"""Bytes of a request line or a header line."""


class Running(NamedTuple):
    """What was started."""

    house: House
    listen: tuple[str, int]
    """Where it really listens: a port 0 in the settings has become a number."""
    admin: tuple[str, int]


async def serve(settings: Settings, policies: Policies) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status. Raises SettingsError before anything is served."""
    async with running(settings, policies) as here:
        say(
            f"remora listens on http://{_host(here.listen)} (admin http://{_host(here.admin)}), "
            f"upstream {settings.upstream}, store {_without_user(settings.store)}, policies {', '.join(policies.names)}"
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGINT, stop.set)
        loop.add_signal_handler(signal.SIGHUP, _reload, here.house, settings)
        # what was made so far stays: the collector need not look at it again and again, nor run for each few requests
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        await stop.wait()
        say("stopping: running exchanges may end")
    return 0


@asynccontextmanager
async def running(settings: Settings, policies: Policies) -> AsyncIterator[Running]:
    """Everything, started in the order in which it is needed and ended in the other order: no new connections, running
    exchanges end (bounded), the store commits and closes. Raises SettingsError."""
    async with AsyncExitStack() as stack:
        log = Log()
        stack.push_async_callback(log.close)
        store = open_store(settings.store)
        _check(policies, store)
        await store.open()
        stack.push_async_callback(store.close)
        upstream_url = settings.upstream
        if upstream_url == "echo:":
            echo = await start_echo("127.0.0.1", 0)
            stack.push_async_callback(echo.close)
            upstream_url = echo.url
        upstream = UpstreamClient(
            upstream_url,
            connect_timeout_s=settings.connect_timeout_s,
            first_byte_timeout_s=settings.first_byte_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
        )
        await upstream.open()
        stack.push_async_callback(upstream.close)
        house = House(store, upstream, policies, observe=log.exchange, broke=lambda error: say(traced(error)))
        stack.push_async_callback(house.reflections.close)
        sweeper = asyncio.create_task(sweep(store, SWEEP_EVERY_S, say))
        stack.push_async_callback(_cancelled, sweeper)
        preload = asyncio.create_task(asyncio.to_thread(vocabulary.preload))
        stack.push_async_callback(_awaited, preload)
        handler = Handler(
            house=house,
            relay=Relay(upstream),
            tenants=Tenants(settings.tenant, settings.api_keys, await store.secret()),
            dialects=DIALECTS,
            generates=generates,
            responses=Responses(house, CHAT, RESPONSES) if settings.responses == "translate" else None,
            log=log,
            say=say,
            upstream_api_key=settings.upstream_api_key,
            max_body_bytes=settings.max_body_bytes,
            write_timeout_s=settings.idle_timeout_s,
        )
        admin = await _listen(admin_app(Admin(house)), settings.admin, "--admin", stack, stop_timeout_s=1.0)
        stack.push_async_callback(handler.close)
        app = client_app(handler)
        listen = await _listen(app, settings.listen, "--listen", stack, stop_timeout_s=settings.stop_timeout_s)
        loop = asyncio.get_running_loop()
        # called first of all: those whose clients wait and those whose clients have gone share one bound
        stack.callback(lambda: handler.stop_by(loop.time() + settings.stop_timeout_s))
        yield Running(house, listen, admin)


async def _listen(
    app: web.Application, address: tuple[str, int], flag: str, stack: AsyncExitStack, *, stop_timeout_s: float
) -> tuple[str, int]:
    """Returns the address that was bound."""
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
    host, port = address
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise SettingsError(f"{flag} {_host(address)}: {why}; choose another address") from None
    bound: tuple[str, int] = runner.addresses[0][:2]
    return bound


def _check(policies: Policies, store: Store) -> None:
    """Raises SettingsError for policies that need more than the store can do."""
    if lines := unsearchable(policies, store.searches):
        raise SettingsError("\n".join(lines))


def _reload(house: House, settings: Settings) -> None:
    try:
        policies = Policies.load(settings.policies)
        _check(policies, house.store)
        house.policies = policies
        say(f"policies reloaded: {', '.join(house.policies.names)}")
    except SettingsError as error:
        say(f"policies not reloaded, the old ones stay: {error}")


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait((task,))


async def _awaited(task: "asyncio.Task[None]") -> None:
    await task


def _without_user(url: str) -> str:
    """A store's URL as it may be shown: what stands before the host may be a password."""
    head, at, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{head}{at}{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}" if at else url


def _host(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
