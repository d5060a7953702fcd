"""Compressed bodies -> plain bytes, incremental and bounded: a small body must not become a large one unnoticed."""

import zlib

ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
"""Values of Content-Encoding, in lower case, that can be decoded here."""


class TooMuch(Exception):
    """The decoded bytes would exceed the limit."""


class Inflate:
    """`feed` compressed bytes, get plain ones. Raises TooMuch, and ValueError where the bytes are not what the
    encoding says."""

    def __init__(self, encoding: str, limit_bytes: int) -> None:
        """`encoding` is one of ENCODINGS. `limit_bytes` bounds all that comes out."""
        self._encoding = encoding
        self._left = limit_bytes
        self._inflate = None if encoding in ("", "identity") else zlib.decompressobj(47 if "gzip" in encoding else 15)
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        if self._inflate is None:
            return self._count(data)
        if not self._begun and data:
            self._begun = True
            if self._encoding == "deflate" and data[0] & 0x0F != 8:
                # many senders say deflate and mean the raw form without the zlib header
                self._inflate = zlib.decompressobj(-15)
        out = bytearray()
        try:
            while data:
                out += self._count(self._inflate.decompress(data, self._left + 1))
                data = self._inflate.unconsumed_tail
                if self._inflate.eof:
                    data = self._inflate.unused_data
                    if not data:
                        break
                    self._inflate = zlib.decompressobj(47)
        except zlib.error as error:
            raise ValueError(f"not valid {self._encoding}: {error}") from None
        return bytes(out)

    def end(self) -> None:
        """Raises ValueError if the bytes broke off."""
        if self._inflate is not None and self._begun and not self._inflate.eof:
            raise ValueError(f"the {self._encoding} data is cut off")

    def _count(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise TooMuch
        return data
