"""A reply that came compressed is read as plain bytes, bounded, and told from one that is cut off."""

import gzip
import itertools
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamBroken, UpstreamError, UpstreamReplyTooLarge
from proxy.exchange.decoded import REPLY_AT_MOST, decoded
from proxy.upstream.contract import UpstreamReply
from tests.exchange.making import Came

TEXT = b'{"choices": [{"message": {"content": "' + b"said " * 200 + b'"}}]}'


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    " GZIP ": gzip.compress,
}


async def whole(reply: UpstreamReply) -> bytes:
    parts = []
    while data := await reply.read():
        parts.append(data)
    return b"".join(parts)


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    """The pieces, none of them empty: an upstream's empty piece is its end."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[low:high] for low, high in itertools.pairwise(edges)]


@pytest.mark.parametrize("encoding", [None, "", "identity", "Identity"])
async def test_a_reply_that_is_plain_is_the_same_reply(encoding: str | None) -> None:
    came = Came(TEXT, named={} if encoding is None else {"Content-Encoding": encoding})
    assert decoded(came) is came


@given(st.sampled_from(sorted(PACKERS)), st.binary(max_size=3000), st.lists(st.integers(0, 5000), max_size=6))
async def test_however_it_is_cut_the_plain_bytes_come(encoding: str, data: bytes, places: list[int]) -> None:
    reply = decoded(Came(*cut_at(PACKERS[encoding](data), places), named={"Content-Encoding": encoding}))
    assert await whole(reply) == data
    assert await reply.read() == b""


async def test_deflate_without_its_header_is_read_too() -> None:
    assert await whole(decoded(Came(raw_deflate(TEXT), named={"Content-Encoding": "deflate"}))) == TEXT


async def test_bytes_are_given_out_as_they_come() -> None:
    packer = zlib.compressobj(wbits=31)
    first = packer.compress(b"data: 1\n\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    came = Came(first, packer.flush(), named={"Content-Encoding": "gzip"})
    reply = decoded(came)
    assert await reply.read() == b"data: 1\n\n"
    assert came.reads == 1


async def test_the_headers_no_longer_say_that_it_is_compressed() -> None:
    """The other headers stay, and so does the status."""
    packed = gzip.compress(TEXT)
    about = {"Content-Type": "a/b", "X-Request-Id": "7"}
    length = {"Content-Encoding": "gzip", "Content-Length": str(len(packed))}
    came = Came(packed, status=503, named={**length, **about})
    reply = decoded(came)
    assert dict(reply.headers) == about
    assert (reply.status, reply.reason) == (503, "OK")
    assert "Content-Encoding" in came.headers, "what came is left as it came"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress"])
async def test_what_cannot_be_decoded_is_broken_and_given_up(encoding: str) -> None:
    came = Came(TEXT, named={"Content-Encoding": encoding})
    with pytest.raises(UpstreamBroken):
        decoded(came)
    assert came.closed == 1
    assert came.reads == 0


@pytest.mark.parametrize("encoding", sorted(PACKERS))
@pytest.mark.parametrize("missing", [1, 4, 8, 20])
async def test_a_body_that_is_cut_off_is_broken(encoding: str, missing: int) -> None:
    reply = decoded(Came(PACKERS[encoding](TEXT)[:-missing], named={"Content-Encoding": encoding}))
    with pytest.raises(UpstreamBroken):
        await whole(reply)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_bytes_that_are_not_what_the_encoding_says_are_broken(encoding: str) -> None:
    with pytest.raises(UpstreamBroken) as caught:
        await whole(decoded(Came(b"plain words, secret ones", named={"Content-Encoding": encoding})))
    assert "secret" not in str(caught.value)


async def test_an_empty_body_is_empty() -> None:
    assert await whole(decoded(Came(named={"Content-Encoding": "gzip"}))) == b""


async def test_a_small_body_that_unpacks_without_end_is_refused() -> None:
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    pieces = [packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(REPLY_AT_MOST // len(zeros) + 1)]
    came = Came(*pieces, packer.flush(), named={"Content-Encoding": "gzip"})
    reply, size = decoded(came), 0
    with pytest.raises(UpstreamReplyTooLarge) as caught:
        while data := await reply.read():
            size += len(data)
    assert size <= REPLY_AT_MOST
    assert caught.value.retry is False, "the SDKs would pay again"


async def test_errors_of_the_upstream_pass() -> None:
    error = UpstreamBroken("The reply broke off.")
    reply = decoded(Came(gzip.compress(TEXT)[:30], error, named={"Content-Encoding": "gzip"}))
    with pytest.raises(UpstreamError) as caught:
        await whole(reply)
    assert caught.value is error


async def test_closing_closes_the_reply_behind_it() -> None:
    came = Came(gzip.compress(TEXT), named={"Content-Encoding": "gzip"})
    reply = decoded(came)
    reply.close()
    reply.close()
    assert came.closed == 2
