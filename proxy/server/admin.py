"""The second listener: is the process alive, and can it serve."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.errors import StoreUnavailable
from proxy.exchange.house import House

STORE_ANSWERS_S = 2.0


async def hindrance(house: House) -> str:
    """Why no request can be served now, in one line; "" while they can. Answers within `STORE_ANSWERS_S`."""
    if house.turnstile.stopping:
        return "stopping"
    try:
        async with asyncio.timeout(STORE_ANSWERS_S):
            await house.store.ping()
    except TimeoutError:
        return "the store does not answer"
    except StoreUnavailable as error:
        return error.message
    return ""


class Admin:
    def __init__(self, hindrance: Callable[[], Awaitable[str]]) -> None:
        """`hindrance` tells why requests cannot be served, "" while they can."""
        self._hindrance = hindrance

    async def healthz(self, _: web.Request) -> web.Response:
        """200 while the process runs."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """200 while requests can be served, else 503 with the reason."""
        reason = await self._hindrance()
        return web.json_response({"status": reason or "ready"}, status=503 if reason else 200)
