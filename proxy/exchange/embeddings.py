"""Vectors from the upstream's own embeddings endpoint, beside the chat completions that sessions are spoken on."""

from collections.abc import Sequence

import msgspec
from multidict import CIMultiDict

from proxy.context.vectors import packed
from proxy.errors import UpstreamBroken
from proxy.exchange.contract import Request
from proxy.exchange.decoded import decoded
from proxy.upstream.contract import Upstream

TEXT_CHARS = 8_000
"""Of one text: about 2,000 tokens, which every model takes."""
_MOST_BYTES = 64 * 1024 * 1024
_NOT_FOR_IT = ("Idempotency-Key", "Content-Length", "x-stainless-retry-count")


class _Item(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Item]


_answer = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


async def embed(upstream: Upstream, request: Request, model: str, texts: Sequence[str]) -> list[bytes]:
    """A vector for each text, as `proxy.context.vectors.packed` gives it, asked for with the credentials of `request`.

    Raises UpstreamError; UpstreamBroken too for an answer that holds no vectors."""
    headers = CIMultiDict(request.upstream_headers)
    for name in _NOT_FOR_IT:
        headers.popall(name, None)
    headers["Accept-Encoding"] = "identity"
    headers["Content-Type"] = "application/json"
    body = _encode({"model": model, "input": [text[:TEXT_CHARS] for text in texts], "encoding_format": "float"})
    path, mark, query = request.target.partition("?")
    target = path.rstrip("/").removesuffix("/chat/completions") + "/embeddings" + mark + query
    reply = decoded(await upstream.send("POST", target, headers, body))
    read: list[bytes] = []
    size = 0
    try:
        while chunk := await reply.read():
            size += len(chunk)
            if size > _MOST_BYTES:
                raise UpstreamBroken("The upstream's embeddings are larger than 64 MiB; use a smaller model.")
            read.append(chunk)
    finally:
        reply.close()
    if not 200 <= reply.status < 300:
        raise UpstreamBroken(f"The upstream's embeddings endpoint answered {reply.status}; check recall.model.")
    try:
        items = sorted(_answer(b"".join(read)).data, key=lambda item: item.index)
    except msgspec.DecodeError:
        items = []
    vectors = [packed(item.embedding) for item in items]
    if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) > 1:
        raise UpstreamBroken("The upstream's embeddings endpoint answered something else; check recall.model.")
    return vectors
