"""The stand-in upstream: answers chat completions as cheaply as Python can. `python -m bench.stub PORT`.

A request whose body holds `"stream": true` gets an event stream, any other a plain completion. Two request headers
steer streams: `X-Stub-Chunks: 500` (content events; 20) and `X-Stub-Gap-Ms: 2` (each event is written on its own, so
long after the one before; without it all events are written at once).
"""

import asyncio
import json
import re
import sys
from itertools import count
from typing import cast

import uvloop

WORDS = (
    "The kept window starts at an anchor, and the anchor moves in steps, so the prefix that a provider caches stays "
    "the same for many turns. What falls out is still stored and can be read at any time. A turn is dropped whole, "
    "because a tool result without its call is refused. That is note"
)
"""About sixty tokens with the nine digits that follow; the digits differ in each reply, so that no cache that is
keyed by text can answer for a tokenizer."""
PIECES = WORDS.split(" ")
CHUNKS = 20

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)").search
_CHUNKS = re.compile(rb"\r\nx-stub-chunks:[ \t]*(\d+)").search
_GAP = re.compile(rb"\r\nx-stub-gap-ms:[ \t]*(\d+)").search
_serial = count(100_000_000)


def _plain() -> bytes:
    body = {
        "id": "chatcmpl-%(serial)d",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": WORDS + " %(serial)d", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": "@", "completion_tokens": 62, "total_tokens": "@"},
        "system_fingerprint": "fp_bench",
    }
    return json.dumps(body).replace('"@"', "%(prompt)d").encode()


def _event(delta: dict[str, object], finish: str | None) -> bytes:
    event = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "gpt-4o-2024-08-06",
        "system_fingerprint": "fp_bench",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    # without spaces, as OpenAI, vLLM and llama.cpp write their events
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


PLAIN = _plain()
PLAIN_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: bench\r\nContent-Length: %d\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nX-Request-Id: bench\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
FIRST = _event({"role": "assistant", "content": "", "refusal": None}, None)
LAST = _event({}, "stop") + b"data: [DONE]\n\n"


def content_events(chunks: int) -> list[bytes]:
    """The text spread over `chunks` events; a long stream repeats it."""
    if chunks >= len(PIECES):
        return [_event({"content": PIECES[i % len(PIECES)] + " "}, None) for i in range(chunks)]
    step = len(PIECES) / chunks
    cuts = [PIECES[round(i * step) : round((i + 1) * step)] for i in range(chunks)]
    return [_event({"content": " ".join(cut) + " "}, None) for cut in cuts]


class Stub(asyncio.Protocol):
    """One client connection; requests come one after another."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.head = b""
        self.body: list[bytes] = []
        self.missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self.head = self.buffer[:end].lower()
            data = self.buffer[end + 4 :]
            self.buffer = b""
            length = _LENGTH(self.head)
            if length is None and b"\r\ntransfer-encoding:" in self.head:
                self.transport.write(b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                self.transport.close()
                return
            self.missing = int(length[1]) if length else 0
            self.body = []
        self.body.append(data)
        self.missing -= len(data)
        if self.missing <= 0:
            self.missing = 0
            self.answer(b"".join(self.body))

    def answer(self, body: bytes) -> None:
        serial = next(_serial)
        if b'"stream":true' in body or b'"stream": true' in body:
            self.stream(serial)
            return
        plain = PLAIN % {b"serial": serial, b"prompt": len(body) // 5}
        self.transport.write(PLAIN_HEAD % len(plain) + plain)

    def stream(self, serial: int) -> None:
        wanted = _CHUNKS(self.head)
        gap = _GAP(self.head)
        events = [FIRST, *EVENTS(int(wanted[1]) if wanted else CHUNKS), _event({"content": str(serial)}, None)]
        if gap is None:
            framed = b"".join(map(_frame, events))
            self.transport.write(STREAM_HEAD + framed + _frame(LAST) + b"0\r\n\r\n")
            return
        self.transport.write(STREAM_HEAD + _frame(events[0]))
        self.loop.call_later(int(gap[1]) / 1000, self.drip, events, 1, int(gap[1]) / 1000)

    def drip(self, events: list[bytes], at: int, gap_s: float) -> None:
        if self.transport.is_closing():
            return
        if at == len(events):
            self.transport.write(_frame(LAST) + b"0\r\n\r\n")
            return
        self.transport.write(_frame(events[at]))
        self.loop.call_later(gap_s, self.drip, events, at + 1, gap_s)


class _Cache(dict[int, list[bytes]]):
    def __missing__(self, chunks: int) -> list[bytes]:
        if len(self) > 64:
            self.clear()
        self[chunks] = content_events(chunks)
        return self[chunks]


EVENTS = _Cache().__getitem__


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
