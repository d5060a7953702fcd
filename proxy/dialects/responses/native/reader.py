"""Which event of a Responses stream ends the reply."""

from proxy.conversation.reply import Reply
from proxy.dialects.reading import StreamReader
from proxy.dialects.responses.native.replies import TERMINAL, error_of, from_stream, read_event
from proxy.framing import sse


class NativeStream(StreamReader):
    """The terminal event is `response.completed`, `.incomplete` or `.failed`, an error, or `[DONE]`. It holds the
    usage, so that nothing more is expected after it."""

    def free(self, events: bytes) -> int:
        if self._terminal:
            return 0
        if _goes_on(events):
            return len(events)
        upto = 0
        for frame in sse.frames(events):
            if not _goes_on(frame) and _ends(frame):
                self._terminal = self._marked = True
                break
            upto += len(frame)
        return upto

    def parse(self, data: bytes) -> Reply:
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
