"""The only joiner: settings -> store, upstream, policies, dialects -> the two listeners; and their orderly end."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from proxy.dialects import DIALECTS, generates
from proxy.dialects.chat import CHAT
from proxy.dialects.responses.api import RESPONSES
from proxy.dialects.responses.native import NATIVE
from proxy.dialects.responses.native.translation import NATIVE_RESPONSES
from proxy.echo import start_echo
from proxy.errors import SettingsError, traced
from proxy.exchange.house import House
from proxy.exchange.lines import KEEP_S
from proxy.exchange.tenant import Tenants
from proxy.observe.log import Log
from proxy.policy import Policies, unsearchable
from proxy.resources import notes
from proxy.resources.asides import Asides
from proxy.resources.completions import Completions
from proxy.resources.conversations import Conversations
from proxy.resources.responses import Responses
from proxy.resources.runs import Runs
from proxy.server.admin import Admin, hindrance
from proxy.server.admission import Admission
from proxy.server.handler import Handler
from proxy.server.listen import listen, shown
from proxy.server.passthrough import Relay
from proxy.server.room import room
from proxy.server.routes import admin_app, client_app
from proxy.server.stored import Stored
from proxy.settings import Settings
from proxy.stores import is_shared, open_store
from proxy.stores.contract import Store
from proxy.stores.retention import sweep
from proxy.tokens import vocabulary
from proxy.upstream.client import UpstreamClient

SWEEP_EVERY_S = 5.0
STOPPING = "stopping: running exchanges may end"
GC_THRESHOLD = 20_000
"""Objects made between two collections: cycles are rare here, and a look for them costs more than they do."""


class Running(NamedTuple):
    """What was started."""

    house: House
    listen: tuple[str, int]
    """Where it really listens: a port 0 in the settings has become a number."""
    admin: tuple[str, int]


async def serve(settings: Settings, policies: Policies) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status. Raises SettingsError before anything is served."""
    async with running(settings, policies) as here:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGINT, stop.set)
        loop.add_signal_handler(signal.SIGHUP, _reload, here.house, settings)
        settle()
        # whoever reads this may send a signal at once
        say(start_line(settings, policies, here.listen, here.admin))
        await stop.wait()
        say(STOPPING)
    return 0


@asynccontextmanager
async def running(
    settings: Settings, policies: Policies, *, shared: bool = False, keep_s: float = KEEP_S
) -> AsyncIterator[Running]:
    """Everything, started in the order in which it is needed and ended in the other order: no new connections, running
    exchanges end (bounded), the store commits and closes. Raises SettingsError.

    `shared`: as one of several processes on the same address, which have one admin listener elsewhere. `keep_s`: see
    `House`."""
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
        house = House(
            store,
            upstream,
            policies,
            observe=log.exchange,
            broke=lambda error: say(traced(error)),
            max_queue=settings.max_queue,
            shared=shared or is_shared(settings.store),
            keep_s=keep_s,
        )
        if house.lines is not None:
            house.lines.open()
            stack.push_async_callback(house.lines.close)
        stack.push_async_callback(house.reflections.close)
        sweeper = asyncio.create_task(sweep(store, SWEEP_EVERY_S, say))
        stack.push_async_callback(_cancelled, sweeper)
        preload = asyncio.create_task(asyncio.to_thread(vocabulary.preload))
        stack.push_async_callback(_awaited, preload)
        stored = await _stored(settings, house, stack)
        handler = Handler(
            house=house,
            relay=Relay(upstream, timeout_s=settings.idle_timeout_s),
            tenants=Tenants(settings.tenant, settings.api_keys, await store.secret()),
            dialects=DIALECTS,
            generates=generates,
            stored=stored,
            completions=Completions(house, CHAT, say) if settings.stored_completions else None,
            log=log,
            say=say,
            upstream_api_key=settings.upstream_api_key,
            max_body_bytes=settings.max_body_bytes,
            idle_timeout_s=settings.idle_timeout_s,
            admission=Admission(settings.max_exchanges),
        )
        admin = settings.admin
        if not shared:
            office = admin_app(Admin(lambda: hindrance(house)))
            admin = await listen(office, settings.admin, "--admin", stack, stop_timeout_s=1.0)
        stack.push_async_callback(handler.close)
        bound = await listen(
            client_app(handler),
            settings.listen,
            "--listen",
            stack,
            stop_timeout_s=settings.stop_timeout_s,
            take_timeout_s=settings.idle_timeout_s,
            most=room(settings.max_exchanges),
            shared=shared,
        )
        loop = asyncio.get_running_loop()
        # called first of all: those whose clients wait and those whose clients have gone share one bound
        stack.callback(lambda: handler.stop_by(loop.time() + settings.stop_timeout_s))
        yield Running(house, bound, admin)


async def _stored(settings: Settings, house: House, stack: AsyncExitStack) -> Stored | None:
    """The Responses and Conversations APIs; None where they pass through."""
    if settings.responses == "off":
        return None

    dialect, api = (NATIVE, NATIVE_RESPONSES) if settings.responses == "native" else (CHAT, RESPONSES)

    def failed(state: bytes) -> bytes:
        return notes.failed(state, api, "The process that made this response died.")

    runs = Runs(
        house.store,
        log_s=settings.resume_for_s,
        shared=house.lines is not None,
        failed=failed,
        say=say,
        broke=house.broke,
    )
    runs.open()
    stack.push_async_callback(runs.close)
    responses = Responses(house, dialect, api, runs)
    conversations = Conversations(house, dialect, api, responses)
    return Stored(responses, conversations, Asides(house, dialect, api, responses))


def settle() -> None:
    """What was made so far stays: the collector need not look at it again and again, nor run for each few requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def start_line(settings: Settings, policies: Policies, bound: tuple[str, int], admin: tuple[str, int]) -> str:
    workers = f", {settings.workers} workers" if settings.workers > 1 else ""
    return (
        f"remora listens on http://{shown(bound)} (admin http://{shown(admin)}), upstream {settings.upstream}, "
        f"store {_without_user(settings.store)}, policies {', '.join(policies.names)}{workers}"
    )


def load(settings: Settings, store: Store) -> Policies:
    """The policies as they are in their files now. Raises SettingsError."""
    policies = Policies.load(settings.policies)
    _check(policies, store)
    return policies


def _check(policies: Policies, store: Store) -> None:
    """Raises SettingsError for policies that need more than the store can do."""
    if lines := unsearchable(policies, store.searches):
        raise SettingsError("\n".join(lines))


def _reload(house: House, settings: Settings) -> None:
    try:
        house.policies = load(settings, house.store)
        say(reloaded(house.policies))
    except SettingsError as error:
        say(not_reloaded(error))


def reloaded(policies: Policies) -> str:
    return f"policies reloaded: {', '.join(policies.names)}"


def not_reloaded(error: SettingsError) -> str:
    return f"policies not reloaded, the old ones stay: {error}"


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


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
