"""Chat Completions, recorded: a reply's members -> the message in its valid input form, and what is kept beside it.

The valid input form is `ChatCompletionAssistantMessageParam` of the public SDK, with what other providers take back:
Gemini's `extra_content`, OpenRouter's `images`, and for turns with tool calls the reasoning members (DeepSeek, and
Anthropic's and Google's models through OpenRouter, refuse such a turn without them).
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec
import orjson

from proxy.conversation.message import Message
from proxy.dialects.chat.read import read_message
from proxy.dialects.chat.write import join_contents
from proxy.errors import InvalidBody

_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_value = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks")
"""Members that hold reasoning, by the names that providers gave them. They never count for what a message says."""
_TAKEN_BACK = ("images", "extra_content")
_BLANK = frozenset((b"null", b'""', b"[]", b"{}", b"false"))
"""Values that say nothing."""
_HANDLED = frozenset({"tool_calls", "function_call", "audio", "role", "parsed", "index"})
"""Members that are looked at by themselves, or that are no input and say nothing new."""
_OF_PREFILL_ONLY = frozenset({"role", "content", "prefix", "partial", "tool_calls", "function_call", *REASONING})
"""Members of a prefill that are joined to the reply's, or that only make sense on the last message."""


def compose(fields: Mapping[str, bytes], *, cut: bool, prefill: bytes = b"") -> Message | None:
    """The message that a reply with these raw members makes; None if they make none.

    `cut`: the reply did not come to its own end; calls whose arguments do not parse are kept aside. `prefill` is the
    message that the reply continues.
    """
    wire: dict[str, bytes] = {"role": b'"assistant"', "content": b""}
    aside: dict[str, bytes] = {}
    calls, lost = _calls(fields["tool_calls"], cut) if "tool_calls" in fields else ([], [])
    legacy, audio = fields.get("function_call", b"null"), fields.get("audio", b"null")
    for name, raw in fields.items():
        if raw in _BLANK or name in _HANDLED:
            continue
        if name == "content":
            if raw.startswith((b'"', b"[")):
                wire["content"] = raw
            else:
                aside[name] = raw
        elif name in _TAKEN_BACK or (name == "refusal" and raw.startswith(b'"')):
            wire[name] = raw
        else:
            aside[name] = raw
    if calls:
        wire["tool_calls"] = b"[%b]" % b",".join(calls)
    if lost:
        aside["tool_calls"] = b"[%b]" % b",".join(lost)
    if legacy.startswith(b"{"):
        (aside if cut and not _complete(_value(legacy), "arguments") else wire)["function_call"] = legacy
    if audio.startswith(b"{"):
        _audio(_fields(audio), wire, aside)
    if "tool_calls" in wire or "function_call" in wire:
        wire |= {name: aside.pop(name) for name in REASONING if name in aside}
    if prefill:
        _continue(prefill, wire, aside)
    if not wire["content"]:
        # null is only valid beside something else that was said
        something = "tool_calls" in wire or "function_call" in wire or "audio" in wire
        wire["content"] = b"null" if something and fields.get("content", b"null") == b"null" else b'""'
    made = _object(wire)
    try:
        message = read_message(orjson.loads(made), made)
    except (InvalidBody, orjson.JSONDecodeError):
        return None
    return msgspec.structs.replace(message, aside=_object(aside)) if aside else message


def settle(message: Message, *, tool_turn: bool) -> Message:
    """See `Dialect.settle`."""
    if not tool_turn or not message.aside:
        return message
    wire, aside = _fields(message.wire), _fields(message.aside)
    moved = {name: bytes(aside.pop(name)) for name in REASONING if name in aside and name not in wire}
    if not moved:
        return message
    return msgspec.structs.replace(
        message,
        wire=_object({name: bytes(raw) for name, raw in wire.items()} | moved),
        aside=_encode(aside) if aside else b"",
    )


def full(wire: bytes, aside: bytes) -> bytes:
    """See `Dialect.full`."""
    if not aside:
        return wire
    whole, more = _fields(wire), _fields(aside)
    for name, raw in more.items():
        if name not in whole or bytes(whole[name]) in _BLANK:
            whole[name] = raw
        elif name == "tool_calls":
            whole[name] = msgspec.Raw(_encode(_raws(whole[name]) + _raws(raw)))
        elif name == "audio":
            whole[name] = msgspec.Raw(_encode(_fields(whole[name]) | _fields(raw)))
    return _encode(whole)


def _calls(raw: bytes, cut: bool) -> tuple[list[bytes], list[bytes]]:
    """(calls in the form in which they are sent, calls that were cut off). A call that needs no change keeps its
    bytes."""
    if not raw.startswith(b"["):
        return [], []
    calls: list[bytes] = []
    lost: list[bytes] = []
    for each in _raws(raw):
        call = _value(each)
        if not isinstance(call, dict):
            continue
        changed = call.pop("index", None) is not None
        if "id" in call and call["id"] is None:
            del call["id"]
            changed = True
        kind = "custom" if "custom" in call else "function"
        if call.get("type") is None and kind in call:
            call["type"], changed = kind, True
        body = call.get(kind)
        if isinstance(body, dict) and kind == "function" and not isinstance(arguments := body.get("arguments"), str):
            # servers that pass the model's own form on; as input it must be a string
            body["arguments"], changed = "" if arguments is None else _encode(arguments).decode(), True
        made = _encode(call) if changed else bytes(each)
        whole = not cut or not isinstance(body, dict) or _complete(body, "arguments" if kind == "function" else "input")
        (calls if whole else lost).append(made)
    if cut and calls and not lost and b'"custom"' in calls[-1] and "custom" in _value(calls[-1]):
        lost.append(calls.pop())
    return calls, lost


def _complete(body: object, argument: str) -> bool:
    """The arguments are whole. A custom tool's input is free text, of which nobody can tell."""
    arguments = body.get(argument) if isinstance(body, dict) else None
    if argument == "input":
        return True
    if not isinstance(arguments, str):
        return isinstance(arguments, dict)
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True


def _audio(audio: dict[str, msgspec.Raw], wire: dict[str, bytes], aside: dict[str, bytes]) -> None:
    id = bytes(audio.get("id", b""))
    if id.startswith(b'"') and id != b'""':
        wire["audio"] = b'{"id":%b}' % id
    # the sound itself is large and can be heard by its id; what was said in it is worth keeping
    kept = {name: bytes(raw) for name, raw in audio.items() if name not in ("id", "data") and bytes(raw) not in _BLANK}
    if kept:
        aside["audio"] = _object(kept)


def _continue(prefill: bytes, wire: dict[str, bytes], aside: dict[str, bytes]) -> None:
    before = {name: bytes(raw) for name, raw in _fields(prefill).items()}
    for place, name in ((wire, "content"), *((wire if name in wire else aside, name) for name in REASONING)):
        first, then = before.get(name, b"null"), place.get(name, b"")
        if first in _BLANK:
            continue
        place[name] = join_contents([first, then], "") if then else first
    for name, raw in before.items():
        if name not in _OF_PREFILL_ONLY and raw not in _BLANK:
            wire.setdefault(name, raw)


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join([b"%b:%b" % (_quoted(name), raw) for name, raw in members.items()])


@lru_cache(maxsize=256)
def _quoted(name: str) -> bytes:
    return orjson.dumps(name)
