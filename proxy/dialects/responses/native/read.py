"""A Responses request's body -> Call, whose messages are items of its `input`."""

import orjson

from proxy.conversation.message import Message
from proxy.dialects.contract import Call
from proxy.dialects.responses.native.runs import read_list
from proxy.errors import InvalidBody
from proxy.framing.members import Members

_GOES_ON = ("previous_response_id", "conversation", "conversation_id", "prompt")
"""With one of these a request may be without input."""
_WEIGHS = ("instructions", "tools", "text", "prompt")


def read(body: bytes) -> Call:
    """See `Dialect.read`. `instructions` are not part of the history: they stay where they are.

    An `input` that ends with what the model said is gone on with. It may not end with a call that nothing answers:
    OpenAI refuses that, too."""
    members = Members(body)
    get = members.get
    raw = get("input") or b"null"
    if raw == b"null":
        messages: list[Message] = []
    elif raw.startswith(b'"'):
        messages = [Message("user", said_by_user(raw), orjson.loads(raw))]
    else:
        messages = read_list(raw)
    if not messages and all(get(name) in (None, b"null") for name in _GOES_ON):
        raise InvalidBody("The body has no `input`; send your new message.", param="input")
    lead = 0
    while lead < len(messages) and messages[lead].role in ("system", "developer"):
        lead += 1
    prefill = messages.pop() if messages and messages[-1].role == "assistant" else None
    if prefill is not None and prefill.calls:
        call = prefill.calls[0].id[:80]
        raise InvalidBody(f"No tool output found for the call '{call}'; send its output behind it.", param="input")
    return Call(
        members=members,
        model=_model(get("model")),
        stream=get("stream") == b"true",
        choices=1,
        preamble=tuple(messages[:lead]),
        messages=tuple(messages[lead:] if lead else messages),
        prefill=prefill,
        reserve=_count(get("max_output_tokens")),
        overhead=b"".join([get(name) or b"" for name in _WEIGHS]),
    )


def said_by_user(content: bytes) -> bytes:
    """The item that an `input` which is a string stands for."""
    return b'{"type":"message","role":"user","content":%b}' % content


def _model(raw: bytes | None) -> str:
    if raw is None or raw == b"null":
        return ""
    if not raw.startswith(b'"'):
        raise InvalidBody("`model` is not a string; name the model.", param="model")
    return str(orjson.loads(raw)) if b"\\" in raw else raw[1:-1].decode()


def _count(raw: bytes | None) -> int | None:
    """A positive whole number of sensible size; anything else is None."""
    return (int(raw) or None) if raw is not None and raw.isdigit() and len(raw) < 16 else None
