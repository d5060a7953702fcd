"""Many slow clients and many that hang up, on streams: when they are gone, nothing of them is left."""

import asyncio
import gc
import json
import os
import random
import resource
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.e2e.test_disconnect import delta
from tests.support.app import Remora, remora, said
from tests.support.upstream import Received, Script, ScriptedUpstream, Step, Wait, chunk, head

CLIENTS = int(os.environ.get("TEST_CLIENTS", "40"))
WITHIN_S = 20 + CLIENTS / 10
PADDING = b": " + b"x" * 1021 + b"\n"
"""A comment, of which nothing is kept."""
PIECES = 64
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
GROWTH = 12 << 20
"""Bytes by which memory may differ from round to round: fragments, and what counts itself."""


def event(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


class Left(msgspec.Struct, frozen=True):
    """What is there in this process."""

    tasks: int
    descriptors: int


def left() -> Left:
    return Left(len(asyncio.all_tasks()), sum(not _of_store(entry) for entry in Path("/proc/self/fd").iterdir()))


def _of_store(descriptor: Path) -> bool:
    """A store opens its file more often when much is asked at once, and keeps that."""
    try:
        return "remora.db" in str(descriptor.readlink())
    except FileNotFoundError:
        return False  # the descriptor that this listing itself took


def resident() -> int:
    """Bytes of memory that are in use."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Four for each client: both ends of two connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 5 * CLIENTS + 200
    if soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(need, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Talk:
    """An upstream that says something to each, waits for `go_on`, and says the rest as fast as it is taken."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    def __call__(self, request: Received) -> Script:
        lines = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), ("Connection", "close")]

        def steps() -> Iterator[Step]:
            yield head(200, lines) + chunk(event(delta("one")))
            yield Wait(self.go_on)
            for _ in range(PIECES):
                yield chunk(PADDING)
            yield chunk(b"\n" + event(delta(" two")) + event(STOP) + b"data: [DONE]\n\n") + b"0\r\n\r\n"

        return Script(steps())


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(Talk(), keep_bodies=False) as server:
        yield server


async def begin(proxy: Remora, number: int, policy: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Sends a request for a stream, every third in no session, over a socket that takes little at once."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.setblocking(False)
    await asyncio.get_running_loop().sock_connect(wire, (proxy.host, proxy.port))
    reader, writer = await asyncio.open_connection(sock=wire, limit=4096)
    body = json.dumps({"model": "m", "stream": True, "messages": [said("user", f"client {number}")]}).encode()
    named = f"X-Session-Id: s{number}\r\nX-Session-Policy: {policy}\r\n" if number % 3 else ""
    lines = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n{named}Content-Length: {len(body)}\r\n\r\n"
    writer.write(lines.encode() + body)
    return reader, writer


async def slow(proxy: Remora, talk: Talk) -> None:
    """All of them read the beginning before one of them reads on."""
    read = asyncio.Barrier(CLIENTS)

    async def client(number: int) -> None:
        reader, writer = await begin(proxy, number, "default")
        await reader.readuntil(b'"one"')
        if await read.wait() == 0:
            talk.go_on.set()
        rest = b""
        while part := await reader.read(2048):
            rest = rest[-100:] + part
            if b"[DONE]" in rest:
                break
            # others come between
            await asyncio.sleep(0)
        assert b"[DONE]" in rest
        writer.close()

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


async def aborted(proxy: Remora, talk: Talk) -> None:
    """Some before the reply, some in it, some while it is pouring in; in an orderly way or with a reset."""
    chance = random.Random("aborted")
    all_in = asyncio.Barrier(CLIENTS)

    async def client(number: int) -> None:
        policies = ("default", "keep_partial", "discard")
        reader, writer = await begin(proxy, number, policies[number // 3 % len(policies)])
        when = chance.choice(("at once", "in it", "pouring"))
        if when != "at once":
            await reader.readuntil(b'"one"')
        if await all_in.wait() == 0:
            asyncio.get_running_loop().call_later(0.05, talk.go_on.set)
        if when == "pouring":
            await talk.go_on.wait()
            await reader.readexactly(chance.randint(1, 8 * 1024))
        if chance.random() < 0.5:
            wire = writer.get_extra_info("socket")
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


@pytest.mark.parametrize("kind", [slow, aborted])
async def test_nothing_is_left_of_them(upstream: ScriptedUpstream, tmp_path: Path, kind) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "policies"
    folder.mkdir()
    for name in ("keep_partial", "discard"):
        (folder / f"{name}.toml").write_text(f'[session]\non_disconnect = "{name}"\n')
    sizes = []
    async with remora(upstream.url, tmp_path, watched=False) as proxy:
        # whatever is made once is made before
        upstream.replies.go_on.set()  # type: ignore[attr-defined]
        await proxy.chat("warm", "up", stream=True)
        await proxy.http.close()
        await idle(proxy, upstream)
        before = await settled(Left(0, 0))
        for _ in range(3):
            upstream.replies = talk = Talk()
            async with asyncio.timeout(WITHIN_S):
                await kind(proxy, talk)
            await idle(proxy, upstream)
            upstream.requests.clear()
            after = await settled(before)
            assert after.tasks <= before.tasks, asyncio.all_tasks()
            assert after.descriptors <= before.descriptors, (after, before)
            sizes.append(resident())
    print(f"{CLIENTS} {kind.__name__} clients: {[size >> 20 for size in sizes]} MiB")  # noqa: T201
    assert sizes[2] - sizes[1] < GROWTH, sizes


async def idle(proxy: Remora, upstream: ScriptedUpstream) -> None:
    """No exchange runs, those that are finished for nobody included, and no connection to the upstream is open."""
    async with asyncio.timeout(WITHIN_S):
        while proxy.here.house.turnstile.running:  # noqa: ASYNC110 - the product has no event for it, and needs none
            await asyncio.sleep(0.01)
    await upstream.until(lambda u: u.open_connections == 0, within_s=WITHIN_S)


async def settled(before: Left) -> Left:
    """What is left when it is no more than there was, or goes down no more: sockets are closed when the loop gets to
    them."""
    now, same = left(), 0
    while (now.tasks > before.tasks or now.descriptors > before.descriptors) and same < 20:
        await asyncio.sleep(0.05)
        now, last = left(), now
        same = same + 1 if now == last else 0
    return now
