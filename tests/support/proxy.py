"""The smallest application that passes everything through: the real Relay and client, nothing else of the house."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from proxy.errors import ProxyError
from proxy.exchange.record import ExchangeRecord
from proxy.server.passthrough import Relay, add_nothing
from proxy.upstream.client import UpstreamClient
from proxy.upstream.headers import to_upstream
from tests.support.upstream import ScriptedUpstream


@dataclass
class Passing:
    host: str
    port: int
    records: list[ExchangeRecord] = field(default_factory=list)
    """Of the requests that are over, however they ended."""
    over: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def ended(self, count: int) -> None:
        """Waits until so many requests are over."""
        async with asyncio.timeout(10), self.over:
            await self.over.wait_for(lambda: len(self.records) >= count)


@asynccontextmanager
async def passing(
    upstream: str,
    *,
    connect_timeout_s: float = 5.0,
    first_byte_timeout_s: float = 10.0,
    idle_timeout_s: float = 10.0,
    write_timeout_s: float = 10.0,
) -> AsyncIterator[Passing]:
    client = UpstreamClient(
        upstream,
        connect_timeout_s=connect_timeout_s,
        first_byte_timeout_s=first_byte_timeout_s,
        idle_timeout_s=idle_timeout_s,
    )
    await client.open()
    relay = Relay(client, timeout_s=write_timeout_s)
    here = Passing("127.0.0.1", 0)

    async def handle(request: web.Request) -> web.StreamResponse:
        record = ExchangeRecord(at_ms=0, method=request.method, path=request.path, kind="pass")
        try:
            headers = to_upstream(request.headers, frozenset({"x-session-id"}))
            return await relay.relay(request, target=request.raw_path, headers=headers, record=record)
        except ProxyError as error:
            record.error = error.code
            return web.Response(status=error.status, text=error.message, headers={"X-Remora-Error": error.code})
        finally:
            here.records.append(record)
            async with here.over:
                here.over.notify_all()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    app.on_response_prepare.append(add_nothing)
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, handler_cancellation=True, auto_decompress=False, shutdown_timeout=1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, here.host, 0).start()
        here.port = runner.addresses[0][1]
        yield here
    finally:
        await runner.cleanup()
        await client.close()


@asynccontextmanager
async def both(**options: float) -> AsyncIterator[tuple[ScriptedUpstream, Passing]]:
    async with ScriptedUpstream() as upstream, passing(upstream.url, **options) as proxy:
        yield upstream, proxy
