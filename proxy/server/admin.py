"""The second listener: is the process alive, and can it serve."""

import asyncio

from aiohttp import web

from proxy.errors import StoreUnavailable
from proxy.exchange.house import House

STORE_ANSWERS_S = 2.0


class Admin:
    def __init__(self, house: House) -> None:
        self._house = house

    async def healthz(self, _: web.Request) -> web.Response:
        """200 while the process runs."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """200 while requests can be served; 503 with the reason while it stops or the store does not answer."""
        if self._house.turnstile.stopping:
            return web.json_response({"status": "stopping"}, status=503)
        try:
            async with asyncio.timeout(STORE_ANSWERS_S):
                await self._house.store.ping()
        except TimeoutError:
            return web.json_response({"status": "the store does not answer"}, status=503)
        except StoreUnavailable as error:
            return web.json_response({"status": error.message}, status=503)
        return web.json_response({"status": "ready"})
