"""How aiohttp is kept from adding to requests, and from using connections that are over."""

import select
from asyncio import Transport
from collections.abc import Iterable
from contextvars import ContextVar
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from multidict import CIMultiDict

HEADERS: ContextVar[CIMultiDict[str]] = ContextVar("HEADERS")
"""The headers of the request that is being sent."""


class Request(aiohttp.ClientRequest):
    """aiohttp's request, which adds nothing but `Host` and loses nothing."""

    def update_headers(self, _headers: object) -> None:
        # the session would copy headers one by one on their way here, and lose a repeat that is spelled otherwise
        self.headers = CIMultiDict({"Host": self.url.host_port_subcomponent or ""})
        self.headers.extend(HEADERS.get())

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        # costly, and of the headers that aiohttp adds later the only one is a missing Content-Type
        if "Content-Type" not in self.headers:
            super().update_auto_headers(skip_auto_headers)

    def update_body_from_data(self, body: object, _stacklevel: int = 3) -> None:
        # aiohttp adds `Content-Length: 0` to a DELETE, a PUT, any method of its own list but a few
        if body is not None:
            super().update_body_from_data(body, _stacklevel)


class Pool(aiohttp.TCPConnector):
    """Never hands out a kept connection that the upstream has closed already.

    The event loop learns of a close only when it next looks at its sockets, so a kept connection is asked directly:
    one that waits for a request has nothing to read unless it is over."""

    def __init__(self, *, limit: int, keepalive_timeout: float) -> None:
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout)
        self._seen: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the parameter is aiohttp's
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._seen:
                if protocol is not None:
                    self._seen.add(protocol)
                return connection
            if not _readable(protocol.transport):
                return connection
            connection.close()


def _readable(transport: Transport | None) -> bool:
    if transport is None:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
