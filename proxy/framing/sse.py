"""Server-sent events, by the rules of the WHATWG (https://html.spec.whatwg.org/multipage/server-sent-events.html):
cutting a stream into whole events as it comes, and reading events.

Lines end in LF, CR or CRLF, also mixed. An event ends with an empty line; more empty lines belong to the event before
them, so that where an event starts does not depend on how the bytes were cut.
"""

import re
from collections.abc import Iterator

_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n))[\r\n]+")
_BOM = b"\xef\xbb\xbf"


class Cutter:
    """Takes a stream in any pieces and gives out whole events."""

    __slots__ = ("_rest", "rest_bytes")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self.rest_bytes = 0
        """Bytes of the event that has not ended yet."""

    def feed(self, chunk: bytes) -> bytes:
        """What has become whole with `chunk`: any number of events, b"" for none. Time is linear in the chunk."""
        if not self._rest:
            if not chunk or chunk.endswith(b"\n\n"):
                return chunk
            whole, rest = _cut(chunk)
            if rest:
                self._rest.append(rest)
                self.rest_bytes = len(rest)
            return whole
        # the line end that ended the rest may be the first half of the blank line
        if not chunk.startswith((b"\n", b"\r")) and _BLANK.search(chunk) is None:
            return self._keep(chunk)
        if _BLANK.search(b"".join(self._rest[-2:])[-2:] + chunk) is None:
            return self._keep(chunk)
        whole, rest = _cut(b"".join((*self._rest, chunk)))
        self._rest = [rest] if rest else []
        self.rest_bytes = len(rest)
        return whole

    def _keep(self, chunk: bytes) -> bytes:
        if chunk:
            self._rest.append(chunk)
            self.rest_bytes += len(chunk)
        return b""


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """(whole events, the rest). Line ends at the start are whole: they belong to what came before."""
    end = len(data) - len(data.lstrip(b"\r\n"))
    for blank in _BLANK.finditer(data, end):
        end = blank.end()
    return data[:end], data[end:]


def frames(whole: bytes) -> Iterator[bytes]:
    """The bytes of each event in `whole`, which is made of whole events; together they are `whole`. Line ends at its
    start come by themselves."""
    at = len(whole) - len(whole.lstrip(b"\r\n"))
    if at:
        yield whole[:at]
    for blank in _BLANK.finditer(whole, at):
        yield whole[at : blank.end()]
        at = blank.end()
    if at < len(whole):
        yield whole[at:]


def events(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(event name, data) of each event that has data. A last event without its empty line counts too, other than in
    the standard: servers forget it, and clients take it."""
    data = data.removeprefix(_BOM)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for block in data.split(b"\n\n"):
        if b"\n" in block:
            block = block.strip(b"\n")
        if b"\n" not in block:
            if block.startswith(b"data:"):
                value = block[6:] if block.startswith(b"data: ") else block[5:]
                if value:
                    yield b"", value
            continue
        name, lines = b"", []
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                lines.append(value)
            elif field == b"event":
                name = value
        if value := b"\n".join(lines):
            yield name, value
