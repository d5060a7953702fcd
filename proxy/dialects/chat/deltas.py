"""Chat Completions, replies: a plain body or the events of a stream -> Reply.

Only the first choice (index 0) is read. Of an unknown member of a delta strings are joined and lists extended (see
`fold`); it is kept aside. What comes after `[DONE]` is not read, as clients do not read it.
"""

import json
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from proxy.conversation.message import Message
from proxy.conversation.reply import UNREADABLE, Calls, Parts, Pieces, Reply, fold, joined
from proxy.dialects.chat.compose import compose
from proxy.dialects.contract import Call
from proxy.framing import sse

_encode = msgspec.json.Encoder().encode


class _Choice(msgspec.Struct):
    index: object = 0
    message: dict[str, msgspec.Raw] | None = None
    finish_reason: object = None
    logprobs: object = None


class _Body(msgspec.Struct):
    """A plain reply; what stands in members of other names is skipped."""

    choices: list[_Choice] | None = None
    model: object = None
    usage: object = None
    error: object = None
    service_tier: object = None


class _Delta(msgspec.Struct):
    index: object = 0
    delta: object = None
    message: object = None
    finish_reason: object = None
    usage: object = None
    logprobs: object = None


class Event(msgspec.Struct):
    """An event of a stream, in which any member may be missing."""

    choices: list[_Delta] | None = None
    model: object = None
    usage: object = None
    error: object = None
    x_groq: object = None
    service_tier: object = None


class _TextDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str
    role: str | None = None
    refusal: None = None


class _TextChoice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    delta: _TextDelta
    index: Literal[0] = 0
    logprobs: None = None
    finish_reason: None = None
    stop_reason: None = None


class _TextEvent(msgspec.Struct, gc=False):
    """What nearly every event of a stream is: a piece of text and nothing else that counts."""

    choices: tuple[_TextChoice]
    model: str = ""
    usage: None = None
    error: None = None
    x_groq: None = None
    service_tier: str | None = None


class Usage(msgspec.Struct, frozen=True):
    """Token counts; 0 for what is missing or senseless."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0


_text_event = msgspec.json.Decoder(_TextEvent).decode
_body = msgspec.json.Decoder(_Body).decode
_event = msgspec.json.Decoder(Event).decode
_code = re.compile(r"[\w.:\- ]{1,64}").fullmatch

_CUT = frozenset({"", "length", "model_length", "max_tokens", "content_filter", "error"})
"""Finish reasons after which a call's arguments may be incomplete; "": none came."""


def from_body(body: bytes, call: Call) -> Reply:
    """A plain reply. Its members keep their raw bytes where they are valid input. A part of a body is no completion."""
    try:
        if not body.isascii():
            body.decode()
        read = _read_body(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Reply(None, whole=False)
    message, finish = None, ""
    logprobs: list[dict[str, object]] = []
    if read.choices:
        choice = next((each for each in read.choices if each.index == 0), read.choices[0])
        finish = _string(choice.finish_reason)
        logprobs = _logprobs(choice.logprobs)
        if choice.message is not None:
            raw = {name: bytes(each) for name, each in choice.message.items()}
            message = compose(raw, cut=finish in _CUT, prefill=_prefill(call))
    error = _error(read.error) or ("error" if finish == "error" else "")
    whole = message is not None and not error
    return _reply(message, whole, finish, read.model, _counts(read.usage), error, read.service_tier, logprobs)


def _reply(
    message: Message | None,
    whole: bool,
    finish: str,
    model: object,
    usage: Usage,
    error: str,
    service_tier: object,
    logprobs: list[dict[str, object]],
) -> Reply:
    return Reply(
        message,
        whole,
        finish,
        _string(model),
        usage.prompt,
        usage.completion,
        usage.cached,
        error,
        usage.written,
        usage.reasoning,
        _string(service_tier),
        tuple(logprobs),
    )


def _is_text(data: bytes) -> bool:
    """What is not UTF-8 claims nothing: it is relayed as it is, like a page of HTML."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class Draft:
    """A streamed reply in the making, which may stop anywhere."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._over = False
        self.chosen = False
        """A choice was seen: this is a completion."""
        self.broken = False
        """An event was cut JSON, or of a shape that no completion has."""
        self.finish = self.model = self.error = self.service_tier = ""
        self.usage = Usage()
        self.logprobs: list[dict[str, object]] = []
        self._content = Parts()
        self._calls = Calls()
        self._others: dict[str, object] = {}

    def read(self, data: bytes) -> None:
        """Takes the next events."""
        texts: list[str] = []
        for name, event in sse.events(data) if not self._over else ():
            if not name:
                try:
                    text = _text_event(event)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    pass  # it is another event, and is read as such
                else:
                    texts.append(text.choices[0].delta.content)
                    self.model = text.model or self.model
                    self.service_tier = text.service_tier or self.service_tier
                    continue
            if event.startswith(b"[DONE]"):
                self._over = True
                break
            self.add_texts(texts)
            self.add(name, event)
        self.add_texts(texts)

    def reply(self, data: bytes, *, ended: bool) -> Reply:
        """The reply that these events make: `ended` says whether this is where they end. `data`: all of
        them."""
        message = None
        if self.chosen and not self.broken:
            fields = self.fields()
            if ended or any(raw not in (b'""', b"[]") for raw in fields.values()):
                message = compose(fields, cut=not ended or self.finish in _CUT, prefill=_prefill(self._call))
        error = self.error or ("error" if self.finish == "error" else "")
        if not error and ended and self.chosen and message is None and _is_text(data):
            error = UNREADABLE
        whole = ended and message is not None and not error
        return _reply(message, whole, self.finish, self.model, self.usage, error, self.service_tier, self.logprobs)

    def add_texts(self, texts: list[str]) -> None:
        """Takes pieces of text that were read from events which held nothing else; leaves the list empty."""
        if texts:
            self.chosen = True
            self._content.add("".join(texts))
            texts.clear()

    def add(self, name: bytes, data: bytes) -> None:
        event = read_event(data)
        if event is None:
            # some servers send a `ping` or a remark between events: no JSON object, and nothing of the reply
            self.broken = self.broken or data.lstrip().startswith(b"{")
            return
        if error := error_of(name, data, event):
            self.error = self.error or error
        if event.model:
            self.model = _string(event.model)
        if event.service_tier:
            self.service_tier = _string(event.service_tier)
        if event.usage:
            self.usage = _counts(event.usage)
        elif isinstance(event.x_groq, dict) and (usage := event.x_groq.get("usage")):
            self.usage = _counts(usage)
        for choice in event.choices or ():
            if choice.index not in (0, None):
                continue
            if choice.finish_reason:
                self.finish = _string(choice.finish_reason)
            if choice.usage:
                self.usage = _counts(choice.usage)
            if choice.logprobs:
                self.logprobs += _logprobs(choice.logprobs)
            delta = choice.delta if choice.delta is not None else choice.message
            if isinstance(delta, dict):
                self.chosen = True
                self._add(delta)

    def _add(self, delta: dict[str, object]) -> None:
        for member, value in delta.items():
            if value is None or member == "role":
                continue
            if member == "content":
                self._content.add(value)
            elif member == "tool_calls":
                for call in value if isinstance(value, list) else ():
                    if isinstance(call, dict):
                        self._calls.add(call)
            elif member == "function_call" and isinstance(value, dict):
                held = self._others.setdefault(member, {"name": Pieces()})
                fold(held, {**value, "name": None})
                if isinstance(held, dict) and isinstance(names := held["name"], Pieces) and value.get("name"):
                    names.append(_string(value["name"]))
            elif member == "audio" and isinstance(value, dict):
                # the sound is not kept, see compose
                value.pop("data", None)
                self._others[member] = fold(self._others.get(member), value)
            else:
                self._others[member] = fold(self._others.get(member), value)

    def fields(self) -> dict[str, bytes]:
        """The message's members, as a plain reply would have them."""
        fields: dict[str, object] = {}
        if self._content.value is not None:
            fields["content"] = self._content.value
        fields |= self._others
        if calls := self._calls.whole():
            fields["tool_calls"] = calls
        return {name: _dumped(joined(value)) for name, value in fields.items()}


def read_event(data: bytes) -> Event | None:
    """None if the data is no JSON in UTF-8, or of another shape than an event of this dialect."""
    try:
        return _event(data)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None
    except msgspec.DecodeError:
        pass
    try:
        # there are servers that cut a surrogate pair in two; the halves are joined when all is read
        return msgspec.convert(json.loads(data.decode()), Event)
    except (ValueError, RecursionError):
        return None


def error_of(name: bytes, data: bytes, event: Event) -> str:
    """The code or type of the error that an event tells of, "" if it tells of none."""
    if event.error:
        return _error(event.error)
    if name == b"error" and event.choices is None:
        return _error(json.loads(data))
    return ""


def _read_body(body: bytes) -> _Body:
    try:
        return _body(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # half a surrogate pair is in it, or it is no JSON at all
        return _body(_dumped(json.loads(body.decode())))


def _dumped(value: object) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(_mended(value))


def _mended(value: object) -> object:
    """Halves of surrogate pairs joined, and what stays alone replaced: no JSON parser would take it."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {str(_mended(name)): _mended(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_mended(each) for each in value]
    return value


def _prefill(call: Call) -> bytes:
    """vLLM's `echo` repeats the prefill in the reply."""
    return call.prefill.wire if call.prefill is not None and call.members.get("echo") != b"true" else b""


def _counts(usage: object) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    prompt, completion = _details(usage, "prompt_tokens_details"), _details(usage, "completion_tokens_details")
    return Usage(
        _natural(usage, "prompt_tokens"),
        _natural(usage, "completion_tokens"),
        _natural(prompt, "cached_tokens") or _natural(usage, "prompt_cache_hit_tokens"),
        _natural(prompt, "cache_write_tokens"),
        _natural(completion, "reasoning_tokens") or _natural(usage, "reasoning_tokens"),
    )


def _details(usage: dict[str, object], name: str) -> dict[str, object]:
    held = usage.get(name)
    return held if isinstance(held, dict) else {}


def _logprobs(held: object) -> list[dict[str, object]]:
    """Those of the text; a refusal's are not kept."""
    listed = held.get("content") if isinstance(held, dict) else None
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _natural(held: Mapping[str, object], name: str) -> int:
    value = held.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else 0


def _error(error: object) -> str:
    """The code or type of an error object, which may be no more than a text; never its message."""
    if not error:
        return ""
    if isinstance(error, dict):
        for name in ("code", "type", "status"):
            if (value := error.get(name)) and isinstance(value, str | int) and _code(str(value)):
                return str(value)
    return "error"


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
