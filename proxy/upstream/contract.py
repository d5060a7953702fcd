"""What the house needs of the model's side."""

from collections.abc import AsyncIterator
from typing import Protocol

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


class Upstream(Protocol):
    async def send(
        self, method: str, target: str, headers: CIMultiDict[str], body: bytes | AsyncIterator[bytes] | None
    ) -> UpstreamReply:
        """Sends a request and waits for the head of the reply.

        `target` is the raw path with the raw query, as the client wrote it (without `/s/<session>`). `headers` are
        end-to-end headers already. Raises UpstreamUnreachable, UpstreamBroken, UpstreamTimeout."""
