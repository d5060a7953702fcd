"""One item of a conversation: its exact bytes, and what the house needs to know about it without its dialect."""

import hmac
from hashlib import blake2b

import msgspec
import orjson

VERSION = b"1"
"""Of the canonical form. A change of the form must change it, or old digests would match what they should not."""

DIGEST_BYTES = 16
ROOT_DIGEST = b""
"""The digest before the first message."""


class Media(msgspec.Struct, frozen=True, gc=False):
    """An image, a sound or a file inside a message."""

    kind: str
    """`image`, `audio` or `file`."""
    data: str
    """A URL, a data URL, base64 text, or an upstream's file id."""
    detail: str = ""
    """For images `low`, `high`, `auto` or nothing; for audio its format."""


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A call of a tool that an assistant message makes."""

    id: str
    name: str
    arguments: str
    """The JSON text as it came; it may have been cut off."""


class Message(msgspec.Struct, frozen=True):
    """One message as its dialect read it.

    `wire` is what goes upstream whenever the message is part of a context. For messages of a client these are the
    client's own bytes. For a reply it is the valid input form; what the reply held beyond that and is worth keeping
    (reasoning that must not be sent back, calls that were cut off) is in `aside`, a JSON object, or b"".
    """

    role: str
    """`system`, `developer`, `user`, `assistant` or `tool` (a legacy `function` message is a `tool` here)."""
    wire: bytes
    text: str = ""
    """All text that weighs: the text parts joined; for token counts and search."""
    media: tuple[Media, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    answers: str = ""
    """The id of the call that a tool message answers. A legacy function call has the id `function:<name>`."""
    aside: bytes = b""


class Shape(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What planning needs to know of one stored message, so that its bytes need not be decoded."""

    role: str
    size: int
    """Bytes of the message in the entry's `wire`."""
    tokens: int
    calls: tuple[str, ...] = ()
    """The ids of the calls that it makes."""
    answers: str = ""
    """The id of the call that it answers."""


def canonical(message: Message) -> bytes:
    """The form in which two renderings of the same message are equal, however an SDK changed them on the way.

    Role; text parts joined; media by hash; tool calls by id, name and arguments as parsed JSON (raw if they do not
    parse); the id of the call that is answered. Nothing else counts.
    """
    if not (message.media or message.calls or message.answers):
        return f"{message.role}\0{message.text}".encode()
    return orjson.dumps(
        [
            message.role,
            message.text,
            [[m.kind, blake2b(m.data.encode(), digest_size=16).hexdigest()] for m in message.media],
            [[c.id, c.name, _parsed(c.arguments)] for c in message.calls],
            message.answers,
        ],
        option=orjson.OPT_SORT_KEYS,
    )


def _parsed(arguments: str) -> object:
    try:
        return orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return ["unparsed", arguments]


def shape(message: Message, tokens: int) -> Shape:
    return Shape(message.role, len(message.wire), tokens, tuple(c.id for c in message.calls), message.answers)


def digest(key: bytes, before: bytes, message: Message) -> bytes:
    """HMAC(tenant key, version ‖ digest of the message before ‖ canonical message), 16 bytes."""
    return hmac.digest(key, VERSION + before.ljust(DIGEST_BYTES, b"\0") + canonical(message), "sha256")[:DIGEST_BYTES]
