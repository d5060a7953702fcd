"""What the house needs of the model's side."""

from collections.abc import AsyncIterator
from typing import Literal, Protocol, runtime_checkable

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy


class UpstreamReply(Protocol):
    """A reply whose head has come."""

    status: int
    reason: str
    headers: CIMultiDictProxy[str]
    """As received, hop-by-hop ones included."""

    async def read(self) -> bytes:
        """The next bytes as they come; b"" at the clean end, after which the connection is free again.
        Raises UpstreamBroken when it breaks off, UpstreamTimeout when it is idle for too long."""

    def close(self) -> None:
        """Gives the connection up, unless the reply was read to its end. Wakes a `read` in progress, which raises
        UpstreamBroken. May be called twice."""


class Frame(msgspec.Struct, frozen=True):
    """One message of a WebSocket."""

    kind: Literal["text", "binary", "ping", "pong", "close"]
    data: bytes
    """UTF-8 for a text; the reason, UTF-8, for a close."""
    code: int = 1000
    """Of a close. 1005: it named none; 1006: the connection broke without one."""


@runtime_checkable
class UpstreamSocket(Protocol):
    """An open WebSocket to the upstream."""

    protocol: str | None
    """The subprotocol that the upstream chose."""
    headers: CIMultiDictProxy[str]
    """Of the upstream's reply to the handshake."""

    async def receive(self) -> Frame:
        """The next message; after a close there is no other."""

    async def send(self, frame: Frame) -> None:
        """Waits while the upstream does not take it. A close ends the socket. Raises UpstreamBroken."""

    async def close(self) -> None:
        """Cuts the connection if it is still open. May be called twice."""


class Upstream(Protocol):
    async def send(
        self, method: str, target: str, headers: CIMultiDict[str], body: bytes | AsyncIterator[bytes] | None
    ) -> UpstreamReply:
        """Sends a request and waits for the head of the reply.

        `target` is the raw path with the raw query, as the client wrote it (without `/s/<session>`). `headers` are
        end-to-end headers already, and the upstream's from then on. The body of a reply that is not a stream must be
        whole within the first-byte timeout after its head.
        Raises UpstreamUnreachable, UpstreamBroken, UpstreamTimeout; BadRequest for a target that is no path."""


class Download(UpstreamReply, Protocol):
    """A reply that may take any time, as long as it does not idle."""

    @property
    def complete(self) -> bool:
        """The whole body is here (or there is none): one `read` gives it without waiting."""


class Relaying(Protocol):
    """What pass-through needs of the upstream."""

    async def download(
        self, method: str, target: str, headers: CIMultiDict[str], body: bytes | AsyncIterator[bytes] | None
    ) -> Download:
        """Like `Upstream.send`, but no time is set for the reply as a whole."""

    async def open_socket(
        self, target: str, headers: CIMultiDict[str], protocols: tuple[str, ...]
    ) -> UpstreamSocket | Download:
        """Opens a WebSocket; if the upstream refuses it, its reply instead. Raises as `download` does."""
