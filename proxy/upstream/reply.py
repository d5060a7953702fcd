"""The reply of the upstream, its body read as it comes, with every wait bounded."""

import asyncio

import aiohttp
from multidict import CIMultiDictProxy

from proxy.errors import UpstreamBroken, UpstreamError, UpstreamTimeout


class Reply:
    """Implements `UpstreamReply` over a reply of aiohttp. One timer serves the whole reply: it looks whether a `read`
    has been waiting for too long, so that a read costs no timer of its own."""

    __slots__ = (
        *("_closed", "_content", "_ended", "_failure", "_host", "_idle_s", "_loop", "_response", "_since", "_timer"),
        *("_until", "headers", "reason", "status"),
    )

    def __init__(
        self, response: aiohttp.ClientResponse, loop: asyncio.AbstractEventLoop, host: str, idle_s: float
    ) -> None:
        self.status = response.status
        self.reason = response.reason or ""
        self.headers: CIMultiDictProxy[str] = response.headers
        self._response = response
        self._content = response.content
        self._loop = loop
        self._host = host
        self._idle_s = idle_s
        self._since: float | None = None
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure: UpstreamError | None = None
        self._closed = False
        self._ended = False

    @property
    def complete(self) -> bool:
        return self._content.is_eof()

    def whole_within(self, seconds: float) -> None:
        """The body must be whole within this time from now."""
        if not self._content.is_eof():
            self._until = self._loop.time() + seconds

    async def read(self) -> bytes:
        if self._closed:
            if self._ended:
                return b""
            raise self._failure or UpstreamBroken("The upstream's reply was given up.")
        content = self._content
        try:
            data = content.read_nowait()
            if not data and not content.at_eof():
                self._since = self._loop.time()
                if self._timer is None:
                    self._timer = self._loop.call_at(self._due(), self._look)
                try:
                    data = await content.readany()
                finally:
                    self._since = None
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            # RuntimeError: the connection went while nobody was reading
            failure = self._failure or UpstreamBroken(f"The reply of the upstream {self._host} broke off.")
            self.close()
            raise failure from error
        if not data:
            self._ended = True
            self.close()
        return data

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        # at the end of the body aiohttp has given the connection back already, unless the request is still being sent
        if self._response.connection is not None:
            self._response.close()

    def _due(self) -> float:
        due = (self._since if self._since is not None else self._loop.time()) + self._idle_s
        return due if self._until is None else min(due, self._until)

    def _look(self) -> None:
        due = self._due()
        if self._since is None:
            # the reader is busy elsewhere, the upstream is not to blame: look again when the reader may be waiting
            self._timer = self._loop.call_later(self._idle_s, self._look)
        elif self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        else:
            late = self._until is not None and due == self._until
            what = "was not whole in time" if late else f"said nothing for {self._idle_s:g} s"
            self._failure = UpstreamTimeout(f"The reply of the upstream {self._host} {what}.")
            self._response.close()
