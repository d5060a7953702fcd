"""tiktoken's own encodings, from the vocabularies in the package by way of its download cache: nothing is fetched."""

import lzma
from functools import cache
from hashlib import sha1
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import tiktoken

from proxy.tokens import vocabulary

NAMES = ("o200k_base", "cl100k_base")
PACKED = {name: Path(vocabulary.__file__).with_name(f"{name}.tiktoken.xz") for name in NAMES}


@cache
def encoding(name: str) -> tiktoken.Encoding:
    """What `tiktoken.get_encoding` makes of the published file."""
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        cached = Path(folder) / sha1(url.encode(), usedforsecurity=False).hexdigest()
        cached.write_bytes(lzma.decompress(PACKED[name].read_bytes()))
        patch.setenv("TIKTOKEN_CACHE_DIR", folder)
        return tiktoken.get_encoding(name)
