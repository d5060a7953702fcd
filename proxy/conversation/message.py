"""One item of a conversation: its exact bytes, and what the house needs to know about it without its dialect."""

import json
import re
from collections.abc import Callable
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
    """`image`, `audio` or `file`; of a part that this house does not know, its own type."""
    data: str
    """A URL, a data URL, base64 text, an upstream's file id, or an unknown part as JSON."""
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
    parse, or are nested deeper than 200 levels); the id of the call that is answered. Nothing else counts.
    """
    if not (message.media or message.calls or message.answers):
        return f"{message.role}\0{message.text}".encode()
    try:
        return _canonical(message, _parsed)
    except orjson.JSONEncodeError:
        # nested deeper than can be written
        return _canonical(message, lambda arguments: ["unparsed", arguments])


def _canonical(message: Message, parsed: Callable[[str], object]) -> bytes:
    return orjson.dumps(
        [
            message.role,
            message.text,
            [[m.kind, blake2b(m.data.encode(), digest_size=16).hexdigest()] for m in message.media],
            [[c.id, c.name, parsed(c.arguments)] for c in message.calls],
            message.answers,
        ],
        option=orjson.OPT_SORT_KEYS,
    )


def _parsed(arguments: str) -> object:
    try:
        value: object = orjson.loads(arguments)
        if _UNSTABLE(arguments):
            value = json.loads(arguments, parse_float=_number, parse_int=_integer)
    except (ValueError, RecursionError):
        return ["unparsed", arguments]
    return value


_UNSTABLE = re.compile(r"\d[.eE]|\d{19}").search
"""Numbers that SDKs write in other ways (JavaScript makes 1.0 a 1), or that a quick parser would round."""


def _integer(text: str) -> object:
    return int(text) if len(text) < 19 else ["integer", text]


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def shape(message: Message, tokens: int) -> Shape:
    return Shape(message.role, len(message.wire), tokens, tuple(c.id for c in message.calls), message.answers)


def digest(key: bytes, before: bytes, message: Message) -> bytes:
    """MAC(tenant key, version ‖ digest of the message before ‖ canonical message), 16 bytes.

    The MAC is keyed BLAKE2b (RFC 7693), which is a quarter of the price of an HMAC. `key` has at most 64 bytes.
    """
    data = VERSION + before.ljust(DIGEST_BYTES, b"\0") + canonical(message)
    return blake2b(data, key=key, digest_size=DIGEST_BYTES).digest()
