"""What the database is asked, and the values that travel with it."""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
import msgspec

from proxy.conversation.entry import Preamble
from proxy.stores.contract import Append, Redaction, Ref, RefInfo, tag
from proxy.stores.postgres.cache import Held
from proxy.stores.postgres.rows import key_of, pack

APPENDED, AGAIN, CONFLICT, _, PREAMBLE = range(5)
"""What the function `append` answers."""


def _call(function: str, count: int) -> str:
    marks = ", ".join(f"${n}" for n in range(1, count + 1))
    return f"SELECT * FROM {function}({marks})"  # noqa: S608 - names that stand in this file


LOAD = _call("load", 13)
READ = _call("read", 7)
PICK = _call("pick", 6)
FIND_TURN = _call("find_turn", 5)
FIND_DIGESTS = _call("find_digests", 5)
APPEND = _call("append", 28)
APPEND_HELD = _call("append_held", 29)
STAND = _call("stand", 8)
KEEP_SUMMARY = _call("keep_summary", 9)
ANNOTATE = _call("annotate", 6)
DELIVER = _call("deliver", 6)
NOTED = _call("noted", 6)
REDACT = _call("redact", 15)
PRUNE = _call("prune", 6)
LABEL = _call("label", 8)
LABELS = _call("labels", 6)
BEGIN_RUN = _call("begin_run", 10)
LOG_RUN = _call("log_run", 10)
CANCEL_RUN = _call("cancel_run", 5)
DROP_RUN = _call("drop_run", 5)
RUN_EVENTS = _call("run_events", 7)
ERASE = _call("erase", 5)
ERASE_ON = _call("erase_on", 2)
EXPIRE = _call("expire", 4)
INDEX = _call("index", 17)
POSTINGS = _call("postings", 6)
VECTORS = _call("vectors", 6)

PING = "UPDATE meta SET value = '' WHERE key = 'ping' RETURNING key"

_KNOWN = "known($1, $2, $3, $4)"
FIND_REPLAY = f"""
SELECT p.row FROM refs r JOIN replays p ON p.ref = r.n
WHERE r.n = {_KNOWN} AND p.key = $5 AND (
    (NOT p.sticky AND p.n = r.head AND NOT $6::boolean) OR (p.sticky AND p.at > now_ms($1) - $7::bigint))
ORDER BY p.sticky, p.n DESC LIMIT 1"""  # noqa: S608
REVISION = f"SELECT revision FROM refs WHERE n = {_KNOWN}"  # noqa: S608
UNINDEXED = f"""
SELECT (SELECT revision FROM refs WHERE n = {_KNOWN}), u.*
FROM unindexed($1, $2, $3, $4, $5, $6, $7) u"""  # noqa: S608
SUMMARIES = f"SELECT s.row FROM summaries s WHERE s.ref = {_KNOWN} ORDER BY s.n"  # noqa: S608
NUMBERS = f"SELECT max(n), max(last) FROM refs WHERE n = {_KNOWN}"  # noqa: S608
RECORDS = """
SELECT e.n, e.row, e.plan, e.preamble,
    CASE WHEN row_number() OVER (PARTITION BY e.preamble ORDER BY e.n) = 1 THEN p.wire END, p.tokens
FROM (
    SELECT e.* FROM entries e JOIN refs r ON r.n = e.ref AND (r.expires IS NULL OR r.expires > now_ms($1))
    WHERE e.ref = $2 AND e.n > $3 AND e.n <= $4 ORDER BY e.n LIMIT $5) e
LEFT JOIN preambles p ON p.ref = e.ref AND p.id = e.preamble ORDER BY e.n"""

FIND = """
SELECT r.tenant, r.kind, r.name, e.row, o.note FROM refs r JOIN entries e ON e.ref = r.n AND e.id = $4
LEFT JOIN notes o ON o.ref = e.ref AND o.n = e.n
WHERE r.tenant = $2 AND r.tag = $3 AND (r.expires IS NULL OR r.expires > now_ms($1)) LIMIT 1"""

LABELLED = f"""
SELECT l.label, r.created FROM refs r LEFT JOIN labels l ON l.ref = r.n WHERE r.n = {_KNOWN}"""  # noqa: S608

_RUN = "r.tenant, r.kind, r.name, u.entry, u.owner, u.state, u.ended, u.cancelled, u.beat, u.events"
FIND_RUN = f"""
SELECT {_RUN} FROM responses u JOIN refs r ON r.n = u.ref
WHERE u.entry = $4 AND (u.stays OR u.until > now_ms($1))
    AND r.tenant = $2 AND r.tag = $3 AND (r.expires IS NULL OR r.expires > now_ms($1)) LIMIT 1"""  # noqa: S608
STALE_RUNS = f"""
SELECT {_RUN} FROM responses u JOIN refs r ON r.n = u.ref AND (r.expires IS NULL OR r.expires > now_ms($1))
WHERE u.tick <= (now_ms($1) - $2::bigint) >> 13 AND u.beat <= now_ms($1) - $2 ORDER BY u.tick LIMIT $3"""  # noqa: S608

_INFO = """
SELECT r.tenant, r.name, r.head_id, r.turn, r.upto, r.tokens_upto, r.created, r.updated, r.expires FROM refs r
WHERE {} AND r.kind = 'session' AND (r.expires IS NULL OR r.expires > now_ms($1)) AND ($5::text IS NULL OR r.name = $5)
ORDER BY r.tenant, r.kind, r.name LIMIT $6"""
LIST = _INFO.format("(r.tenant, r.kind, r.name) > ($2, $3, $4)")
LIST_OF_TENANT = _INFO.format("r.tenant = $2 AND $3::text IS NOT NULL AND r.name > $4")


class Adding(NamedTuple):
    """An append, made ready."""

    append: Append
    id: bytes
    expected: bytes | None
    parent: bytes | None
    row: bytes
    preamble: bytes | None
    replay: bytes | None

    def values(self, wire: bytes | None) -> tuple[object, ...]:
        """What the function takes behind the time. `wire`: of the preamble, None if it should be known."""
        append, entry = self.append, self.append.entry
        ref, preamble, anchor, replay = append.ref, append.preamble, entry.facts.anchor, append.replay
        return (
            ref.tenant,
            ref.kind,
            ref.name,
            self.expected,
            append.moves,
            self.id,
            self.parent,
            entry.count,
            entry.upto,
            entry.tokens_upto,
            entry.turn,
            entry.digest,
            self.row,
            append.plan,
            self.preamble,
            wire,
            preamble.tokens if preamble else None,
            append.whole,
            None if append.ttl_s is None else append.ttl_s * 1000,
            anchor.key if anchor else None,
            anchor.resume if anchor else None,
            key_of(anchor.summary) if anchor and anchor.summary else None,
            replay.key if replay and self.replay else None,
            replay.sticky if replay and self.replay else None,
            self.replay,
            tag(ref),
            append.note,
        )


def key(values: Sequence[object]) -> tuple[object, ...]:
    """Of what goes to `append`: its ref."""
    return tuple(values[1:4])


def run_key(values: Sequence[object]) -> tuple[object, ...]:
    """Of what goes to `log_run`: its ref and entry."""
    return (*values[1:4], values[4] or _NONE)


_pack_replay = msgspec.msgpack.Encoder().encode
_NONE = b""
"""An id that no entry has."""


def adding(append: Append) -> Adding:
    """Raises ValueError if the entry's id is none."""
    entry, replay = append.entry, append.replay
    return Adding(
        append,
        id_of(entry.id),
        None if append.expected is None else key_of(append.expected) or _NONE,
        (key_of(entry.parent) or _NONE) if entry.parent else None,
        pack(entry),
        entry.facts.preamble if append.preamble and entry.facts.preamble else None,
        _pack_replay(replay) if replay and (append.moves or replay.sticky) else None,
    )


def redacting(redactions: Sequence[Redaction], preamble: tuple[bytes, Preamble] | None) -> tuple[object, ...]:
    """What `redact` takes behind the ref."""
    entries = [each.entry for each in redactions]
    facts = [each.facts for each in entries]
    anchors = [each.anchor for each in facts]
    id, new = preamble or (None, None)
    return (
        [key_of(each.id) or _NONE for each in entries],
        [pack(each) for each in entries],
        [each.note for each in redactions],
        [each.tokens_upto for each in entries],
        [each.preamble or None for each in facts],
        [each and each.key for each in anchors],
        [each and each.resume for each in anchors],
        [key_of(each.summary) if each and each.summary else None for each in anchors],
        id,
        new and new.wire,
        new and new.tokens,
    )


def id_of(id: str) -> bytes:
    key = key_of(id)
    if key is None:
        raise ValueError(f"{id!r} is no id: 32 hex digits")
    return key


def held(held: Held | None) -> Sequence[object]:
    """What `load` is told of it."""
    if held is None:
        return None, None, None, None, None, None
    return held.n, key_of(held.entries[-1].id), held.first, held.tokens, held.preamble_id, held.revision


def ref_info(row: asyncpg.Record) -> RefInfo:
    tenant, name, id, turn, upto, tokens, created, updated, expires = row
    return RefInfo(
        ref=Ref(tenant, "session", name),
        head=id.hex() if id else "",
        turns=turn or 0,
        messages=upto or 0,
        tokens=tokens or 0,
        created_ms=created,
        updated_ms=updated,
        expires_ms=expires,
    )
