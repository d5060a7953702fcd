"""What is refused when it is too much, at once and saying when to come again; and what many clients cost together."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.test_disconnect import hang_up_after_one, paused
from tests.e2e.test_kill import start
from tests.support import raw
from tests.support.app import Answer, Remora, remora, said
from tests.support.upstream import Script, ScriptedUpstream, Wait, model, plain

EVENT = b'data: {"choices":[{"index":0,"delta":{}}],"padding":"' + b"x" * 64_000 + b'"}\n\n'
MIB = 1 << 20


def held(until: asyncio.Event) -> Script:
    reply = plain(
        200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]}
    )
    return Script([Wait(until), *reply.steps])


async def begun(proxy: Remora, upstream: ScriptedUpstream, session: str | None) -> "asyncio.Task[Answer]":
    """A request that the upstream has, and has not answered."""
    before = len(upstream.requests)
    task = asyncio.create_task(proxy.chat(session, "x"))
    await upstream.until(lambda up: len(up.requests) == before + 1)
    return task


async def test_one_too_many_is_refused_at_once_whatever_it_asks_and_whatever_the_others_are(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    async with ScriptedUpstream(model()) as upstream, remora(upstream.url, tmp_path, max_exchanges=3) as proxy:
        upstream.queue.extend([held(go_on), held(go_on), paused(go_on)])
        tasks = [await begun(proxy, upstream, "a"), await begun(proxy, upstream, None)]
        # its client goes; the reply is finished for the record, and takes its place until then
        await hang_up_after_one(proxy)
        for session in ("b", None, "a"):
            refused = await proxy.chat(session, "x")
            assert (refused.status, refused.code, refused.headers["Retry-After"]) == (503, "overloaded", "1")
            assert "REMORA_MAX_EXCHANGES" in refused.json()["error"]["message"]
        assert len(upstream.requests) == 3
        go_on.set()
        assert [task.status for task in await asyncio.gather(*tasks)] == [200, 200]
        async with asyncio.timeout(10):
            # the exchange without a client ends a moment after its upstream
            while (await proxy.chat("a", "y")).status != 200:  # noqa: ASYNC110 - the product has no event for it
                await asyncio.sleep(0.01)
        for _ in range(4):
            assert (await proxy.chat(None, "y")).status == 200


async def test_one_too_many_in_the_queue_of_a_session_is_refused_at_once(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    async with ScriptedUpstream(model()) as upstream, remora(upstream.url, tmp_path, max_queue=0) as proxy:
        upstream.queue.append(held(go_on))
        first = await begun(proxy, upstream, "a")
        refused = await proxy.chat("a", "y")
        assert (refused.status, refused.code, refused.headers["Retry-After"]) == (429, "queue_full", "1")
        assert "x-should-retry" not in refused.headers
        assert (await proxy.chat("b", "y")).status == 200
        go_on.set()
        assert (await first).status == 200
        assert (await proxy.chat("a", "y")).headers["X-Session-Turn"] == "2"


async def test_a_body_that_stops_coming_gives_its_place_back(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(model()) as upstream,
        remora(upstream.url, tmp_path, "[session]\nmembers = ['user']\n", max_exchanges=1, idle_timeout_s=0.3) as proxy,
    ):
        for named in ([("X-Session-Id", "s")], []):
            reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
            head = [("Host", "h"), ("Content-Length", "100"), *named]
            writer.write(raw.request("POST", "/v1/chat/completions", head, b"{"))
            async with asyncio.timeout(10):
                # an end, or a reset
                (end,) = await asyncio.gather(reader.read(), return_exceptions=True)
            assert end == b"" or isinstance(end, ConnectionError)
            writer.close()
            assert (await proxy.chat("s", "x")).status == 200


@asynccontextmanager
async def firehose() -> AsyncIterator[tuple[str, list[int]]]:
    """A model that streams for ever, as fast as it is read; and how many bytes it has got rid of."""
    sent = [0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        try:
            while True:
                writer.write(EVENT)
                await writer.drain()
                sent[0] += len(EVENT)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", sent


@pytest.mark.parametrize("named", [False, True])
async def test_memory_stays_flat_under_slow_readers_of_a_fast_upstream(tmp_path: Path, named: bool) -> None:
    clients = 16
    async with firehose() as (upstream, sent):
        process, url = await start(upstream, tmp_path)
        sockets: list[socket.socket] = []
        try:
            # the vocabularies, which are loaded beside the first requests
            before = await stands_still(lambda: resident_bytes(process.pid))
            for number in range(clients):
                sockets += [await asking(url, f"s{number}" if named else None)]
            stood = await stands_still(lambda: sent[0])
            # the most of it waits in the systems' sockets, which is no memory of the proxy
            assert clients * MIB < stood < clients * 16 * MIB
            # of an exchange, what was relayed so far is kept for the record
            relayed = stood if named else 0
            assert resident_bytes(process.pid) - before < relayed + clients * 2 * MIB
            # nobody is forgotten: who reads on gets more
            async with asyncio.timeout(20):
                read = 0
                while read < 16 * MIB:
                    read += len(await asyncio.get_running_loop().sock_recv(sockets[0], MIB))
        finally:
            for each in sockets:
                each.close()
            process.kill()
            await process.wait()


async def asking(url: str, session: str | None) -> socket.socket:
    """A client that has asked for a stream and takes none of it."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    client.setblocking(False)
    host, port = url.removeprefix("http://").split(":")
    await loop.sock_connect(client, (host, int(port)))
    body = json.dumps({"model": "m", "stream": True, "messages": [said("user", "x")]}).encode()
    head = [("Host", "h"), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    named = [("X-Session-Id", session)] if session else []
    await loop.sock_sendall(client, raw.request("POST", "/v1/chat/completions", [*head, *named], body))
    return client


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def stands_still(measured: Callable[[], int]) -> int:
    """Waits until it has not changed for a while; returns it."""
    async with asyncio.timeout(60):
        before, since = 0, 0
        while since < 12:
            now = measured()
            before, since = now, since + 1 if now == before and now else 0
            await asyncio.sleep(0.1)
    return before
