"""Chat Completions, read along: the bytes of a reply -> what may be relayed now, and the Reply.

A stream is not parsed as it comes: events are only searched for what may end the reply, and parsed once, at the end.
"""

import re

from proxy.conversation.reply import Reply
from proxy.dialects.chat.deltas import error_of, from_body, from_stream, read_event
from proxy.dialects.contract import Call
from proxy.errors import UpstreamReplyTooLarge
from proxy.framing import sse

LIMIT_BYTES = 64 * 1024 * 1024

_MAY_END = re.compile(rb'"finish_reason"(?!\s*:\s*(?:null|""))|\[DONE\]|"error"(?!\s*:\s*null)|event:\s*error').search


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

    def release(self) -> bytes:
        held = b"" if self._released else b"".join(self._read)
        self._released = True
        return held

    def reply(self) -> Reply:
        return from_body(b"".join(self._read), self._call)


class StreamReader:
    """Relays an event stream up to its first terminal event: the one whose finish reason completes the last of the
    choices that were asked for, one that holds an error object, or `[DONE]`.

    A server that puts a finish reason into every event has its whole reply held, which is late but right.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._read: list[bytes] = []
        self._size = 0
        self._given = 0
        """Bytes that were given out: the first so many of what was read."""
        self._cutter = sse.Cutter()
        self._finished: set[int] = set()
        self._terminal = self._marked = self._clean = False

    def feed(self, chunk: bytes) -> bytes:
        self._size = _within_limit(self._size + len(chunk))
        self._read.append(chunk)
        whole = self._cutter.feed(chunk)
        if not whole:
            return b""
        if not self._terminal:
            if not _suspect(whole):
                self._given += len(whole)
                return whole
            upto = 0
            for frame in sse.frames(whole):
                if _suspect(frame):
                    self._look(frame)
                    if self._terminal:
                        break
                upto += len(frame)
            self._given += upto
            whole, rest = whole[:upto], whole[upto:]
        else:
            whole, rest = b"", whole
        if not self._marked and b"[DONE]" in rest:
            for frame in sse.frames(rest):
                self._look(frame)
        return whole

    def _look(self, frame: bytes) -> None:
        for name, data in sse.events(frame):
            if data.startswith(b"[DONE]"):
                self._terminal = self._marked = True
                return
            event = read_event(data)
            if event is None:
                continue
            for choice in event.choices or ():
                if choice.finish_reason:
                    self._finished.add(choice.index if isinstance(choice.index, int) else 0)
            if error_of(name, data, event) or len(self._finished) >= self._call.choices:
                self._terminal = True

    def end(self) -> None:
        self._clean = True

    @property
    def ended(self) -> bool:
        return self._terminal or self._clean

    @property
    def done(self) -> bool:
        return self._marked or self._clean

    def release(self) -> bytes:
        held = b"".join(self._read)[self._given :]
        self._given = self._size
        return held

    def reply(self) -> Reply:
        data = b"".join(self._read)
        if not self._clean and self._cutter.rest_bytes:
            data = data[: -self._cutter.rest_bytes]
        return from_stream(data, self._call, ended=self.ended)


def _suspect(events: bytes) -> bool:
    """Something in these events may end the reply. The first line spares nearly every event the slower search."""
    if (
        events.count(b'"finish_reason"') == events.count(b'"finish_reason":null')
        and b"[DONE]" not in events
        and b'"error"' not in events
        and b"event" not in events
    ):
        return False
    return _MAY_END(events) is not None


def _within_limit(size: int) -> int:
    if size > LIMIT_BYTES:
        raise UpstreamReplyTooLarge(f"The upstream's reply is larger than {LIMIT_BYTES} bytes; ask for a shorter one.")
    return size
