"""Answers what recall needs, before the call: searches of the store, and the vector of the new message."""

import asyncio
import time
from typing import NamedTuple

from proxy.context.contract import Embed, Embedded, Pick, Recall, Recalled, Search
from proxy.context.recall import Answers, Needs, recall
from proxy.context.vectors import unpacked
from proxy.conversation.entry import Entry
from proxy.conversation.message import Message
from proxy.dialects.contract import Call, Dialect
from proxy.errors import UpstreamError
from proxy.exchange.aside import Way
from proxy.exchange.contract import Request
from proxy.exchange.embeddings import Refused, embed
from proxy.stores.contract import Ref, Store
from proxy.tokens import counter
from proxy.upstream.contract import Upstream


class Place(NamedTuple):
    """What is searched."""

    ref: Ref
    head: Entry
    before: int
    """The positions before this one ..."""
    without: tuple[int, int]
    """... but for those from here to there, which the context holds anyway."""


async def recollect(
    dialect: Dialect,
    request: Request,
    call: Call,
    settings: Recall,
    upstream: Upstream,
    store: Store,
    place: Place,
    asked: Message,
) -> Recalled | None:
    """What bears on the message `asked`. Raises StoreUnavailable; an upstream that makes no vector in time costs the
    vectors, not the turn."""
    ref, head = place.ref, place.head
    steps = recall(
        asked.text,
        settings,
        window_start=place.before,
        without=place.without,
        mean_tokens=head.tokens_upto / head.upto,
        texts=lambda wire: [(message.role, message.text) for message in dialect.messages(wire)],
        count=lambda text: counter.count_text(text, call.model),
        now_ms=time.time_ns() // 1_000_000,
    )
    try:
        need = next(steps)
        while True:
            need = steps.send(await _answer(need, request, settings, store, upstream, ref, head))
    except StopIteration as stop:
        recalled: Recalled | None = stop.value
        return recalled


async def _answer(
    need: Needs, request: Request, settings: Recall, store: Store, upstream: Upstream, ref: Ref, head: Entry
) -> Answers:
    match need:
        case Search():
            return await store.seek(ref, head.id, need.terms, need.wanted, need.choose)
        case Pick():
            return await store.pick(ref, head.id, need.positions)
        case Embed():
            return await _embedded(need, request, settings, store, upstream, ref, head)


async def _embedded(
    need: Embed, request: Request, settings: Recall, store: Store, upstream: Upstream, ref: Ref, head: Entry
) -> Embedded | None:
    kept = await store.vectors(ref, head.id, settings.model)
    if kept is None or not kept.positions:
        return None
    try:
        async with asyncio.timeout(settings.timeout_ms / 1000):
            (vector,) = await embed(upstream, Way.of(request), settings.model, [need.text])
    except (TimeoutError, UpstreamError, Refused):
        return None
    if len(vector) * (len(kept.positions) // 4) != len(kept.matrix):
        # the model behind the name has changed
        return None
    return Embedded(unpacked(vector), kept.positions, kept.matrix)
