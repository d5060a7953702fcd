"""An upstream that fails at each stage, in each way, on chat sessions and on responses.

The client is told within a bound and can tell it from a good end, nothing is recorded as whole, no connection is left.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import aiohttp
import msgspec
import pytest

from proxy.stores.contract import Record
from tests.e2e.test_disconnect import delta, no_visits
from tests.support.app import Remora, remora, said, sent
from tests.support.upstream import Close, Reset, Script, ScriptedUpstream, Step, Wait, chunk, head, model

BOUND_S = 15.0
SILENCE_S = 0.4
WAYS = [(api, stream) for api in ("chat", "responses") for stream in (False, True)]
EVENTS = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
JSON = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")]
ONE = b"data: " + json.dumps(delta("one")).encode() + b"\n\n"
CHOICE = {"index": 0, "message": said("assistant", "whole"), "finish_reason": "stop"}
BODY = json.dumps({"object": "chat.completion", "choices": [CHOICE]}).encode()
LONG = ONE.replace(b"one", b"x" * 100_000)
STOP = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
LARGE = frozenset({"an endless body", "a bomb", "an endless event", "endless events"})
MORE = 70 * 1024 * 1024
"""Bytes beyond every limit of a reply."""


class Seen(msgspec.Struct, frozen=True):
    """What the client got."""

    status: int
    code: str
    """Of an error that the proxy made."""
    body: bytes
    broken: bool
    """The connection broke before the body's end."""


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(model("fine")) as server:
        yield server


@pytest.fixture
async def proxy(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path, first_byte_timeout_s=SILENCE_S, idle_timeout_s=SILENCE_S) as running:
        yield running


async def ask(proxy: Remora, api: str, *, stream: bool) -> Seen:
    path, own = ("/v1/chat/completions", "messages") if api == "chat" else ("/v1/responses", "input")
    body = {"model": "m", own: [said("user", "x")], "stream": stream}
    headers = {"X-Session-Id": "s", "Authorization": "Bearer sk-client"}
    read: list[bytes] = []
    broken = False
    async with asyncio.timeout(BOUND_S), proxy.http.post(proxy.url + path, json=body, headers=headers) as reply:
        try:
            while part := await reply.content.readany():
                read.append(part)
        except aiohttp.ClientPayloadError:
            broken = True
        return Seen(reply.status, reply.headers.get("X-Remora-Error", ""), b"".join(read), broken)


async def nothing_is_left(proxy: Remora, upstream: ScriptedUpstream) -> None:
    """No half turn, no exchange, no connection; and the next turn is as if there had been none before."""
    await no_visits(proxy)
    await upstream.until(lambda u: u.open_connections == 0)
    records: list[Record] = []
    async for info in proxy.here.house.store.list():
        records += [record async for record in proxy.here.house.store.records(info.ref)]
    assert {record.entry.facts.state for record in records} <= {"failed"}
    upstream.queue.clear()
    assert (await proxy.chat("s", "y")).text == "fine"
    assert sent(upstream.requests[-1]) == [("user", "y")]


def said_to_have_failed(seen: Seen, api: str) -> None:
    """The end that the client saw is no good one."""
    assert b"Traceback" not in seen.body
    if seen.status != 200:
        error = json.loads(seen.body)["error"]
        assert error["message"]
        assert error["code"].startswith("upstream_"), seen
        return
    # it had begun: a stream
    assert seen.broken or b'"response.failed"' in seen.body or b'"status":"failed"' in seen.body, seen.body[-3000:]
    assert b"[DONE]" not in seen.body
    assert b'"response.completed"' not in seen.body
    assert b'"stop"' not in seen.body


def drip(data: Iterable[bytes]) -> Iterable[Step]:
    """Each piece comes soon after the one before, so that no single wait is long."""
    for piece in data:
        yield piece
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(SILENCE_S / 4, event.set)
        yield Wait(event)


def endless(piece: bytes) -> Iterable[bytes]:
    while True:
        yield piece


def never() -> Wait:
    return Wait(asyncio.Event())


BEFORE: dict[str, Callable[[], Iterable[Step]]] = {
    "reset": lambda: [Reset()],
    "close": lambda: [Close()],
    "reset in the head": lambda: [b"HTTP/1.1 200 OK\r\nContent-Ty", Reset()],
    "close in the head": lambda: [b"HTTP/1.1 200 OK\r\nContent-Ty", Close()],
    "silence": lambda: [never()],
    "silence in the head": lambda: [b"HTTP/1.1 200 OK\r\n", never()],
    "a head that drips": lambda: drip([b"HTTP/1.1 200 OK\r\n", *endless_lines()]),
    "an endless head": lambda: [b"HTTP/1.1 200 OK\r\n", *[b"X-A: " + b"a" * 1000 + b"\r\n"] * 400, never()],
    "no HTTP": lambda: [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", never()],
    "two lengths": lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", never()],
}


def endless_lines() -> Iterable[bytes]:
    return (b"X-%d: a\r\n" % n for n in range(200))


@pytest.mark.parametrize(("api", "stream"), WAYS)
@pytest.mark.parametrize("fault", BEFORE)
async def test_before_the_body(proxy: Remora, upstream: ScriptedUpstream, fault: str, api: str, stream: bool) -> None:
    upstream.queue.append(Script(BEFORE[fault]()))
    seen = await ask(proxy, api, stream=stream)
    if seen.status == 200:
        # a stream of the Responses API begins by itself
        assert (api, stream) == ("responses", True)
    else:
        assert seen.status == (504 if "silence" in fault or "drips" in fault else 502), seen
    said_to_have_failed(seen, api)
    await nothing_is_left(proxy, upstream)


PLAIN: dict[str, Callable[[], Iterable[Step]]] = {
    "reset before the body": lambda: [head(200, JSON), Reset()],
    "reset in the body": lambda: [head(200, JSON), chunk(BODY[:20]), Reset()],
    "reset before the last chunk": lambda: [head(200, JSON), chunk(BODY), Reset()],
    "close before the last chunk": lambda: [head(200, JSON), chunk(BODY), Close()],
    "silence before the body": lambda: [head(200, JSON), never()],
    "silence in the body": lambda: [head(200, JSON), chunk(BODY[:20]), never()],
    "silence before the last chunk": lambda: [head(200, JSON), chunk(BODY), never()],
    "a body that drips": lambda: drip([head(200, JSON), *(chunk(BODY[n : n + 1]) for n in range(len(BODY)))]),
    "a size that is none": lambda: [head(200, JSON), b"zz\r\n" + BODY + b"\r\n0\r\n\r\n", never()],
    "a chunk longer than said": lambda: [head(200, JSON), b"5\r\n" + BODY + b"\r\n0\r\n\r\n", never()],
    "an endless size": lambda: [head(200, JSON), b"1" * 200_000, never()],
    "an endless body": lambda: [head(200, JSON), *[chunk(b" " * (1 << 20))] * (MORE >> 20), never()],
    "a bomb": lambda: packed(JSON, b" " * MORE),
    "what is no gzip": lambda: [head(200, [*JSON, ("Content-Encoding", "gzip")]), chunk(BODY), b"0\r\n\r\n", Close()],
    "a gzip cut off": lambda: packed(JSON, BODY, short=12),
    "an unknown encoding": lambda: [head(200, [*JSON, ("Content-Encoding", "br")]), chunk(BODY), b"0\r\n\r\n", Close()],
}


def both(faults: Iterable[str]) -> list[tuple[str, str]]:
    """What is large takes long, and is read by the same reader for both: it is tried on one."""
    return [(api, fault) for api in ("chat", "responses") for fault in faults if api == "chat" or fault not in LARGE]


def packed(headers: list[tuple[str, str]], body: bytes, short: int = 0) -> Iterable[Step]:
    data = gzip.compress(body, 1)
    yield head(200, [*headers, ("Content-Encoding", "gzip")])
    yield chunk(data[: len(data) - short])
    yield b"0\r\n\r\n"
    yield Close()


@pytest.mark.parametrize(("api", "fault"), both(PLAIN))
async def test_in_a_plain_body(proxy: Remora, upstream: ScriptedUpstream, fault: str, api: str) -> None:
    upstream.queue.append(Script(PLAIN[fault]()))
    seen = await ask(proxy, api, stream=False)
    assert seen.status in (502, 504), seen
    said_to_have_failed(seen, api)
    await nothing_is_left(proxy, upstream)


STREAMED: dict[str, Callable[[], Iterable[Step]]] = {
    "reset before the body": lambda: [head(200, EVENTS), Reset()],
    "reset between events": lambda: [head(200, EVENTS), chunk(ONE), Reset()],
    "close between events": lambda: [head(200, EVENTS), chunk(ONE), Close()],
    "reset in an event": lambda: [head(200, EVENTS), chunk(ONE + ONE[:30]), Reset()],
    "close in an event": lambda: [head(200, EVENTS), chunk(ONE + ONE[:30]), Close()],
    "reset in a chunk": lambda: [head(200, EVENTS), chunk(ONE)[:-20], Reset()],
    "silence before the body": lambda: [head(200, EVENTS), never()],
    "silence between events": lambda: [head(200, EVENTS), chunk(ONE), never()],
    "silence in an event": lambda: [head(200, EVENTS), chunk(ONE + ONE[:30]), never()],
    "a size that is none": lambda: [head(200, EVENTS), chunk(ONE), b"zz\r\n", never()],
    "an endless event": lambda: [
        head(200, EVENTS),
        chunk(b"data: "),
        *[chunk(b"x" * (1 << 20))] * (MORE >> 20),
        never(),
    ],
    "endless events": lambda: [head(200, EVENTS), *[chunk(LONG)] * (MORE // len(LONG)), never()],
    "a bomb": lambda: packed(EVENTS, b"data: " + b" " * MORE),
    "what is no gzip": lambda: [
        head(200, [*EVENTS, ("Content-Encoding", "gzip")]),
        chunk(ONE + STOP),
        b"0\r\n\r\n",
        Close(),
    ],
    "an unknown encoding": lambda: [
        head(200, [*EVENTS, ("Content-Encoding", "br")]),
        chunk(ONE + STOP),
        b"0\r\n\r\n",
        Close(),
    ],
    "broken JSON": lambda: [head(200, EVENTS), chunk(ONE.replace(b"one", b'"') + STOP), b"0\r\n\r\n", Close()],
}


@pytest.mark.parametrize(("api", "fault"), both(STREAMED))
async def test_in_a_stream(proxy: Remora, upstream: ScriptedUpstream, fault: str, api: str) -> None:
    upstream.queue.append(Script(STREAMED[fault]()))
    said_to_have_failed(await ask(proxy, api, stream=True), api)
    await nothing_is_left(proxy, upstream)


NONE = {
    "HTML": (b"text/html", b"<html>busy</html>"),
    "invalid UTF-8": (b"application/json", BODY.replace(b"whole", b"\xff\xfe")),
    "an invalid event": (b"text/event-stream", ONE.replace(b"one", b"\xff\xfe") + STOP),
    "nothing": (b"text/html", b""),
}


@pytest.mark.parametrize(("api", "stream"), WAYS)
@pytest.mark.parametrize("fault", NONE)
async def test_a_200_that_is_no_reply(
    proxy: Remora, upstream: ScriptedUpstream, fault: str, api: str, stream: bool
) -> None:
    """A chat client gets it as it is; where the reply would have been made from it, it is a failure."""
    kind, body = NONE[fault]
    lines = [("Content-Type", kind.decode()), ("Connection", "close"), ("Content-Length", str(len(body)))]
    upstream.queue.append(Script([head(200, lines) + body, Close()]))
    seen = await ask(proxy, api, stream=stream)
    if api == "chat":
        assert (seen.status, seen.body, seen.broken) == (200, body, False)
    else:
        said_to_have_failed(seen, api)
    await nothing_is_left(proxy, upstream)
