"""Responses, replies: a Response object or the events of a stream -> Reply.

What comes after a terminal event is not read. Where that event's response has no output, the items are those that the
stream told of; of a stream that was left, those that were done, and the texts of the one that was not.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import orjson

from proxy.conversation.message import Message
from proxy.conversation.reply import UNREADABLE, Reply
from proxy.dialects.contract import Call
from proxy.dialects.responses.native.items import Item, encode, fields_of, read_item
from proxy.dialects.responses.native.runs import joined, split
from proxy.errors import InvalidBody
from proxy.framing import sse

TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_FINISH = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""Reasons of an incomplete response, by the names that the house has for them."""


class _Response(msgspec.Struct):
    """A Response object; what stands in members of other names is skipped."""

    status: object = None
    model: object = None
    output: msgspec.Raw = msgspec.Raw()
    incomplete_details: object = None
    error: object = None
    usage: object = None
    service_tier: object = None


class Event(msgspec.Struct, gc=False):
    """An event of a stream, in which any member may be missing."""

    type: object = None
    response: msgspec.Raw = msgspec.Raw()
    item: msgspec.Raw = msgspec.Raw()
    output_index: object = None
    content_index: object = None
    delta: object = None
    error: object = None
    code: object = None


_response = msgspec.json.Decoder(_Response).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_event = msgspec.json.Decoder(Event).decode
_code = re.compile(r"[\w.:\- ]{1,64}").fullmatch


def from_body(body: bytes, call: Call) -> Reply:
    """A plain reply. A part of a body is no reply."""
    try:
        body.decode()
        read, output, body = _read(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Reply(None, whole=False)
    return _reply(read, output or (), call, ended=output is not None, original=body if output is not None else b"")


def from_stream(data: bytes, call: Call, *, ended: bool) -> Reply:
    """The reply that these events make, which may stop anywhere: `ended` says whether this is where they end."""
    draft = _drafted(data, pieces=False)
    if not draft.complete:
        draft = _drafted(data, pieces=True)
    if ended and not draft.over:
        # that it was in progress is what the first event said
        draft.response.status = None
    output, whole = draft.output(), ended and draft.began
    reply = _reply(draft.response, output, call, ended=whole, error=draft.error, original=draft.told(output))
    if whole and not reply.error and (reply.message is None or draft.broken) and _is_text(data):
        return msgspec.structs.replace(reply, message=None, whole=False, error=UNREADABLE)
    if not _is_text(data):
        return msgspec.structs.replace(reply, message=None, whole=False)
    return reply


def _drafted(data: bytes, *, pieces: bool) -> "Draft":
    """Without `pieces`, events that look like a piece of a text are passed over: a whole last event repeats them."""
    draft = Draft()
    for name, each in sse.events(data):
        if each.startswith(b"[DONE]"):
            break
        if not pieces and b'.delta"' in each:
            continue
        draft.add(name, each)
        if draft.over:
            break
    return draft


class Draft:
    """A streamed reply in the making."""

    def __init__(self) -> None:
        self.began = False
        """It is a stream of this API."""
        self.over = False
        """A terminal event was read."""
        self.broken = False
        """An event was cut JSON."""
        self.error = ""
        self.response = _Response()
        self._raw = b""
        """The response that was told of last."""
        self._whole: list[bytes] | None = None
        self._items: dict[int, bytes] = {}
        """By their place in the output, as they were last told."""
        self._open: dict[int, dict[tuple[str, object], list[str]]] = {}
        """Of the items that are not done: pieces by (type of event, part)."""

    @property
    def complete(self) -> bool:
        """The last event told of all that was said."""
        return self.over and bool(self._whole) and not self.error

    def add(self, name: bytes, data: bytes) -> None:
        event = read_event(data)
        if event is None:
            # some servers send a `ping` or a remark between events: no JSON object, and nothing of the reply
            self.broken = self.broken or data.lstrip().startswith(b"{")
            return
        if error := error_of(name, event):
            self.error, self.over = error, True
        kind = event.type if isinstance(event.type, str) else name.decode(errors="replace")
        self.began = self.began or kind.startswith("response.")
        if event.response and (kind in TERMINAL or kind == "response.created"):
            try:
                self.response, self._whole, self._raw = _read(bytes(event.response))
            except (msgspec.DecodeError, ValueError, RecursionError):
                self.broken = True
        if kind in TERMINAL:
            self.over = True
            if not isinstance(self.response.status, str) or self.response.status in ("in_progress", "queued"):
                self.response.status = kind.removeprefix("response.")
            return
        at = event.output_index if type(event.output_index) is int else len(self._items)
        if bytes(event.item).startswith(b"{"):
            if kind == "response.output_item.done":
                self._items[at] = bytes(event.item)
                self._open.pop(at, None)
            elif kind == "response.output_item.added":
                self._items[at] = bytes(event.item)
                self._open[at] = {}
        elif isinstance(event.delta, str) and at in self._open:
            part = event.content_index if type(event.content_index) is int else 0
            self._open[at].setdefault((kind, part), []).append(event.delta)

    def told(self, output: Sequence[bytes]) -> bytes:
        """The response with this output, b"" if there is nothing of it."""
        if not self._raw and not output:
            return b""
        held = fields_of(self._raw) if self._raw else {}
        return encode({**held, "output": [*map(msgspec.Raw, output)]})

    def output(self) -> list[bytes]:
        if self.over and self._whole:
            return self._whole
        items: list[bytes] = []
        for at in sorted(self._items):
            whole = self._items[at] if at not in self._open else _partial(self._items[at], self._open[at])
            if whole:
                items.append(whole)
        return items


def read_event(data: bytes) -> Event | None:
    """None if the data is no JSON object in UTF-8."""
    try:
        return _event(data)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None
    except msgspec.DecodeError:
        pass
    try:
        # half a surrogate pair is in it, or it is no JSON at all
        return _event(encode(_mended(json.loads(data.decode()))))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def error_of(name: bytes, event: Event) -> str:
    """The code or type of the error that an event tells of outside a response, "" if it tells of none."""
    if event.type == "error" or (event.type is None and name == b"error"):
        return _error(event.error) or _error({"code": event.code}) or "error"
    if event.type is None and event.error:
        return _error(event.error)
    return ""


def _reply(
    read: _Response, output: Iterable[bytes], call: Call, *, ended: bool, error: str = "", original: bytes = b""
) -> Reply:
    """`ended`: it is a reply, and all of it."""
    status = read.status if isinstance(read.status, str) else "completed" if ended else ""
    over = status not in ("in_progress", "queued")
    finish = _finish(status, read.incomplete_details) if over and status else ""
    error = error or _error(read.error) or ("error" if status in ("failed", "cancelled") else "")
    message = None
    if ended or output:
        message = compose(output, cut=not ended or status != "completed", call=call, silent=ended)
    usage = read.usage if isinstance(read.usage, dict) else {}
    return Reply(
        message,
        ended and over and message is not None and not error,
        finish,
        read.model if isinstance(read.model, str) else "",
        _natural(usage, "input_tokens"),
        _natural(usage, "output_tokens"),
        _natural(_inside(usage, "input_tokens_details"), "cached_tokens"),
        error,
        cache_write_tokens=_natural(_inside(usage, "input_tokens_details"), "cache_write_tokens"),
        reasoning_tokens=_natural(_inside(usage, "output_tokens_details"), "reasoning_tokens"),
        service_tier=read.service_tier if isinstance(read.service_tier, str) else "",
        original=original,
    )


def compose(output: Iterable[bytes], *, cut: bool, call: Call, silent: bool) -> Message | None:
    """The message that these items make, joined to the prefill; None if one of them could not be sent again.

    `cut`: the reply did not come to its own end; calls that may be incomplete are kept aside. `silent`: no items are a
    message that says nothing."""
    items: list[Item] = []
    try:
        if call.prefill is not None:
            items += [read_item(orjson.loads(raw), raw) for raw in split((call.prefill.wire,))]
        raws = list(output)
        for at, raw in enumerate(raws):
            value = orjson.loads(raw)
            item = read_item(value, raw, at, reply=True)
            if item.answers:
                # a result that the upstream made itself; it would be sent as the client's
                item = Item("assistant", True, b"", raw)
            if item.role != "assistant":
                return None
            if cut and item.calls and not _complete(value, last=at == len(raws) - 1):
                item = item._replace(wire=b"", shown=raw, calls=())
            items.append(item)
    except (InvalidBody, orjson.JSONDecodeError):
        return None
    return joined(items) if items or silent else None


def _complete(value: Mapping[str, object], *, last: bool) -> bool:
    """A call whose arguments are whole. A custom tool's input is free text, of which nobody can tell."""
    if value.get("status") in ("incomplete", "in_progress"):
        return False
    if value.get("type") != "function_call":
        return not last
    try:
        orjson.loads(str(value.get("arguments")))
    except orjson.JSONDecodeError:
        return False
    return True


def _partial(raw: bytes, pieces: Mapping[tuple[str, object], list[str]]) -> bytes:
    """An item that was begun, with what was said of it; b"" if that is nothing."""
    value = json.loads(raw)
    if not isinstance(value, dict) or not pieces:
        return b""
    if (payload := _CALLS.get(str(value.get("type")))) is not None:
        said = "".join(
            text for (kind, _), texts in pieces.items() if kind.endswith(f"{payload}.delta") for text in texts
        )
        return encode(_mended({**value, payload: said, "status": "incomplete"}))
    parts: list[dict[str, object]] = []
    for (kind, _), texts in pieces.items():
        text = "".join(texts)
        if kind == "response.output_text.delta":
            parts.append({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
        elif kind == "response.refusal.delta":
            parts.append({"type": "refusal", "refusal": text})
        elif kind == "response.reasoning_text.delta":
            parts.append({"type": "reasoning_text", "text": text})
    return encode(_mended({**value, "content": parts, "status": "incomplete"})) if parts else b""


def _read(body: bytes) -> tuple[_Response, list[bytes] | None, bytes]:
    """(the response, its output's items, its bytes)."""
    try:
        read = _response(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # half a surrogate pair is in it, or it is no JSON at all
        body = encode(_mended(json.loads(body.decode())))
        read = _response(body)
    return read, list(map(bytes, _raws(read.output))) if bytes(read.output).startswith(b"[") else None, body


def _mended(value: object) -> object:
    """Halves of surrogate pairs joined, and what stays alone replaced: no JSON parser would take it."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {str(_mended(name)): _mended(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_mended(each) for each in value]
    return value


def _finish(status: str, details: object) -> str:
    if status == "completed":
        return "stop"
    if status == "incomplete":
        reason = details.get("reason") if isinstance(details, dict) else None
        return _FINISH.get(reason, reason) if isinstance(reason, str) and _code(reason) else "length"
    return "error"


def _error(error: object) -> str:
    """The code or type of an error object, which may be no more than a text; never its message."""
    if not error:
        return ""
    if isinstance(error, dict):
        for name in ("code", "type", "status"):
            if (value := error.get(name)) and isinstance(value, str | int) and _code(str(value)):
                return str(value)
        if error.keys() == {"code"}:
            return ""
    return "error"


def _inside(held: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = held.get(name)
    return value if isinstance(value, dict) else {}


def _natural(held: Mapping[str, object], name: str) -> int:
    value = held.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else 0


def _is_text(data: bytes) -> bool:
    """What is not UTF-8 claims nothing: it is relayed as it is, like a page of HTML."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
