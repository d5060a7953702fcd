"""What was said becomes searchable, after the reply: the words of each message, and its vector where a policy asks."""

import asyncio
from collections.abc import Sequence

from proxy.context.words import words
from proxy.conversation.entry import Entry
from proxy.conversation.message import Message
from proxy.conversation.words import Words
from proxy.dialects.contract import Dialect
from proxy.exchange.aside import Way
from proxy.exchange.embeddings import TEXT_CHARS, Refused, embed
from proxy.policy import Policy
from proxy.stores.contract import Index, Ref, Store
from proxy.upstream.contract import Upstream

ENTRIES_AT_ONCE = 64
TEXTS_A_CALL = 64
SHORT_CHARS = 500
INLINE_BYTES = 16_384
"""So much is split into words on the event loop; more is handed to a thread."""
AROUND = 1
"""A message's vector is made from it and so many of its entry's messages on either side: an answer is found by its
question."""


async def index(
    store: Store, upstream: Upstream, dialect: Dialect, way: Way, policy: Policy, ref: Ref, head: str
) -> None:
    """Indexes what is missing on the chain that ends with `head`, oldest first. Raises StoreUnavailable,
    UpstreamError; what was done until then is kept."""
    recall = policy.recall
    assert recall is not None
    while (found := await store.unindexed(ref, head, model="", most=ENTRIES_AT_ONCE)).entries:
        entries = found.entries
        said = [_messages(dialect, entry) for entry in entries]
        if sum(len(entry.wire) for entry in entries) <= INLINE_BYTES:
            split = _words(said)
        else:
            split = await asyncio.to_thread(_words, said)
        made = [Index(entry.id, words=each) for entry, each in zip(entries, split, strict=True)]
        if not await store.index(ref, made, revision=found.revision) or len(entries) < ENTRIES_AT_ONCE:
            break
    if recall.method == "keywords" or "embeddings" not in store.searches:
        return
    while (found := await store.unindexed(ref, head, model=recall.model, most=ENTRIES_AT_ONCE)).entries:
        made = await _vectors(upstream, dialect, way, recall.model, found.entries)
        if not await store.index(ref, made, revision=found.revision) or len(found.entries) < ENTRIES_AT_ONCE:
            return


def _messages(dialect: Dialect, entry: Entry) -> Sequence[Message]:
    """In some dialects two messages that are neighbours read like one: such are read one by one."""
    messages = dialect.messages(entry.wire)
    if len(messages) == entry.count:
        return messages
    return [message for _, _, wire in entry.messages() for message in dialect.messages(wire)]


def _words(said: Sequence[Sequence[Message]]) -> list[tuple[Words, ...]]:
    return [tuple(words(message.text) for message in messages) for messages in said]


async def _vectors(upstream: Upstream, dialect: Dialect, way: Way, model: str, entries: Sequence[Entry]) -> list[Index]:
    texts: list[str] = []
    places: list[tuple[int, int]] = []
    for n, entry in enumerate(entries):
        messages = _messages(dialect, entry)
        for at, message in enumerate(messages):
            if message.text.strip():
                texts.append(_with_neighbours(messages, at))
                places.append((n, at))
    vectors: list[bytes] = []
    for start in range(0, len(texts), TEXTS_A_CALL):
        vectors += await _embedded(upstream, way, model, texts[start : start + TEXTS_A_CALL])
    made = [[b""] * entry.count for entry in entries]
    for (n, at), vector in zip(places, vectors, strict=True):
        made[n][at] = vector
    return [Index(entry.id, model=model, vectors=tuple(each)) for entry, each in zip(entries, made, strict=True)]


async def _embedded(upstream: Upstream, way: Way, model: str, texts: Sequence[str]) -> list[bytes]:
    """A vector for each text; b"" for one that the model refuses by itself, also when it is much shorter."""
    try:
        return await embed(upstream, way, model, texts)
    except Refused:
        if len(texts) > 1:
            half = len(texts) // 2
            first = await _embedded(upstream, way, model, texts[:half])
            return first + await _embedded(upstream, way, model, texts[half:])
        if len(texts[0]) > SHORT_CHARS:
            return await _embedded(upstream, way, model, [texts[0][: max(SHORT_CHARS, len(texts[0]) // 4)]])
        return [b""]


def _with_neighbours(messages: Sequence[Message], at: int) -> str:
    """The message first, so that it is what remains of a text that is too long."""
    around = [messages[n].text for n in range(max(0, at - AROUND), min(len(messages), at + AROUND + 1)) if n != at]
    return "\n".join([messages[at].text[: TEXT_CHARS // 2], *(text[: TEXT_CHARS // 4] for text in around)])
