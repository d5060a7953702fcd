"""Sizes of images from their headers; hostile ones cost nothing and raise nothing."""

import base64
import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tokens.image_size import reader, size


def png(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(3)


def jpeg(width: int, height: int, before: int = 0, frame: int = 0xC0) -> bytes:
    app = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + bytes(9)
    exif = b"".join(b"\xff\xe1" + struct.pack(">H", 60_002) + b"\xff\xc0" * 30_000 for _ in range(before))
    tables = b"\xff\xdb" + struct.pack(">H", 67) + bytes(65) + b"\xff\xc4" + struct.pack(">H", 20) + bytes(18)
    sof = b"\xff" + bytes([frame]) + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + app + exif + tables + b"\xff" + sof + bytes(100)


def webp(form: bytes, payload: bytes) -> bytes:
    return (
        b"RIFF" + struct.pack("<I", 4 + 8 + len(payload)) + b"WEBP" + form + struct.pack("<I", len(payload)) + payload
    )


def vp8x(width: int, height: int) -> bytes:
    return webp(b"VP8X", bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"))


def vp8l(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(8))


def vp8(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\x10\x20\x30\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(8))


def url(image: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


FORMATS = [png, gif, jpeg, vp8x, vp8l, vp8]


@pytest.mark.parametrize("make", FORMATS)
@given(width=st.integers(1, 16_000), height=st.integers(1, 16_000))
def test_the_size_in_the_header_is_read(make: object, width: int, height: int) -> None:
    assert callable(make)
    image = make(width, height)
    assert size(url(image)) == (width, height)
    assert size(base64.b64encode(image).decode()) == (width, height)


@pytest.mark.parametrize("frame", [0xC0, 0xC1, 0xC2, 0xC3, 0xCF])
def test_every_kind_of_jpeg_frame_is_known(frame: int) -> None:
    assert size(url(jpeg(640, 480, frame=frame))) == (640, 480)


def test_a_jpegs_frame_is_found_behind_large_camera_data() -> None:
    assert size(url(jpeg(4000, 3000, before=6), "image/jpeg")) == (4000, 3000)


def test_a_jpeg_without_an_end_to_its_segments_is_given_up() -> None:
    segment = b"\xff\xe1" + struct.pack(">H", 2)
    assert size(url(b"\xff\xd8" + segment * 10_000 + jpeg(10, 10)[2:])) is None


@pytest.mark.parametrize("make", FORMATS)
def test_a_size_of_nothing_is_no_size(make: object) -> None:
    assert callable(make)
    if make not in (vp8x, vp8l):  # these two store the size less one
        assert size(url(make(0, 10))) is None


@pytest.mark.parametrize("make", FORMATS)
def test_a_header_cut_off_anywhere_is_read_or_given_up(make: object) -> None:
    assert callable(make)
    image = make(300, 200)
    for end in range(len(image)):
        assert size(url(image[:end])) in (None, (300, 200))


@pytest.mark.parametrize(
    "data",
    [
        "",
        "data:",
        "data:,",
        "data:image/png,rawtext",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,=====",
        "data:image/png;base64,é😀" * 10,
        "data:" + "x" * 1_000_000 + url(png(10, 10))[5:],
        "https://example.org/image.png",
        "file-abc",
        "\x00" * 100,
    ],
)
def test_what_is_no_image_has_no_size(data: str) -> None:
    assert size(data) is None


@given(st.text() | st.binary().map(url) | st.binary().map(lambda raw: url(b"\xff\xd8\xff" + raw)))
def test_no_text_raises(data: str) -> None:
    found = size(data)
    assert found is None or (found[0] > 0 and found[1] > 0)


@given(raw=st.binary(max_size=200), offset=st.integers(0, 220), length=st.integers(0, 64))
def test_a_slice_read_is_the_slice_of_the_whole(raw: bytes, offset: int, length: int) -> None:
    read = reader(url(raw))
    assert read is not None
    assert read(offset, length) == raw[offset : offset + length]


def test_the_cost_does_not_grow_with_the_image() -> None:
    small, large = url(jpeg(10, 10)), url(jpeg(10, 10) + bytes(2_000_000))

    def seconds(data: str) -> float:
        before = time.thread_time()
        for _ in range(20):
            size(data)
        return time.thread_time() - before

    assert min(seconds(large) for _ in range(3)) < 20 * min(seconds(small) for _ in range(3))
