"""Requests of the proxy's own, sent with the credentials of the client's request that caused them."""

from typing import Self

import msgspec
from multidict import CIMultiDict

from proxy.errors import UpstreamReplyTooLarge
from proxy.exchange.contract import Request
from proxy.exchange.decoded import decoded
from proxy.upstream.contract import Upstream

_NOT_AGAIN = ("Idempotency-Key", "Content-Length", "x-stainless-retry-count")


class Way(msgspec.Struct, frozen=True):
    """How the client's request went. Holds its credentials, in memory only, and nothing of its body."""

    target: str
    headers: CIMultiDict[str]

    @classmethod
    def of(cls, request: Request) -> Self:
        headers = CIMultiDict(request.upstream_headers)
        for name in _NOT_AGAIN:
            headers.popall(name, None)
        headers["Accept-Encoding"] = "identity"
        headers["Content-Type"] = "application/json"
        return cls(request.target, headers)


class Fetched(msgspec.Struct, frozen=True):
    """A reply, whole."""

    status: int
    stream: bool
    """It is an event stream, whatever was asked for."""
    body: bytes


async def fetch(upstream: Upstream, way: Way, target: str, body: bytes, *, most: int) -> Fetched:
    """Raises UpstreamError; UpstreamReplyTooLarge beyond `most` bytes."""
    reply = decoded(await upstream.send("POST", target, way.headers.copy(), body))
    read: list[bytes] = []
    size = 0
    try:
        while chunk := await reply.read():
            size += len(chunk)
            if size > most:
                raise UpstreamReplyTooLarge(f"The upstream's reply is larger than {most} bytes; ask for less.")
            read.append(chunk)
    finally:
        reply.close()
    kind = reply.headers.get("Content-Type", "").lower()
    return Fetched(reply.status, kind.startswith("text/event-stream"), b"".join(read))
