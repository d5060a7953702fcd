"""What the proxy itself says to an upstream that speaks Responses: texts added to items, and requests of its own."""

from collections.abc import Sequence

import msgspec
import orjson

from proxy.conversation.quirks import Quirks
from proxy.dialects.contract import Call
from proxy.dialects.responses.native.items import BLANK, encode, fields_of
from proxy.dialects.responses.native.runs import split
from proxy.dialects.responses.native.write import PROXYS, input_of, join_contents, object_of

_OF_THE_REPLY = frozenset(
    {"input", "stream", "stream_options", "text", "tool_choice", "max_output_tokens", "max_tool_calls", "include"}
    | {"metadata", "store", "top_logprobs", "context_management", "stop", "structured_outputs", "previous_response"}
    | {"request_id", "enable_response_messages", "moderation", *PROXYS}
)
"""Members that say what a reply shall be like, or what becomes of it. The others bear on what the model reads (tools
and instructions stand before the input in its prompt) or on how it samples."""


def said(role: str, text: str) -> bytes:
    """See `Dialect.said`."""
    return orjson.dumps({"type": "message", "role": role, "content": text})


def amended(wire: bytes, text: str, *, before: bool) -> bytes:
    """See `Dialect.amended`. Of a run, its first or last text is amended; one that has none gets one at its start,
    because a call must stand before its result."""
    items = split((wire,))
    spoken = [at for at, item in enumerate(items) if _member(fields_of(item))]
    if not spoken:
        return b",".join([said("assistant", text), *items])
    at = spoken[0] if before else spoken[-1]
    fields = fields_of(items[at])
    member = _member(fields)
    added = orjson.dumps(text)
    content = bytes(fields[member]) if member in fields else b"null"
    kind = "output_text" if bytes(fields.get("role", b"")) == b'"assistant"' else "input_text"
    whole = added if content in BLANK else join_contents([added, content] if before else [content, added], kind)
    items[at] = encode({**fields, member: msgspec.Raw(whole)})
    return b",".join(items)


def aside(call: Call) -> bytes:
    """See `Dialect.aside`."""
    members = {name: call.members.get(name) or b"null" for name in call.members.names() if name not in _OF_THE_REPLY}
    if members.get("tools", b"[]") not in BLANK:
        members["tool_choice"] = b'"none"'
    members["store"] = b"false"
    return object_of(members)


def ask(aside: bytes, preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks, model: str) -> bytes:
    """See `Dialect.ask`."""
    members = {name: bytes(raw) for name, raw in fields_of(aside).items()}
    if model:
        members["model"] = orjson.dumps(model)
    members["input"] = input_of(preamble, messages, quirks)
    return object_of(members)


def _member(fields: dict[str, msgspec.Raw]) -> str:
    """Where an item's text stands, "" for one that holds none."""
    kind = bytes(fields.get("type", b'"message"'))
    if kind == b'"message"':
        return "content"
    return "output" if kind in (b'"function_call_output"', b'"custom_tool_call_output"') else ""
