"""A raw-socket client: sends exact bytes and keeps the exact bytes of the reply, for byte comparisons."""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RawReply:
    """Text is latin-1, so that each character is one byte."""

    line: str
    """The status line."""
    headers: list[tuple[str, str]]
    """In order, with repeats, names as written."""
    body: bytes
    """Without chunk framing."""
    wire: bytes
    """The body as it came, chunk framing included."""
    complete: bool
    """The framing says that the whole body came; a body that only the end of the connection ends is complete."""
    interim: tuple[str, ...] = ()
    """Status lines of 1xx replies before it."""

    @property
    def status(self) -> int:
        return int(self.line.split(" ")[1])

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


async def exchange(host: str, port: int, raw: bytes, *, within_s: float = 20.0) -> RawReply:
    """Opens a connection, sends `raw`, reads one reply to its end, closes."""
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
        try:
            writer.write(raw)
            return await read_reply(reader, head_only=raw.startswith(b"HEAD "))
        finally:
            writer.close()


def request(method: str, target: str, headers: list[tuple[str, str]], body: bytes = b"") -> bytes:
    """A request's bytes: just these headers, nothing added."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


async def read_head(reader: asyncio.StreamReader) -> tuple[str, list[tuple[str, str]]]:
    """The status line and the headers of the next reply."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")[:-4].split("\r\n")
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((name, value.strip(" \t")))
    return first, headers


async def read_reply(reader: asyncio.StreamReader, *, head_only: bool = False) -> RawReply:
    """One whole reply. Raises IncompleteReadError if not even its head comes; a body that is cut short is returned
    with `complete=False`."""
    interim: list[str] = []
    while True:
        line, headers = await read_head(reader)
        status = int(line.split(" ")[1])
        if status >= 200 or status == 101:
            break
        interim.append(line)
    named = {name.lower(): value for name, value in headers}
    wire = bytearray()
    if head_only or status in (101, 204, 304):
        body, complete = b"", True
    elif "chunked" in named.get("transfer-encoding", "").lower():
        body, complete = await _chunked(reader, wire)
    elif "content-length" in named:
        want = int(named["content-length"])
        body, complete = await _take(reader, want, wire)
    else:
        body, complete = await _to_end(reader, wire)
    return RawReply(line, headers, body, bytes(wire), complete, tuple(interim))


async def _take(reader: asyncio.StreamReader, size: int, wire: bytearray) -> tuple[bytes, bool]:
    start = len(wire)
    try:
        while (left := size - (len(wire) - start)) and (data := await reader.read(min(left, 1 << 20))):
            wire += data
    except ConnectionError:
        pass  # a reset is one way of being cut short
    return bytes(wire[start:]), len(wire) - start == size


async def _to_end(reader: asyncio.StreamReader, wire: bytearray) -> tuple[bytes, bool]:
    try:
        while data := await reader.read(1 << 20):
            wire += data
    except ConnectionError:
        return bytes(wire), False
    return bytes(wire), True


async def _chunked(reader: asyncio.StreamReader, wire: bytearray) -> tuple[bytes, bool]:
    body = bytearray()
    try:
        while True:
            line = await reader.readuntil(b"\r\n")
            wire += line
            if not (size := int(line.split(b";")[0], 16)):
                break
            data, whole = await _take(reader, size, wire)
            body += data
            if not whole:
                return bytes(body), False
            end = await reader.readexactly(2)
            wire += end
            assert end == b"\r\n"
        while True:
            line = await reader.readuntil(b"\r\n")
            wire += line
            if line == b"\r\n":
                return bytes(body), True
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        if isinstance(error, asyncio.IncompleteReadError):
            wire += error.partial
        return bytes(body), False
