"""What the writer's thread can be asked for, made ready on the event loop as far as can be."""

import struct
from collections.abc import Sequence

import msgspec

from proxy.conversation.entry import Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.stores.contract import Append, End, Index, Redaction, Ref
from proxy.stores.picking import posting
from proxy.stores.sqlite.rows import key_of, pack, pack_summary


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


class Keep(msgspec.Struct, gc=False):
    """A summary."""

    ref: Ref
    revision: int
    id: bytes
    entry: bytes | None
    upto: int
    row: bytes


class Found(msgspec.Struct, gc=False):
    """What one entry is found by."""

    entry: bytes | None
    counted: int
    """Messages whose words are told, 0 for none."""
    length: int
    """Words of all of them."""
    terms: bytes
    docs: bytes
    """For each term a posting, with the place in the entry instead of the position."""
    model: str
    positions: tuple[bool, ...]
    """For each message whether it has a vector; () where none are told."""
    matrix: bytes


class Indexing(msgspec.Struct, gc=False):
    ref: Ref
    revision: int
    found: tuple[Found, ...]


class Annotate(msgspec.Struct, gc=False):
    ref: Ref
    entry: bytes | None
    note: bytes


class Stub(msgspec.Struct, gc=False):
    """What stands in an entry's place."""

    id: bytes | None
    row: bytes
    tokens_upto: int
    note: bytes


class Redact(msgspec.Struct, gc=False):
    ref: Ref
    entries: tuple[Stub, ...]
    preamble: tuple[bytes, bytes, int] | None
    """The id of the old one; the new one."""


class Prune(msgspec.Struct, gc=False):
    ref: Ref
    entry: bytes | None


class PutLabel(msgspec.Struct, gc=False):
    ref: Ref
    label: bytes
    new: bool
    ttl_s: int | None


class BeginRun(msgspec.Struct, gc=False):
    ref: Ref
    entry: bytes
    owner: bytes
    state: bytes
    ttl_s: int | None
    recorded: bool
    """The entry is there already."""


class LogRun(msgspec.Struct, gc=False):
    ref: Ref
    entry: bytes | None
    owner: str
    events: tuple[bytes, ...]
    state: bytes | None
    end: End | None


class CancelRun(msgspec.Struct, gc=False):
    ref: Ref
    entry: bytes | None


class DropRun(msgspec.Struct, gc=False):
    ref: Ref
    entry: bytes | None


class LineUp(msgspec.Struct, gc=False):
    ref: Ref
    holder: str
    keep_ms: int
    wait: bool


class StepOut(msgspec.Struct, gc=False):
    ref: Ref
    holder: str


class Erase(msgspec.Struct, gc=False):
    ref: Ref


class Expire(msgspec.Struct, gc=False):
    limit: int


class Ping(msgspec.Struct, gc=False):
    pass


Runs = BeginRun | LogRun | CancelRun | DropRun
Places = LineUp | StepOut
Write = (
    Adding | Keep | Indexing | Annotate | Redact | Prune | PutLabel | Runs | Places | Delivered | Erase | Expire | Ping
)

TERM_BYTES = 8
_pack_replay = msgspec.msgpack.Encoder().encode


def keep(ref: Ref, summary: Summary, revision: int) -> Keep:
    """Raises ValueError if the summary's id is none."""
    return Keep(ref, revision, _id(summary.id), key_of(summary.entry), summary.upto, pack_summary(summary))


def indexing(ref: Ref, indexes: Sequence[Index], revision: int) -> Indexing:
    """Raises ValueError if a term has not 8 bytes, or vectors come without a model."""
    return Indexing(ref, revision, tuple(map(_found, indexes)))


def redact(ref: Ref, redactions: Sequence[Redaction], preamble: tuple[bytes, Preamble] | None) -> Redact:
    stubs = [Stub(key_of(each.entry.id), pack(each.entry), each.entry.tokens_upto, each.note) for each in redactions]
    return Redact(ref, tuple(stubs), (preamble[0], preamble[1].wire, preamble[1].tokens) if preamble else None)


def begin_run(ref: Ref, entry: str, owner: str, state: bytes, ttl_s: int | None, *, recorded: bool) -> BeginRun:
    """Raises ValueError if the entry's id is none."""
    return BeginRun(ref, _id(entry), owner.encode(), state, ttl_s, recorded)


def _found(index: Index) -> Found:
    terms = [term for words in index.words for term, _ in words.terms]
    docs = [posting(at, words.length, count) for at, words in enumerate(index.words) for _, count in words.terms]
    if any(len(term) != TERM_BYTES for term in terms):
        raise ValueError(f"a term has {TERM_BYTES} bytes")
    if index.vectors and not index.model:
        raise ValueError("vectors have a model")
    return Found(
        key_of(index.entry),
        len(index.words),
        sum(words.length for words in index.words),
        b"".join(terms),
        struct.pack(f"<{len(docs)}Q", *docs),
        index.model,
        tuple(vector != b"" for vector in index.vectors),
        b"".join(index.vectors),
    )


def _id(id: str) -> bytes:
    key = key_of(id)
    if key is None:
        raise ValueError(f"{id!r} is no id: 32 hex digits")
    return key


def adding(append: Append) -> Adding:
    """Raises ValueError if the entry's id is none."""
    entry = append.entry
    facts = entry.facts
    anchor = facts.anchor
    replay = append.replay if append.replay and (append.moves or append.replay.sticky) else None
    return Adding(
        append,
        entry,
        _id(entry.id),
        pack(entry),
        facts.preamble,
        (anchor.key, anchor.resume) if anchor else None,
        _pack_replay(replay) if replay else None,
    )
