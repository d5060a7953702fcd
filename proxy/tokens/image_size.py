"""Width and height of an image in a data URL, read from its header: the cost does not grow with it."""

from binascii import Error, a2b_base64
from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""(offset, length) -> those bytes of the image, fewer at its end."""

_MAX_SEGMENTS = 64
"""Of a JPEG, before its frame header. Cameras write about a dozen."""
_MAX_HEAD = 256
"""Characters of a data URL before its data."""


def size(data: str) -> tuple[int, int] | None:
    """(width, height) in pixels of a PNG, JPEG, GIF or WebP, given as a base64 data URL or as bare base64.

    None for anything else, or where the header does not say. Never raises; the cost does not grow with the image.
    """
    read = reader(data)
    if read is None:
        return None
    head = read(0, 30)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        found = _big(head[16:20]), _big(head[20:24])
    elif head.startswith((b"GIF87a", b"GIF89a")):
        found = _little(head[6:8]), _little(head[8:10])
    elif head.startswith(b"\xff\xd8"):
        found = _jpeg(read)
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        found = _webp(head)
    else:
        return None
    return found if found[0] > 0 and found[1] > 0 else None


def reader(data: str) -> Read | None:
    """Random access to the bytes behind base64 text. None for a data URL that is not base64, or another URL."""
    start = 0
    if data[:5].lower() == "data:":
        comma = data.find(",", 0, _MAX_HEAD)
        if comma < 0 or not data[:comma].lower().endswith(";base64"):
            return None
        start = comma + 1
    elif "://" in data[:16]:
        return None

    def read(offset: int, length: int) -> bytes:
        # four characters hold three bytes, so a slice can be decoded where it lies
        first = start + offset // 3 * 4
        text = data[first : first + (length + offset % 3 + 2) // 3 * 4]
        try:
            return a2b_base64(text[: len(text) // 4 * 4])[offset % 3 :][:length]
        except (Error, ValueError):
            return b""

    return read


def _jpeg(read: Read) -> tuple[int, int]:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        segment = read(at, 9)
        if len(segment) < 9 or segment[0] != 0xFF:
            break
        kind = segment[1]
        if kind == 0xFF:  # padding before a marker
            at += 1
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # a frame header, T.81 table B.1
            return _big(segment[7:9]), _big(segment[5:7])
        else:
            at += 2 + _big(segment[2:4])
    return 0, 0


def _webp(head: bytes) -> tuple[int, int]:
    # the three layouts of RFC 9649
    form = head[12:16]
    if len(head) < 30:
        return 0, 0
    if form == b"VP8X":
        return _little(head[24:27]) + 1, _little(head[27:30]) + 1
    if form == b"VP8L" and head[20:21] == b"\x2f":
        bits = _little(head[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if form == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF
    return 0, 0


def _big(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little(raw: bytes) -> int:
    return int.from_bytes(raw, "little")
