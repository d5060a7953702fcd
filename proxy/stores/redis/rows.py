"""What is kept, as bytes: entries and summaries; facts; replays; and the members of the list of refs."""

import struct
from collections.abc import Sequence

import msgspec

from proxy.conversation.entry import Entry, Facts, Preamble
from proxy.conversation.summary import Summary
from proxy.stores.contract import Ref, Replay
from proxy.stores.rows import key_of, pack, pack_summary, unpack_all, unpack_one, unpack_summary

__all__ = [
    "UNANCHORED",
    "key_of",
    "label_prefix",
    "member",
    "pack",
    "pack_facts",
    "pack_ident",
    "pack_preamble",
    "pack_ref",
    "pack_replay",
    "pack_summary",
    "span",
    "unpack",
    "unpack_facts",
    "unpack_ident",
    "unpack_label",
    "unpack_member",
    "unpack_one",
    "unpack_preamble",
    "unpack_ref",
    "unpack_replay",
    "unpack_sticky",
    "unpack_summaries",
]

_encode = msgspec.msgpack.Encoder().encode
_decode_ident = msgspec.msgpack.Decoder(tuple[str, str]).decode
_decode_ref = msgspec.msgpack.Decoder(tuple[str, str, str]).decode
_decode_replay = msgspec.msgpack.Decoder(Replay).decode
_FACTS = struct.Struct(">IIId")
_STICKY = struct.Struct(">Id")

UNANCHORED = 0xFFFF_FFFF


def unpack(blobs: Sequence[bytes]) -> list[Entry]:
    return unpack_all(len(blobs), b"".join(blobs))


def pack_facts(entry: Entry, facts: Facts) -> bytes:
    """What scripts look at, see `script.py`."""
    anchor = facts.anchor
    if anchor is None:
        resume, key, named = UNANCHORED, b"", b""
    else:
        resume, key, named = min(anchor.resume, UNANCHORED - 1), anchor.key.encode(), key_of(anchor.summary) or b""
    return b"".join(
        (
            _FACTS.pack(entry.upto, entry.turn, resume, entry.tokens_upto),
            bytes((len(facts.preamble),)),
            facts.preamble,
            len(key).to_bytes(2, "big"),
            key,
            bytes((len(named),)),
            named,
        )
    )


def unpack_facts(blob: bytes) -> tuple[int, int, int]:
    """upto, turn, tokens_upto"""
    upto, turn, _, tokens = _FACTS.unpack_from(blob)
    return upto, turn, int(tokens)


def pack_preamble(preamble: Preamble) -> bytes:
    return b"%d %b" % (preamble.tokens, preamble.wire)


def unpack_preamble(blob: bytes | None) -> Preamble | None:
    if blob is None:
        return None
    tokens, _, wire = blob.partition(b" ")
    return Preamble(wire, int(tokens))


def unpack_summaries(blobs: Sequence[bytes]) -> tuple[Summary, ...]:
    return tuple(map(unpack_summary, blobs))


def pack_replay(replay: Replay) -> bytes:
    return _encode(replay)


def unpack_replay(blob: bytes) -> Replay:
    return _decode_replay(blob)


def unpack_sticky(blob: bytes) -> tuple[float, Replay]:
    """When it was kept, in milliseconds, and what."""
    return _STICKY.unpack_from(blob)[1], _decode_replay(blob[_STICKY.size :])


def pack_ident(ref: Ref) -> bytes:
    return _encode((ref.kind, ref.name))


def unpack_ident(blob: bytes, tenant: str) -> Ref:
    return Ref(tenant, *_decode_ident(blob))


def pack_ref(ref: Ref) -> bytes:
    return _encode((ref.tenant, ref.kind, ref.name))


def unpack_ref(blob: bytes) -> Ref:
    return Ref(*_decode_ref(blob))


def _escaped(text: str) -> bytes:
    # so that no \0 is left in it, and the order stays
    return text.encode("utf-8", "surrogatepass").replace(b"\x01", b"\x01\x02").replace(b"\0", b"\x01\x01")


def _plain(text: bytes) -> str:
    return text.replace(b"\x01\x01", b"\0").replace(b"\x01\x02", b"\x01").decode("utf-8", "surrogatepass")


def member(ref: Ref, generation: bytes) -> bytes:
    """Members sort by tenant and name, and tell a ref from one of the same name before it."""
    return b"\0".join((_escaped(ref.tenant), _escaped(ref.name), generation))


def unpack_member(blob: bytes) -> tuple[Ref, bytes]:
    tenant, name, generation = blob.split(b"\0")
    return Ref(_plain(tenant), "session", _plain(name)), generation


def span(tenant: str | None, name: str | None) -> tuple[bytes, bytes]:
    """Where in the list a tenant's members stand (or of those the ones of one name), as ZRANGEBYLEX takes it."""
    if tenant is None:
        return b"-", b"+"
    start = _escaped(tenant) if name is None else b"\0".join((_escaped(tenant), _escaped(name)))
    return b"[" + start + b"\0", b"(" + start + b"\x01"


def label_prefix(name: str) -> bytes:
    """Of a member of the list of labels, before the generation. Members sort by name."""
    return _escaped(name) + b"\0"


def unpack_label(member: bytes) -> tuple[str, bytes]:
    """Name and generation."""
    name, generation = member.split(b"\0")
    return _plain(name), generation
