"""tiktoken's vocabularies from the files beside this one, never from the network; and which model uses which.

`o200k_base.tiktoken.xz` and `cl100k_base.tiktoken.xz` are OpenAI's published files, compressed. Their digests and
special tokens are those of `tiktoken_ext/openai_public.py`; the patterns match exactly what those there match.
"""

import lzma
from binascii import a2b_base64
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import tiktoken
from tiktoken.model import encoding_name_for_model

from proxy.errors import SettingsError
from proxy.tokens import names

DEFAULT = "o200k_base"
"""For models that tiktoken does not know: the youngest vocabulary, and the nearest to those of other makers."""


class _Source(NamedTuple):
    digest: str
    pattern: str
    special: dict[str, int]


_O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"
    r"|\s*[\r\n]+"
)
_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s+$"
    r"|\s*[\r\n]"
)
# Everything before the look-ahead stands in a group of its own, without possessive marks, which changes no match: so
# the pattern engine runs that group as one automaton. It takes a fifth off o200k and half off cl100k.
_SOURCES = {
    "o200k_base": _Source(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        rf"(?:{_O200K})|\s+(?!\S)|\s+",
        {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
    "cl100k_base": _Source(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        rf"(?:{_CL100K})|\s+(?!\S)|\s",
        {
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
}
_SAME_TEXT = {"o200k_harmony": "o200k_base"}
"""Differs in special tokens only, which are never counted."""

_loaded: dict[str, tiktoken.Encoding] = {}
_loading = Lock()


class _Choice(NamedTuple):
    encoding: str
    known: bool


_UNKNOWN = _Choice(DEFAULT, False)


def encoding_name(model: str) -> str:
    """`o200k_base` or `cl100k_base`."""
    return _choose(model).encoding


def known(model: str) -> bool:
    """tiktoken's own tables know the model and its vocabulary is here: a count of text is exact. Otherwise it is an
    estimate, to be corrected by what the upstream reports."""
    return _choose(model).known


def encoding(model: str) -> tiktoken.Encoding:
    """The vocabulary of a model. The first call for each of the two takes 0.2 to 0.6 s: see `preload`."""
    name = _choose(model).encoding
    return _loaded.get(name) or _load(name)


def preload(*encodings: str) -> None:
    """Loads the named vocabularies, by default both, so that no request waits for them. Blocks: call it in a
    thread. Raises SettingsError if a file is missing or is not what was published."""
    for name in encodings or _SOURCES:
        _load(name)


def _choose(model: str) -> _Choice:
    return _chosen(model) if len(model) <= names.MAX_CHARS else _UNKNOWN


@lru_cache(maxsize=1024)
def _chosen(model: str) -> _Choice:
    if not names.openai(model):
        return _UNKNOWN
    try:
        found = encoding_name_for_model(names.bare(model))
    except KeyError:
        return _UNKNOWN
    name = _SAME_TEXT.get(found, found)
    return _Choice(name, True) if name in _SOURCES else _UNKNOWN


def _load(name: str) -> tiktoken.Encoding:
    with _loading:
        found = _loaded.get(name)
        if found is None:
            source = _SOURCES[name]
            found = _loaded[name] = tiktoken.Encoding(
                name,
                pat_str=source.pattern,
                mergeable_ranks=_ranks(name, source.digest),
                special_tokens=source.special,
            )
        return found


def _ranks(name: str, digest: str) -> dict[bytes, int]:
    path = Path(__file__).with_name(f"{name}.tiktoken.xz")
    try:
        lines = lzma.decompress(path.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise SettingsError(f"The vocabulary {path.name} cannot be read ({error}); install Remora again.") from None
    if sha256(lines).hexdigest() != digest:
        raise SettingsError(f"The vocabulary {path.name} is not the published one; install Remora again.")
    words = lines.split()
    return dict(zip(map(a2b_base64, words[::2]), map(int, words[1::2]), strict=True))
