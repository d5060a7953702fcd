"""A line of an export: one message as JSON. Written by export, read by restore.

`session`, `tenant`, `entry`, `parent`, `turn`, `at`, `model`, `dialect`, `message` tell what was said. What else is
needed so that an import loses nothing stands beside them, and may be missing.
"""

from datetime import UTC, datetime

import msgspec

from proxy.dialects import DIALECTS
from proxy.dialects.responses.native import NATIVE

BY_NAME = {dialect.name: dialect for dialect in (*DIALECTS, NATIVE)}
"""The dialects in which messages are recorded."""

RUNS = frozenset({NATIVE.name})
"""Those in which a message may be a run of several items."""

NOTHING = msgspec.Raw()


class Line(msgspec.Struct, omit_defaults=True, kw_only=True):
    session: str
    tenant: str
    entry: str
    """The id of the entry; lines of one entry stand together."""
    parent: str
    """The id of the entry before, "" for a root. A parent stands before its children."""
    turn: int
    at: str
    """When the entry was recorded, ISO 8601 in UTC with milliseconds."""
    model: str
    dialect: str
    message: msgspec.Raw
    """The message in full. For a preamble, `null` says that it is empty."""
    preamble: bool = False
    """A message of the preamble that is in force from this entry on; it stands before the entry's own."""
    tokens: int = 0
    """As counted. Of a preamble, the first line holds the sum."""
    of: int = 0
    """How many messages the entry has, the preamble aside; 0: not said."""
    state: str = "whole"
    finish: str = ""
    estimated: int = 0
    reported: int = 0
    """As in `Facts`; on an entry's last line."""
    sent: msgspec.Raw = NOTHING
    """The form that goes upstream, where `message` holds more than that ..."""
    aside: msgspec.Raw = NOTHING
    """... and what it holds more."""


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Line).decode


def stamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unstamp(text: str) -> int:
    """Milliseconds since 1970. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def one(wire: bytes) -> bytes:
    """A message's bytes as one JSON value: those of a run of items are a list of them."""
    return wire if len(split(wire)) == 1 else b"[%b]" % wire


def of_one(value: bytes) -> bytes:
    """The bytes that `one` was given."""
    return value[1:-1] if value.startswith(b"[") else value


def on_one_line(wire: bytes) -> bytes:
    """JSON without line breaks: they can only stand between its tokens, where a space says the same."""
    return wire.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in wire or b"\r" in wire else wire


def split(wire: bytes) -> list[bytes]:
    """Messages' bytes joined by commas -> each one's."""
    return [bytes(raw) for raw in _raws(b"[%b]" % wire)]


_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
