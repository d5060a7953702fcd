"""What an exchange needs of the two who talk through it: the request as it came, and the client to answer."""

from collections.abc import Callable
from typing import Protocol

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.exchange.tenant import Tenant

Headers = CIMultiDictProxy[str]
Marks = tuple[tuple[str, str], ...]
"""Headers that the proxy adds: name and value."""
NO_HEADERS: Headers = CIMultiDictProxy(CIMultiDict())


class Request(msgspec.Struct, frozen=True):
    """A client's request on a path whose dialect is spoken, with its whole body."""

    method: str
    target: str
    """Raw path and query as they go upstream: without `/s/<session>`."""
    headers: CIMultiDictProxy[str]
    """As received."""
    upstream_headers: CIMultiDict[str]
    """Those that travel on: end-to-end, without session headers, with the upstream's credential where one is set,
    without Content-Length and Content-Encoding (the body below is what is sent)."""
    body: bytes
    """Decoded, if it came compressed."""
    raw: bytes
    """As it came."""
    encoding: str
    """Of `raw`: its Content-Encoding, "" for none."""
    path_session: str | None
    """The session that the path names."""
    tenant: Callable[[], Tenant]
    """Whose data it is; asked when a session is named. Raises InvalidHeader."""


class Client(Protocol):
    """The one who asked. Nothing here raises when the client has gone: what is written then goes nowhere."""

    @property
    def gone(self) -> bool: ...

    @property
    def started(self) -> bool:
        """The head of a reply has been sent."""

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Calls back once when the client hangs up; at once if it has."""

    async def send(self, status: int, reason: str, headers: Headers, marks: Marks, body: bytes) -> bool:
        """A whole reply: `headers` as the upstream sent them, of which those travel that may, and `marks` beside them.
        True if all of it was handed to the connection."""

    async def start(self, status: int, reason: str, headers: Headers, marks: Marks, *, sized: bool) -> None:
        """The head of a reply whose body follows by `write`; `sized`: just as long as the upstream's."""

    async def write(self, data: bytes) -> None:
        """Waits while the connection's buffer is full. A client that takes nothing for too long is gone."""

    async def finish(self) -> bool:
        """Ends a started reply. True if all of it was handed to the connection."""

    async def break_off(self, code: str) -> None:
        """Ends a started reply so that the client sees that it is not whole: the connection is cut, unless the API has
        a way to say it. `code`: why, as in errors."""
