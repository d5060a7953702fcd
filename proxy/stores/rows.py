"""An entry as one blob, so that a window of any length is one call to decode; a summary; and ids as they are stored."""

import msgspec

from proxy.conversation.entry import Entry
from proxy.conversation.summary import Summary

_Row = tuple[str, str, bytes, int, int, int, int, int, bool, bytes, bytes]
_Summary = tuple[str, str, int, str, int, int, str, str, int]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Row]).decode
_decode_summary = msgspec.msgpack.Decoder(_Summary).decode


def pack(entry: Entry) -> bytes:
    return _encode(
        (
            entry.id,
            entry.parent,
            entry.wire,
            entry.count,
            entry.upto,
            entry.tokens,
            entry.tokens_upto,
            entry.turn,
            entry.loose,
            entry.digest,
            entry.packed,
        )
    )


def unpack_all(count: int, joined: bytes) -> list[Entry]:
    """Of so many blobs, joined by nothing."""
    # as an array of as many, so that one call decodes them all
    return [Entry(*row) for row in _decode(b"\xdd%b%b" % (count.to_bytes(4, "big"), joined))]


def unpack_one(blob: bytes) -> Entry:
    return Entry(*_decode(b"\x91" + blob)[0])


def pack_summary(summary: Summary) -> bytes:
    return _encode(msgspec.structs.astuple(summary))


def unpack_summary(blob: bytes) -> Summary:
    return Summary(*_decode_summary(blob))


def key_of(id: str) -> bytes | None:
    """An entry's id as it is stored; None if no entry can have it."""
    try:
        key = bytes.fromhex(id)
    except ValueError:
        return None
    return key if len(key) == 16 and key.hex() == id else None
