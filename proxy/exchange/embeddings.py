"""Vectors from the upstream's own embeddings endpoint, beside the chat completions that sessions are spoken on."""

from collections.abc import Sequence

import msgspec

from proxy.context.vectors import packed
from proxy.errors import UpstreamBroken
from proxy.exchange.aside import Way, fetch
from proxy.upstream.contract import Upstream

TEXT_CHARS = 8_000
"""Of one text: about 2,000 tokens, which every model takes."""
_MOST_BYTES = 64 * 1024 * 1024


class _Item(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Item]


_answer = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """The model does not take these texts; one of them may be too long for it."""


async def embed(upstream: Upstream, way: Way, model: str, texts: Sequence[str]) -> list[bytes]:
    """A vector for each text, as `proxy.context.vectors.packed` gives it.

    Raises UpstreamError, UpstreamBroken too for an answer that holds no vectors; Refused."""
    body = _encode({"model": model, "input": [text[:TEXT_CHARS] for text in texts], "encoding_format": "float"})
    path, mark, query = way.target.partition("?")
    base = path.rstrip("/").removesuffix("/chat/completions").removesuffix("/responses")
    target = base + "/embeddings" + mark + query
    reply = await fetch(upstream, way, target, body, most=_MOST_BYTES)
    if reply.status in (400, 413, 422):
        raise Refused
    if not 200 <= reply.status < 300:
        raise UpstreamBroken(f"The upstream's embeddings endpoint answered {reply.status}; check recall.model.")
    try:
        items = sorted(_answer(reply.body).data, key=lambda item: item.index)
    except msgspec.DecodeError:
        items = []
    vectors = [packed(item.embedding) for item in items]
    if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) > 1:
        raise UpstreamBroken("The upstream's embeddings endpoint answered something else; check recall.model.")
    return vectors
