"""Responses, read along: the bytes of a reply -> what may be relayed now, and the Reply.

A stream is not parsed as it comes: events are only searched for what may end the reply, and parsed once, at the end.
"""

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Call
from proxy.dialects.responses.native.replies import TERMINAL, error_of, from_body, from_stream, read_event
from proxy.errors import UpstreamReplyTooLarge
from proxy.framing import sse

LIMIT_BYTES = 64 * 1024 * 1024


class PlainReader:
    """Holds a plain reply until it is released."""

    def __init__(self, call: Call) -> None:
        self._call = call
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
        return from_body(b"".join(self._read), self._call)


class StreamReader:
    """Relays an event stream up to its terminal event: `response.completed`, `.incomplete` or `.failed`, an error, or
    `[DONE]`. That event holds the usage, so that nothing more is expected after it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._read: list[bytes] = []
        self._size = 0
        self._given = 0
        """Bytes that were given out: the first so many of what was read."""
        self._cutter = sse.Cutter()
        self._terminal = self._clean = False

    def feed(self, chunk: bytes) -> bytes:
        self._size = _within_limit(self._size + len(chunk))
        self._read.append(chunk)
        whole = self._cutter.feed(chunk)
        if not whole or self._terminal:
            return b""
        if not _goes_on(whole):
            upto = 0
            for frame in sse.frames(whole):
                if not _goes_on(frame) and _ends(frame):
                    self._terminal = True
                    break
                upto += len(frame)
            whole = whole[:upto]
        self._given += len(whole)
        return whole

    def end(self) -> None:
        self._clean = True

    @property
    def ended(self) -> bool:
        return self._terminal or self._clean

    @property
    def done(self) -> bool:
        return self._terminal or self._clean

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
        return from_stream(data, self._call, ended=self.ended)


def _goes_on(events: bytes) -> bool:
    """Nothing in these events can end the reply. Searches for fixed bytes: this is what every relayed chunk costs.

    The names of events are plain ASCII, and nobody escapes that in JSON."""
    return not (
        b"completed" in events
        or b"incomplete" in events
        or b"failed" in events
        or b"cancelled" in events
        or b"error" in events
        or b"[DONE]" in events
    )


def _ends(frame: bytes) -> bool:
    for name, data in sse.events(frame):
        if data.startswith(b"[DONE]"):
            return True
        event = read_event(data)
        if event is None:
            continue
        kind = event.type if isinstance(event.type, str) else name.decode(errors="replace")
        if kind in TERMINAL or error_of(name, event):
            return True
    return False


def _within_limit(size: int) -> int:
    if size > LIMIT_BYTES:
        raise UpstreamReplyTooLarge(f"The upstream's reply is larger than {LIMIT_BYTES} bytes; ask for a shorter one.")
    return size
