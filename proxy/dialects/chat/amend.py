"""Chat Completions, what the proxy itself says: texts added to messages, and requests of its own."""

from collections.abc import Mapping, Sequence

import msgspec
import orjson

from proxy.conversation.quirks import Quirks
from proxy.dialects.chat.write import array, join_contents
from proxy.dialects.contract import Call

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

_EMPTY = (b"null", b'""', b"[]")

_OF_THE_REPLY = frozenset(
    {"messages", "stream", "stream_options", "n", "response_format", "tool_choice", "function_call", "stop"}
    | {"logprobs", "top_logprobs", "logit_bias", "audio", "modalities", "prediction", "store", "metadata"}
    | {"max_tokens", "max_completion_tokens", "echo", "add_generation_prompt", "continue_final_message"}
    | {"guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "best_of"}
)
"""Members that say what a reply shall be like, or what becomes of it. The others bear on what the model reads (tools
stand before the messages in its prompt) or on how it samples."""


def said(role: str, text: str) -> bytes:
    """See `Dialect.said`."""
    return orjson.dumps({"role": role, "content": text})


def amended(wire: bytes, text: str, *, before: bool) -> bytes:
    """See `Dialect.amended`."""
    fields = _fields(wire)
    added = orjson.dumps(text)
    content = bytes(fields["content"]) if "content" in fields else b"null"
    whole = added if content in _EMPTY else join_contents([added, content] if before else [content, added], "\n\n")
    return _encode({**fields, "content": msgspec.Raw(whole)})


def aside(call: Call) -> bytes:
    """See `Dialect.aside`."""
    members = {name: call.members.get(name) or b"null" for name in call.members.names() if name not in _OF_THE_REPLY}
    if members.get("tools", b"[]") not in _EMPTY:
        members["tool_choice"] = b'"none"'
    if members.get("functions", b"[]") not in _EMPTY:
        members["function_call"] = b'"none"'
    return _object(members)


def ask(aside: bytes, preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks, model: str) -> bytes:
    """See `Dialect.ask`."""
    members = {name: bytes(raw) for name, raw in _fields(aside).items()}
    if model:
        members["model"] = orjson.dumps(model)
    members["messages"] = array(preamble, messages, quirks)
    return _object(members)


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(b"%b:%b" % (orjson.dumps(name), raw) for name, raw in members.items())
