"""Which event of a Chat Completions stream ends the reply."""

import re

from proxy.conversation.reply import Reply
from proxy.dialects.chat.deltas import Draft, error_of, read_event
from proxy.dialects.contract import Call
from proxy.dialects.reading import StreamReader
from proxy.framing import sse

_FINISH = b'"finish_reason"'
_UNFINISHED = re.compile(rb'\s*:\s*(?:null|"")').match


class ChatStream(StreamReader):
    """The terminal event is the one whose finish reason completes the last of the choices that were asked for, one that
    holds an error object, or `[DONE]`.

    A server that puts a finish reason into every event has its whole reply held, which is late but right.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._draft = Draft(call)
        self._finished: set[int] = set()

    def free(self, events: bytes) -> int:
        upto = 0
        if not self._terminal:
            if _goes_on(events):
                return len(events)
            suspect = _suspect(events)
            # everything before the event that the suspect place is in may go
            before = events.rfind(b"\n\n", 0, suspect)
            upto = before + 2 if before >= 0 else 0
            for frame in sse.frames(events[upto:]):
                if not _goes_on(frame):
                    self._look(frame)
                    if self._terminal:
                        break
                upto += len(frame)
        if not self._marked and b"[DONE]" in (rest := events[upto:]):
            for frame in sse.frames(rest):
                self._look(frame)
        return upto

    def take(self, events: bytes) -> None:
        self._draft.read(events)

    def parse(self, data: bytes) -> Reply:
        return self._draft.reply(data, ended=self.ended)

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
