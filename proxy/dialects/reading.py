"""A reply, read along, as every dialect does it: the bytes -> what may be relayed now, and the Reply.

A stream is not parsed as it comes: a dialect searches events for what may end the reply, and parses once, many at a
time; those of a short reply at its end, those of a long one in pieces, so that none takes long.
"""

from collections.abc import Callable

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Call
from proxy.errors import UpstreamReplyTooLarge
from proxy.framing import sse

LIMIT_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 64 * 1024
"""Of events that are parsed together: two milliseconds or so."""
_BOM = b"\xef\xbb\xbf"


class PlainReader:
    """Holds a plain reply until it is released."""

    def __init__(self, parse: Callable[[bytes], Reply]) -> None:
        """`parse`: the whole body -> the Reply."""
        self._parse = parse
        self._read: list[bytes] = []
        self._size = 0
        self._released = self._ended = False

    def feed(self, chunk: bytes) -> bytes:
        self._size = _within_limit(self._size + len(chunk))
        self._read.append(chunk)
        return b""

    def end(self) -> None:
        self._ended = True

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def done(self) -> bool:
        return self._ended

    @property
    def held(self) -> bytes:
        return b"" if self._released else b"".join(self._read)

    def release(self) -> bytes:
        held = self.held
        self._released = True
        return held

    def reply(self) -> Reply:
        return self._parse(b"".join(self._read))


class StreamReader:
    """Relays an event stream up to its first terminal event, and holds that and what follows until it is released."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._read: list[bytes] = []
        self._size = 0
        self._given = 0
        """Bytes that were given out: the first so many of what was read."""
        self._cutter = sse.Cutter()
        self._next: list[bytes] = []
        """Whole events that were not parsed yet ..."""
        self._next_bytes = 0
        self._parsed = 0
        """... behind so many bytes that were."""
        self._terminal = self._marked = self._clean = False

    def free(self, events: bytes) -> int:
        """How many bytes of these whole events may be relayed: of those before the terminal one. Sets `_terminal` when
        that is among them, and `_marked` when nothing more is expected after them."""
        raise NotImplementedError

    def take(self, events: bytes) -> None:
        """Parses the next events, for a dialect that does so in pieces. The last one need not have its empty line."""

    def parse(self, data: bytes) -> Reply:
        """What was read, whole events only -> the Reply. All of them were taken."""
        raise NotImplementedError

    def feed(self, chunk: bytes) -> bytes:
        self._size = _within_limit(self._size + len(chunk))
        self._read.append(chunk)
        whole = self._cutter.feed(chunk)
        if not whole:
            return b""
        self._next.append(whole)
        self._next_bytes += len(whole)
        if self._next_bytes >= PIECE_BYTES:
            self._take(b"".join(self._next))
        upto = self.free(whole)
        self._given += upto
        return whole[:upto]

    def end(self) -> None:
        self._clean = True

    @property
    def ended(self) -> bool:
        return self._terminal or self._clean

    @property
    def done(self) -> bool:
        return self._marked or self._clean

    @property
    def held(self) -> bytes:
        return b"".join(self._read)[self._given :]

    def release(self) -> bytes:
        held = self.held
        self._given = self._size
        return held

    def reply(self) -> Reply:
        data = b"".join(self._read)
        if not self._clean and self._cutter.rest_bytes:
            data = data[: -self._cutter.rest_bytes]
        if rest := data[self._parsed :]:
            self._take(rest)
        return self.parse(data)

    def _take(self, events: bytes) -> None:
        # a mark of the byte order is one at the start of a stream only
        first = b"\n" if self._parsed and events.startswith(_BOM) else b""
        self._parsed += len(events)
        self._next.clear()
        self._next_bytes = 0
        self.take(first + events)


def _within_limit(size: int) -> int:
    if size > LIMIT_BYTES:
        raise UpstreamReplyTooLarge(f"The upstream's reply is larger than {LIMIT_BYTES} bytes; ask for a shorter one.")
    return size
