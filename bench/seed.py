"""Fills a store with sessions that look as if they had been talked in for long."""

import asyncio
from collections.abc import Sequence

import msgspec
import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from bench.load import CREDENTIAL, MODEL
from bench.stub import WORDS
from bench.text import stored_text
from proxy.conversation.entry import Entry, grow, new_id
from proxy.conversation.message import Message
from proxy.exchange.tenant import Tenants
from proxy.stores import open_store
from proxy.stores.contract import Append, Appended, Ref, Store
from proxy.upstream.headers import key_of

USER_TOKENS, REPLY_TOKENS = 61, 66
"""What `stored_text` and a reply of the stub weigh in o200k_base."""
TTL_S = 30 * 86_400


class Group(msgspec.Struct, frozen=True):
    """Sessions of one depth."""

    prefix: str
    count: int
    turns: int

    @property
    def names(self) -> list[str]:
        return [f"{self.prefix}-{i}" for i in range(self.count)]


def template(turns: int, key: bytes) -> list[Entry]:
    """One session's entries, a turn each: a user's message and the reply to it."""
    entries: list[Entry] = []
    parent: Entry | None = None
    for serial in range(turns):
        question, answer = stored_text(serial), f"{WORDS} {serial:09d}"
        messages = (
            Message(role="user", wire=orjson.dumps({"role": "user", "content": question}), text=question),
            Message(role="assistant", wire=orjson.dumps({"role": "assistant", "content": answer}), text=answer),
        )
        parent = grow(
            id=new_id(),
            parent=parent,
            key=key,
            messages=messages,
            tokens=(USER_TOKENS, REPLY_TOKENS),
            dialect="chat",
            model=MODEL,
            finish="stop",
        )
        entries.append(parent)
    return entries


async def _fill(store: Store, refs: Sequence[Ref], entries: Sequence[Entry]) -> None:
    # all sessions take each turn together: the store commits them as one group
    heads: list[str | None] = [None] * len(refs)
    for entry in entries:
        rows = [msgspec.structs.replace(entry, id=new_id(), parent=head or "") for head in heads]
        answers = await asyncio.gather(
            *[
                store.append(Append(ref=ref, expected=head, entry=row, ttl_s=TTL_S))
                for ref, head, row in zip(refs, heads, rows, strict=True)
            ]
        )
        if not all(isinstance(answer, Appended) for answer in answers):
            raise RuntimeError("the store holds these sessions already")
        heads = [row.id for row in rows]


async def seed(url: str, groups: Sequence[Group]) -> None:
    """Adds the groups' sessions to the store at `url`, for the tenant of the load generator's credential."""
    store = open_store(url)
    await store.open()
    try:
        tenant = Tenants("credential", (), await store.secret()).of(
            key_of("Authorization", CREDENTIAL), CIMultiDictProxy(CIMultiDict())
        )
        entries = template(max(group.turns for group in groups), tenant.digest_key)
        for group in groups:
            refs = [Ref(tenant.name, "session", name) for name in group.names]
            for some in _batched(refs, 512):
                await _fill(store, some, entries[: group.turns])
    finally:
        await store.close()


def _batched(refs: Sequence[Ref], size: int) -> list[Sequence[Ref]]:
    return [refs[at : at + size] for at in range(0, len(refs), size)]
