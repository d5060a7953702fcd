"""A scripted upstream: a raw HTTP/1.1 server on loopback that records exact bytes and answers with any bytes."""

import asyncio
import hashlib
import json
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came over the wire. Text is latin-1, so that each character is one byte."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    """In order, with repeats, names as written."""
    head: bytes
    """Request line and headers, exact, with the empty line."""
    body: bytes = b""
    """Without chunk framing; empty if the upstream was told not to keep bodies."""
    size: int = 0
    """Bytes of the body."""
    sha256: str = ""
    """Of the body."""
    connection: int = 0
    """Counts the upstream's connections from 0: two requests of one number shared a connection."""

    def json(self) -> Any:
        return json.loads(self.body)

    def get(self, name: str) -> str | None:
        """The first header of this name."""
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(frozen=True, slots=True)
class Wait:
    """Goes on when the event is set."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Reset:
    """Cuts the connection with a TCP reset."""


@dataclass(frozen=True, slots=True)
class Close:
    """Ends the connection in an orderly way."""


@dataclass(frozen=True, slots=True)
class Call:
    """Calls back when the bytes before it have been handed to the system."""

    back: Callable[[], None]


Step = bytes | Wait | Reset | Close | Call


@dataclass(frozen=True, slots=True)
class Script:
    """One reply: bytes and what happens between them. Steps may come from a generator; each is flushed before the
    next. After the last, the connection is kept for the next request unless a step ended it."""

    steps: Iterable[Step]


Replies = Callable[[Received], Script]


def plain(
    status: int = 200,
    body: bytes | str | dict[str, Any] = b"",
    headers: Headers = (),
    *,
    reason: str = "OK",
    length: bool = True,
) -> Script:
    """A reply with a body at once; a dict is sent as JSON with its content type."""
    lines = list(headers)
    if isinstance(body, dict):
        lines.append(("Content-Type", "application/json"))
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    if length:
        lines.append(("Content-Length", str(len(body))))
    return Script([head(status, lines, reason=reason) + body])


def head(status: int, headers: Headers, *, reason: str = "OK") -> bytes:
    """A reply's status line and headers, just these."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sse(
    events: Iterable[bytes | str | dict[str, Any] | Wait | Reset | Close | Call],
    *,
    done: bool = True,
    headers: Headers = (("Content-Type", "text/event-stream; charset=utf-8"),),
    status: int = 200,
) -> Script:
    """A chunked event stream, each event a chunk of its own. A dict becomes `data: JSON`, a str `data: …`, bytes go
    as they are; steps stay steps. `done` adds `data: [DONE]`."""

    def steps() -> Iterable[Step]:
        yield head(status, [*headers, ("Transfer-Encoding", "chunked")])
        for event in events:
            match event:
                case bytes():
                    yield chunk(event)
                case str():
                    yield chunk(f"data: {event}\n\n".encode())
                case dict():
                    yield chunk(f"data: {json.dumps(event)}\n\n".encode())
                case _:
                    yield event
        if done:
            yield chunk(b"data: [DONE]\n\n")
        yield b"0\r\n\r\n"

    return Script(steps())


def model(text: str | None = None) -> Replies:
    """A chat model: answers chat completions, plain or streamed as the body asks, with `text` or "reply N" (N counts
    from 1) and usage, in the shapes of the Chat Completions API. `usage.prompt_tokens` is 10 for each message."""
    count = 0

    def answer(request: Received) -> Script:
        nonlocal count
        count += 1
        said = text if text is not None else f"reply {count}"
        asked = request.json()
        prompt, completion = 10 * len(asked.get("messages", [])), max(1, len(said.split()))
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        about = {"id": f"chatcmpl-{count}", "created": 1_700_000_000 + count, "model": asked.get("model", "")}
        if asked.get("stream"):
            return sse(
                _chunks(about, said, usage if (asked.get("stream_options") or {}).get("include_usage") else None)
            )
        message: dict[str, Any] = {"role": "assistant", "content": said, "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return plain(200, {**about, "object": "chat.completion", "choices": [choice], "usage": usage})

    return answer


def _chunks(about: dict[str, Any], said: str, usage: dict[str, int] | None) -> Iterable[dict[str, Any]]:
    base = {**about, "object": "chat.completion.chunk"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": word if at == 0 else f" {word}"} for at, word in enumerate(said.split(" "))]
    for delta in deltas:
        yield {**base, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
    yield {**base, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]}
    if usage is not None:
        yield {**base, "choices": [], "usage": usage}


@dataclass
class ScriptedUpstream:
    """An async context manager. Replies come from `queue` first, then from `replies`.

    `on_head` is asked before a request's body is read; a script from it is played at once and the body never read.
    `gate`: bodies are read only when it is set. `keep_bodies=False`: bodies are counted and hashed, not kept.
    A failure inside a script fails the test, at the end of the `async with`.
    """

    replies: Replies = field(default_factory=model)
    on_head: Callable[[Received], Script | None] | None = None
    gate: asyncio.Event | None = None
    keep_bodies: bool = True
    queue: deque[Script] = field(default_factory=deque)
    requests: list[Received] = field(default_factory=list)
    """In the order in which they were complete."""
    open_connections: int = 0
    connections: int = 0
    """How many were ever made."""
    errors: list[BaseException] = field(default_factory=list)
    read_bytes: int = 0
    """Bytes of bodies read so far, over all requests."""

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 18)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if error is None and self.errors:
            raise self.errors[0]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def until(self, true: Callable[["ScriptedUpstream"], bool], *, within_s: float = 10.0) -> None:
        """Waits until something holds of this upstream; checked whenever a connection, a request or a
        part of a body comes, or a connection goes."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: true(self))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number, self.connections, self.open_connections = (
            self.connections,
            self.connections + 1,
            self.open_connections + 1,
        )
        await self._notify()
        try:
            while await self._one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side went: tests look at `open_connections`
        except asyncio.CancelledError:
            pass  # by __aexit__; asyncio's streams would log it
        except Exception as error:  # noqa: BLE001 - kept for __aexit__
            self.errors.append(error)
        finally:
            writer.close()
            self.open_connections -= 1
            self._tasks.discard(task)
            await self._notify()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return False
        request = parse_head(raw, number)
        early = self.on_head(request) if self.on_head else None
        if early is not None:
            self.requests.append(request)
            await self._notify()
            return await self._play(early, reader, writer)
        if (request.get("Expect") or "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.gate is not None:
            await self.gate.wait()
        parts, size, digest = [], 0, hashlib.sha256()
        async for part in read_body(reader, request):
            size += len(part)
            self.read_bytes += len(part)
            digest.update(part)
            if self.keep_bodies:
                parts.append(part)
            await self._notify()
        request = Received(
            request.method, request.target, request.headers, raw, b"".join(parts), size, digest.hexdigest(), number
        )
        self.requests.append(request)
        script = self.queue.popleft() if self.queue else self.replies(request)
        await self._notify()
        return await self._play(script, reader, writer)

    async def _play(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        for step in script.steps:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case Wait(event):
                    if not await _either(event, reader):
                        return False
                case Call(back):
                    back()
                case Reset():
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                    return False
                case Close():
                    return False
        return True


async def _either(event: asyncio.Event, reader: asyncio.StreamReader) -> bool:
    """Waits for the event, or for the other side to go: then False. Bytes that come meanwhile stay unread."""
    waiting = asyncio.ensure_future(event.wait())
    gone = asyncio.ensure_future(_gone(reader))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            gone.result()
        return waiting.done()
    finally:
        waiting.cancel()
        gone.cancel()
        # the reader is free again only when the read in progress has been taken back
        await asyncio.gather(waiting, gone, return_exceptions=True)
        await asyncio.gather(waiting, gone, return_exceptions=True)


async def _gone(reader: asyncio.StreamReader) -> None:
    # StreamReader has no public way to wait for the end without reading; a pipelined request is not expected here
    try:
        data = await reader.read(1)
    except ConnectionError:
        return
    assert not data, "the proxy sent bytes behind the request"


def parse_head(raw: bytes, connection: int = 0) -> Received:
    first, *lines = raw.decode("latin-1")[:-4].split("\r\n")
    method, target, version = first.split(" ")
    assert version == "HTTP/1.1", first
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((name, value.strip(" \t")))
    return Received(method, target, headers, raw, connection=connection)


async def read_body(reader: asyncio.StreamReader, request: Received) -> AsyncIterator[bytes]:
    if "chunked" in (request.get("Transfer-Encoding") or "").lower():
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return
    left = int(request.get("Content-Length") or 0)
    while left:
        data = await reader.read(min(left, 1 << 16))
        if not data:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(data)
        yield data
