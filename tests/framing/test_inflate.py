"""Compressed bodies -> plain bytes, incremental and bounded."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.framing.inflate import Inflate, TooMuch


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", bytes),
    ("identity", bytes),
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in [*sizes, len(data)]:
        pieces.append(data[at : at + size])
        at += size
    return pieces


@given(st.sampled_from(PACKERS), st.binary(max_size=2000), st.lists(st.integers(0, 50), max_size=20))
def test_any_cutting_gives_the_same_bytes(
    packer: tuple[str, Callable[[bytes], bytes]], data: bytes, sizes: list[int]
) -> None:
    encoding, pack = packer
    inflate = Inflate(encoding, len(data))
    assert b"".join(inflate.feed(piece) for piece in cut(pack(data), sizes)) == data
    inflate.end()


def test_gzip_members_in_a_row_are_one_body() -> None:
    assert Inflate("gzip", 100).feed(gzip.compress(b"one") + gzip.compress(b"two")) == b"onetwo"


@pytest.mark.parametrize(("encoding", "pack"), PACKERS)
def test_what_comes_out_is_bounded(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    inflate = Inflate(encoding, 999)
    with pytest.raises(TooMuch):
        inflate.feed(pack(b"x" * 1000))


def test_a_bomb_is_stopped_before_it_unfolds() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    with pytest.raises(TooMuch):
        Inflate("gzip", 1000).feed(bomb)


@pytest.mark.parametrize(("encoding", "pack"), PACKERS[2:])
def test_broken_data_is_an_error(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match=encoding):
        Inflate(encoding, 1000).feed(b"\xff\xff nonsense")
    cut_off = Inflate(encoding, 1000)
    cut_off.feed(pack(b"some text")[:-1])
    with pytest.raises(ValueError, match="cut off"):
        cut_off.end()
