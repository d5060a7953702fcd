"""The events of an upstream's stream -> those of the response under its own id, numbered by their places.

The last event is not the upstream's: it is written when the response is recorded. Of a background response the first
ones are not either: there is a stream of it before the upstream was asked.
"""

import re
from collections.abc import Mapping

import msgspec

from proxy.dialects.responses.native.items import encode, fields_of
from proxy.dialects.responses.native.rename import Renamer
from proxy.dialects.responses.native.replies import TERMINAL, Event, error_of, read_event
from proxy.dialects.responses.native.request import Asked, Object
from proxy.dialects.responses.reply import blank, failed
from proxy.dialects.responses.writer import CALLS, PARTS, Writer
from proxy.framing import sse

_OPENING = ("response.created", "response.queued", "response.in_progress")
_BEGINNINGS = ("response.output_item.added", "response.content_part.added")
_number = re.compile(rb'("sequence_number"[ \t]*:[ \t]*)(\d{1,15})(?=[ \t]*[,}])')


class Transcoder:
    """See `proxy.dialects.contract.Transcoder`."""

    def __init__(self, asked: Asked, id: str, created_at: int) -> None:
        self._asked, self._id, self._created_at = asked, id, created_at
        self._renamer = Renamer(id, {**asked.fixed, "output_text": ""})
        self._cutter = sse.Cutter()
        self._out = Writer()
        self._opened: frozenset[str] = frozenset()
        """The opening events that went out."""
        self._itemised = False
        """An item was told of."""
        self._growing: dict[int, dict[int, bool]] = {}
        """Of the items that are not done, by place: the parts that are not done, and whether their text is."""
        self._held: list[tuple[str, Event, bytes]] = []
        """Beginnings, until there is more: of what was only begun, a reply that is cut has nothing."""
        self._over = False

    def begin(self) -> bytes:
        """response.created, queued and in_progress of a background response; else the upstream's come."""
        return self._open() if self._asked.background else b""

    def feed(self, data: bytes) -> bytes:
        """The upstream's events up to its last one. What is no event of this API (pings, `[DONE]`) is left out."""
        whole = self._cutter.feed(data)
        if not whole or self._over:
            return b""
        made: list[bytes] = []
        for name, event in sse.events(whole):
            self._over = self._over or event.startswith(b"[DONE]")
            if self._over:
                break
            self._add(name, event, made)
        return b"".join(made)

    def settle(self, data: bytes, answer: Object) -> tuple[bytes, Object]:
        """See `proxy.dialects.contract.Transcoder`. The items stand in the answer at the places where they were
        streamed."""
        return self.feed(data), answer

    def end(self, answer: Object) -> bytes:
        """Items of which nothing was told, and the last event."""
        made = [self.feed(b"\n\n") if self._cutter.rest_bytes else b""]
        made.append(self._open())
        if not self._itemised:
            made += _items(self._out, answer)
        made += self._closed(answer)
        made.append(self._out.last(answer))
        return b"".join(made)

    def error(self, code: str, message: str) -> bytes:
        """The flat `error` event and response.failed."""
        made = [self._open()]
        made.append(self._out.event("error", {"code": code, "message": message, "param": None}))
        made.append(self._out.last(failed(self._blank("failed"), code, message)))
        return b"".join(made)

    def _open(self) -> bytes:
        """Those of the opening events that are missing."""
        if "response.in_progress" in self._opened:
            return b""
        made: list[bytes] = []
        queued = self._asked.background
        for name in _OPENING:
            if name not in self._opened and (queued or name != "response.queued"):
                status = "queued" if queued and name != "response.in_progress" else "in_progress"
                made.append(self._out.event(name, {"response": self._blank(status)}))
        self._opened = frozenset(_OPENING)
        return b"".join(made)

    def _blank(self, status: str) -> Object:
        return blank(self._asked, self._id, self._created_at, status)

    def _add(self, name: bytes, data: bytes, made: list[bytes]) -> None:
        event = read_event(data)
        if event is None:
            return
        kind = event.type if isinstance(event.type, str) else name.decode(errors="replace")
        if event.type is None and error_of(name, event):
            kind = "error"
        if kind in TERMINAL:
            self._over = True
            return
        if not kind or not kind.isprintable() or kind in self._opened:
            return
        if kind in _OPENING and (self._opened or kind == _OPENING[0]):
            self._opened |= {kind}
        else:
            made.append(self._open())
            if kind in _OPENING:
                return
        self._held.append((kind, event, data))
        if kind not in _BEGINNINGS:
            held, self._held = self._held, []
            made += [self._told(*each) for each in held]

    def _told(self, kind: str, event: Event, data: bytes) -> bytes:
        self._follow(kind, event)
        frame = b"event: %b\ndata: %b\n\n" % (kind.encode(), data.replace(b"\n", b"\ndata: "))
        return self._numbered(self._renamer.feed(frame))

    def _follow(self, kind: str, event: Event) -> None:
        at, part = event.output_index, event.content_index
        if type(at) is not int:
            return
        match kind:
            case "response.output_item.added":
                self._itemised, self._growing[at] = True, {}
            case "response.output_item.done":
                self._itemised = True
                self._growing.pop(at, None)
            case "response.content_part.added" if type(part) is int and at in self._growing:
                self._growing[at][part] = False
            case "response.content_part.done" if type(part) is int and at in self._growing:
                self._growing[at].pop(part, None)
            case _ if kind.endswith(".done") and at in self._growing:
                self._growing[at][part if type(part) is int else 0] = True

    def _closed(self, answer: Object) -> list[bytes]:
        """Ends the items of a stream that was cut, with what the answer has of them."""
        made: list[bytes] = []
        output = answer["output"]
        items = output if isinstance(output, list) else []
        for at, parts in sorted(self._growing.items()):
            item = items[at] if at < len(items) and isinstance(items[at], dict) else None
            if item is not None:
                made += _rest(self._out, at, item, parts)
        self._growing = {}
        return made

    def _numbered(self, frame: bytes) -> bytes:
        number = self._out.sequence
        self._out.sequence += 1
        if frame.count(b'"sequence_number"') == 1 and b'"response"' not in frame and (found := _number.search(frame)):
            # a quote in a text has a backslash before it, so that no text looks like a member
            if int(found[2]) == number:
                return frame
            return b"%b%d%b" % (frame[: found.start(2)], number, frame[found.end(2) :])
        head, _, data = frame.partition(b"\ndata: ")
        try:
            fields = fields_of(data[:-2].replace(b"\ndata: ", b"\n"))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # half a surrogate pair is in it
            return _number.sub(b"\\g<1>%d" % number, frame)
        fields["sequence_number"] = msgspec.Raw(b"%d" % number)
        return b"%b\ndata: %b\n\n" % (head, encode(fields))


def whole(response: Object) -> bytes:
    """Every event of a finished response."""
    out = Writer()
    nothing = dict.fromkeys(("completed_at", "error", "incomplete_details", "usage"))
    started = {**response, **nothing, "status": "in_progress", "output": [], "output_text": ""}
    made = [out.event(f"response.{name}", {"response": started}) for name in ("created", "in_progress")]
    return b"".join([*made, *_items(out, response), out.last(response)])


def _items(out: Writer, response: Object) -> list[bytes]:
    """The events of finished items; each text is one delta. Types that are not known here only come and are done."""
    made: list[bytes] = []
    items = response["output"]
    for at, item in enumerate(items if isinstance(items, list) else ()):
        if not isinstance(item, dict):
            continue
        place: Object = {"item_id": item.get("id"), "output_index": at}
        content = item.get("content") if item.get("type") in ("message", "reasoning") else None
        parts = content if isinstance(content, list) else []
        started = {**item, "status": "in_progress"} if "status" in item else dict(item)
        if parts:
            started["content"] = []
        member, event = CALLS.get(str(item.get("type")), ("", ""))
        if member:
            started[member] = ""
        made.append(out.event("response.output_item.added", {"output_index": at, "item": started}))
        for n, part in enumerate(parts):
            made += _part(out, {**place, "content_index": n}, part)
        if member:
            said = item.get(member)
            made += [out.event(f"{event}.delta", {**place, "delta": said})] if said else []
            made.append(out.event(f"{event}.done", {**place, member: said}))
        made.append(out.event("response.output_item.done", {"output_index": at, "item": item}))
    return made


def _rest(out: Writer, at: int, item: Object, parts: Mapping[int, bool]) -> list[bytes]:
    """What is missing of the events of an item that was told of in part. `parts`: see `Transcoder`."""
    made: list[bytes] = []
    place: Object = {"item_id": item.get("id"), "output_index": at}
    member, event = CALLS.get(str(item.get("type")), ("", ""))
    content = item.get("content")
    held = content if isinstance(content, list) else []
    if member and not parts.get(0):
        made.append(out.event(f"{event}.done", {**place, member: item.get(member)}))
    for n, done in sorted(parts.items()):
        if not member and n < len(held):
            where, part = {**place, "content_index": n}, held[n]
            made += [] if done else _grown(out, where, part, grows=False)
            made.append(out.event("response.content_part.done", {**where, "part": part}))
    return [*made, out.event("response.output_item.done", {"output_index": at, "item": item})]


def _part(out: Writer, place: Object, part: Object) -> list[bytes]:
    member = PARTS.get(str(part.get("type")), "")
    started = {**part, member: ""} if member else part
    made = [out.event("response.content_part.added", {**place, "part": started}), *_grown(out, place, part, grows=True)]
    return [*made, out.event("response.content_part.done", {**place, "part": part})]


def _grown(out: Writer, place: Object, part: Object, *, grows: bool) -> list[bytes]:
    """That the text of a part is there, and that it is whole; nothing of a part of another kind."""
    kind = str(part.get("type"))
    if kind not in PARTS:
        return []
    member = PARTS[kind]
    more: Object = {**place, "logprobs": part.get("logprobs") or []} if kind == "output_text" else place
    said = part.get(member)
    made = [out.event(f"response.{kind}.delta", {**more, "delta": said})] if said and grows else []
    return [*made, out.event(f"response.{kind}.done", {**more, member: said})]
