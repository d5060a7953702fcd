"""What tests of the upstream's side share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from multidict import CIMultiDict

from proxy.upstream.client import UpstreamClient
from proxy.upstream.contract import UpstreamReply
from tests.support.upstream import Wait


@asynccontextmanager
async def opened(
    url: str, *, connect: float = 5, first_byte: float = 5, idle: float = 5
) -> AsyncIterator[UpstreamClient]:
    client = UpstreamClient(url, connect_timeout_s=connect, first_byte_timeout_s=first_byte, idle_timeout_s=idle)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


async def whole(reply: UpstreamReply) -> bytes:
    parts = []
    while data := await reply.read():
        parts.append(data)
    return b"".join(parts)


def none() -> CIMultiDict[str]:
    return CIMultiDict()


def after(seconds: float) -> Wait:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, event.set)
    return Wait(event)


def never() -> Wait:
    return Wait(asyncio.Event())
