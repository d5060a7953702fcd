"""The client of an exchange, on an aiohttp connection."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import CIMultiDict

from proxy.exchange.contract import Headers, Marks
from proxy.server.passthrough import cut, relayed
from proxy.server.patience import Patience
from proxy.upstream.headers import to_client


class HttpClient:
    """Implements `proxy.exchange.contract.Client`."""

    def __init__(self, request: web.Request, write_timeout_s: float) -> None:
        self._request = request
        self._patience = Patience(request, write_timeout_s)
        self._callback: Callable[[], None] | None = None
        self._gone = False
        self.response: web.StreamResponse | None = None

    @property
    def gone(self) -> bool:
        return self._gone

    @property
    def started(self) -> bool:
        return self.response is not None

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        if self._gone:
            callback()

    def hang_up(self) -> None:
        """The client has gone."""
        if not self._gone:
            self._gone = True
            if self._callback is not None:
                self._callback()

    async def send(self, status: int, reason: str, headers: Headers, marks: Marks, body: bytes) -> bool:
        kept = _with_marks(headers, marks)
        kept.popall("Content-Length", None)
        response = web.Response(status=status, reason=reason or None, headers=kept, body=body)
        return await self._begin(response) and await self._guarded(response.write_eof())

    async def start(self, status: int, reason: str, headers: Headers, marks: Marks, *, sized: bool) -> None:
        kept = _with_marks(headers, marks)
        if not sized:
            kept.popall("Content-Length", None)
        await self._begin(web.StreamResponse(status=status, reason=reason or None, headers=kept))

    async def write(self, data: bytes) -> None:
        if data and not self._gone and self.response is not None:
            await self._guarded(self.response.write(data))

    async def finish(self) -> bool:
        return self.response is not None and not self._gone and await self._guarded(self.response.write_eof())

    def end(self) -> None:
        """Nothing more will be written."""
        self._patience.end()

    async def break_off(self, code: str) -> None:  # noqa: ARG002 - HTTP cannot say why
        cut(self._request)

    async def _begin(self, response: web.StreamResponse) -> bool:
        self.response = response
        relayed(response)
        if self._gone:
            return False
        return await self._guarded(response.prepare(self._request))

    async def _guarded(self, step: Awaitable[object]) -> bool:
        """Runs a write; False if the client has gone, or took nothing for so long that it was cut off."""
        try:
            with self._patience:
                await step
        except ConnectionError:
            self.hang_up()
        if self._request.transport is None:
            # cut off while it was waited for: aiohttp then ends the write as if all were well
            self.hang_up()
        return not self._gone


def _with_marks(headers: Headers, marks: Marks) -> CIMultiDict[str]:
    """The upstream's headers that travel, with the proxy's own in place of any of the same name."""
    kept = to_client(headers)
    for name, value in marks:
        kept[name] = value
    return kept
