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

_FINISH = b'"finish_reason"'
_UNFINISHED = re.compile(rb'\s*:\s*(?:null|"")').match


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
            if _goes_on(whole):
                self._given += len(whole)
                return whole
            suspect = _suspect(whole)
            # everything before the event that the suspect place is in may go
            upto = whole.rfind(b"\n\n", 0, suspect)
            upto = 0 if upto < 0 else upto + 2
            for frame in sse.frames(whole[upto:]):
                if not _goes_on(frame):
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
    """Nothing in these events can end the reply. Searches for fixed bytes: this is what every relayed chunk costs."""
    if b"[DONE]" in events or b'"error"' in events or b"event:" in events:
        return False
    marks = events.count(_FINISH)
    return (
        not marks
        or marks == events.count(b'"finish_reason":null')
        or marks == events.count(b'"finish_reason": null')
        or _finish(events) < 0
    )


def _suspect(events: bytes) -> int:
    """The first place in these events that may end the reply; they do not go on."""
    places = (events.find(b"[DONE]"), events.find(b'"error"'), events.find(b"event:"), _finish(events))
    return min(at for at in places if at >= 0)


def _finish(events: bytes) -> int:
    """Where the first finish reason stands, -1 if there is none."""
    at = events.find(_FINISH)
    while at >= 0 and _UNFINISHED(events, at + len(_FINISH)):
        at = events.find(_FINISH, at + 1)
    return at


def _within_limit(size: int) -> int:
    if size > LIMIT_BYTES:
        raise UpstreamReplyTooLarge(f"The upstream's reply is larger than {LIMIT_BYTES} bytes; ask for a shorter one.")
    return size
