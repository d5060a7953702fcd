"""An append, as the script is told of it."""

from proxy.stores.contract import Append
from proxy.stores.redis import rows
from proxy.stores.redis.keys import generation
from proxy.stores.redis.link import Argument

NO_ENTRY = b"?"
"""An id that no entry has."""


def adding(append: Append, tag: bytes, now_ms: int, *, guarded: bool) -> tuple[list[Argument], bytes]:
    """For `writing.APPEND`, and the member of the list should this be a session's first. `guarded`: the server is told
    when to remove expired keys by itself. Raises ValueError if the entry's id is none."""
    entry, ref, replay, rules = append.entry, append.ref, append.replay, append.preamble
    facts = entry.facts
    id = rows.key_of(entry.id)
    if id is None:
        raise ValueError(f"{entry.id!r} is no id: 32 hex digits")
    # a conversation is only made by its label
    made = generation(now_ms) if ref.kind != "conversation" else b""
    member = rows.member(ref, made) if ref.kind == "session" else b""
    return [
        now_ms,
        id,
        rows.key_of(entry.parent) or NO_ENTRY if entry.parent else b"",
        b"" if append.expected is None else rows.key_of(append.expected) or NO_ENTRY,
        b"1" if append.moves else b"0",
        rows.pack(entry),
        rows.pack_facts(entry, facts),
        append.plan,
        entry.digest,
        facts.preamble if rules else b"",
        rows.pack_preamble(rules) if rules else b"",
        b"1" if append.whole else b"0",
        b"" if append.ttl_s is None else now_ms + append.ttl_s * 1000,
        b"" if replay is None else b"s" if replay.sticky else b"l",
        replay.key if replay else b"",
        rows.pack_replay(replay) if replay else b"",
        made,
        member,
        tag,
        b"1" if guarded else b"0",
        append.note,
        rows.pack_ident(ref),
    ], member
