"""What the writer's thread can be asked for, made ready on the event loop as far as can be."""

import msgspec

from proxy.conversation.entry import Entry
from proxy.stores.contract import Append, Ref
from proxy.stores.sqlite.rows import key_of, pack


class Adding(msgspec.Struct, gc=False):
    """An append."""

    append: Append
    entry: Entry
    id: bytes
    row: bytes
    preamble: bytes
    anchor: tuple[str, int] | None
    replay: bytes | None


class Delivered(msgspec.Struct, gc=False):
    replays: list[tuple[Ref, str]]


class Erase(msgspec.Struct, gc=False):
    ref: Ref


class Expire(msgspec.Struct, gc=False):
    limit: int


class Ping(msgspec.Struct, gc=False):
    pass


Write = Adding | Delivered | Erase | Expire | Ping

_pack_replay = msgspec.msgpack.Encoder().encode


def adding(append: Append) -> Adding:
    """Raises ValueError if the entry's id is none."""
    entry = append.entry
    id = key_of(entry.id)
    if id is None:
        raise ValueError(f"{entry.id!r} is no entry id: 32 hex digits")
    facts = entry.facts
    anchor = facts.anchor
    replay = append.replay if append.replay and (append.moves or append.replay.sticky) else None
    return Adding(
        append,
        entry,
        id,
        pack(entry),
        facts.preamble,
        (anchor.key, anchor.resume) if anchor else None,
        _pack_replay(replay) if replay else None,
    )
