"""Text -> what it is found by: stems, numbers, names and identifiers, in any language, in time linear in its length.

A run of letters becomes a stem. The stem's language is guessed from the message's stop words (Latin script) or from
the script. Words of a language other than English have two stems, their own and the English one of the word without
its accents: that is the common ground on which a question finds a message though one of the two was guessed wrong. An
identifier, a path, a word with hyphens is kept whole, with its separators left out (so `snake_case`, `snakeCase` and
`snake-case` are one), and in its parts. Languages without spaces between words, and Korean, become pairs of
characters. Everything is folded: case, width, accents.
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, repeat
from typing import NamedTuple

import Stemmer  # type: ignore[import-not-found]  # it has no stubs

from proxy.context.stopwords import ENGLISH, LANGUAGES, STOPS
from proxy.conversation.words import Words

MAX_CHARS = 65_536
"""Of a message; what stands behind finds nothing."""
MAX_TERMS = 4_096
"""Different terms of a message: the first ones."""
MAX_COUNT = 4_095
MAX_WORD = 64
"""Characters of a word that count, and parts of an identifier."""
MAX_CHUNK = 1_024
"""Characters of a run without spaces that count, in languages that have them."""
LIKELY = (ENGLISH, "german", "french", "spanish")
_GUESS_WORDS = 128

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003134f"
)
"""Thai, Lao, Burmese, Khmer, kana, Han, Hangul."""
_MARKS = "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
"""Signs inside a word that the class of letters leaves out: accents, Hebrew points, Arabic and Indic vowels."""
_LETTER = rf"(?:(?![{_UNSPACED}])[\w{_MARKS}])"

_JOINT = r"[./\\:@#$+'’,\-]"
# a separator is never a letter, so there is one way only to match: no backtracking
_ASCII = re.compile(rf"\w+(?:{_JOINT}\w+)*(?:\+\+|#)?", re.ASCII)
_WIDE = re.compile(rf"[{_UNSPACED}]+|{_LETTER}+(?:{_JOINT}{_LETTER}+)*(?:\+\+|#)?")
_RUN = re.compile(f"[{_UNSPACED}]")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_PLAIN = re.compile(r"[^\W\d_]+|\d+")
_NUMBER = re.compile(r"\d+(?:[.,:/\-]\d+)+")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u064b-\u065f\u0670]+")
_TAILS = frozenset({"s", "re", "ve", "ll", "d", "m"})

_SCRIPTS = (
    ("\u0370", "\u03ff", "greek"),
    ("\u0400", "\u052f", "russian"),
    ("\u0530", "\u058f", "armenian"),
    ("\u0600", "\u06ff", "arabic"),
    ("\u0900", "\u097f", "hindi"),
    ("\u0b80", "\u0bff", "tamil"),
)

Group = tuple[bytes, ...]
"""The terms of one word: any of them finds it."""


class Asked(NamedTuple):
    """A word of a question."""

    terms: Group
    often: int


def words(text: str) -> Words:
    """What a message is found by. Looks at the first `MAX_CHARS` characters; never raises, whatever `text` holds."""
    chunks = _chunks(text)
    language = _guess(chunks)
    counts: dict[bytes, int] = {}
    length = 0
    for chunk in chunks:
        for group in _groups(chunk, language):
            length += 1
            for term in group:
                counts[term] = counts.get(term, 0) + 1
    if not length:
        return Words(0, ())
    found = list(counts.items())[:MAX_TERMS]
    if length > MAX_COUNT:
        return Words(length, tuple((term, min(count, MAX_COUNT)) for term, count in found))
    return Words(length, tuple(found))


def asked(text: str) -> tuple[Asked, ...]:
    """The different words of a question, in the order in which they first stand. Finds what `words` keeps, and where
    nothing tells the question's language also what `words` would keep in `LIKELY` ones."""
    chunks = _chunks(text)
    languages = (_guess(chunks),) if _told(chunks) else LIKELY
    counts: dict[Group, int] = {}
    for chunk in chunks:
        found = _groups(chunk, languages[0])
        for other in languages[1:]:
            more = _groups(chunk, other)
            if more != found and len(more) == len(found):
                found = tuple(tuple(dict.fromkeys(one + two)) for one, two in zip(found, more, strict=True))
        for group in found:
            counts[group] = counts.get(group, 0) + 1
    return tuple(Asked(group, count) for group, count in counts.items())


def spots(text: str, terms: frozenset[bytes]) -> list[tuple[int, bytes]]:
    """Where these terms stand in a message: (offset of the word, term), in order."""
    text = text[:MAX_CHARS]
    language = _guess(_chunks(text))
    return [
        (match.start(), term)
        for match in (_ASCII if text.isascii() else _WIDE).finditer(text)
        for group in _groups(match[0], language)
        for term in group
        if term in terms
    ]


def _chunks(text: str) -> list[str]:
    if len(text) > MAX_CHARS:
        text = text[:MAX_CHARS]
    return _ASCII.findall(text) if text.isascii() else _WIDE.findall(text)


def _guess(chunks: list[str]) -> str:
    """The language whose stop words are the most; English where none has more."""
    small = " ".join(chunks[:_GUESS_WORDS]).lower().split(" ")
    counts = Counter(chain.from_iterable(map(LANGUAGES.get, small, repeat(()))))
    best, most = ENGLISH, counts[ENGLISH]
    for language, count in counts.items():
        if count > most:
            best, most = language, count
    return best


def _told(chunks: list[str]) -> bool:
    """Some stop word tells the language."""
    return any(chunk.lower() in LANGUAGES for chunk in chunks[:_GUESS_WORDS])


def _groups(chunk: str, language: str) -> tuple[Group, ...]:
    return _cached(chunk, language) if len(chunk) <= MAX_WORD else tuple(_split(chunk, language))


@lru_cache(maxsize=1 << 14)
def _cached(chunk: str, language: str) -> tuple[Group, ...]:
    return tuple(_split(chunk, language))


def _split(chunk: str, language: str) -> list[Group]:
    """The words that one run of characters holds."""
    if chunk.isascii():
        if chunk.isalpha():
            if chunk.islower() or chunk.isupper() or chunk[1:].islower():
                return _word(chunk, language)
        elif chunk.isdigit():
            return [_number(chunk)]
    elif _RUN.match(chunk):
        return _pairs(chunk)
    else:
        # in pieces, since putting marks into their order takes time that grows with the square of a run
        chunk = _normal(chunk[:MAX_CHUNK])
        if chunk.isalpha():
            return _word(chunk, language)
        if _RUN.search(chunk):
            return [group for run in _WIDE.findall(chunk) if run != chunk for group in _split(run, language)]
    return _compound(chunk, language)


def _normal(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text[i : i + MAX_WORD]) for i in range(0, len(text), MAX_WORD))


def _compound(chunk: str, language: str) -> list[Group]:
    if "'" in chunk or "’" in chunk:
        head, _, tail = chunk.replace("’", "'").rpartition("'")
        small = tail.lower()
        if small == "t" and head.lower().endswith("n"):
            return []  # don't, can't: as "not"
        parts = (head if small in _TAILS else f"{head}'{tail}").split("'")
        return [group for part in parts if part for group in _split(part, language)]
    if _NUMBER.fullmatch(chunk):
        if _THOUSANDS.fullmatch(chunk):
            return [_number(chunk.replace(",", ""))]
        if "," in chunk:
            return [_number(part) for part in re.split("[.,:/-]", chunk)[:MAX_WORD]]
        return [_number(chunk), *(_number(part) for part in re.split("[.:/-]", chunk)[:MAX_WORD])]
    if "," in chunk:
        return [group for part in chunk.split(",") for group in _split(part, language)]
    if chunk.endswith(("++", "#")):
        bare = chunk.rstrip("+#")
        return _split(bare, language) if len(bare) > 1 else [_terms(chunk.lower())]
    parts = _PARTS.findall(chunk)[:MAX_WORD] if chunk.isascii() else _PLAIN.findall(chunk)[:MAX_WORD]
    found = []
    whole = "".join(letter for letter in chunk.lower()[: 4 * MAX_WORD] if letter.isalnum())
    if len(parts) != 1 and whole:
        found.append(_terms(*_stems(whole[:MAX_WORD], language)))
    for part in parts:
        found += [_number(part)] if part.isdecimal() else _word(part, language)
    return found


def _number(digits: str) -> Group:
    return _terms(digits[:MAX_WORD].lstrip("0") or "0")


def _word(word: str, language: str) -> list[Group]:
    """A run of letters: no word if it is a stop word, or one letter."""
    small = word[:MAX_WORD].lower()
    if len(small) < 2:
        return []
    language = _language(small, language)
    stops = STOPS.get(language)
    if stops and small in stops and (small == word or not word.isupper() or len(word) > 3):
        return []  # but US and IT are words
    return [_terms(*_stems(small, language))]


def _language(word: str, language: str) -> str:
    if not word.isascii():
        for first, last, name in _SCRIPTS:
            if first <= word[0] <= last:
                return name
    return ENGLISH if language == "russian" else language


def _stems(word: str, language: str) -> tuple[str, ...]:
    common = _STEMMERS[ENGLISH].stemWord(_fold(word))
    if len(common) > 5 and common.endswith("i"):
        common = common[:-1]  # allergies, allergic; photography, photographer
    if language == ENGLISH:
        return (common,)
    own = _fold(_STEMMERS[language].stemWord(word))
    return (own,) if own == common else (own, common)


def _fold(text: str) -> str:
    if text.isascii():
        return text
    text = unicodedata.normalize("NFD", text[: 4 * MAX_WORD])
    return unicodedata.normalize("NFC", _ACCENTS.sub("", text)).replace("ß", "ss").replace("ς", "σ")


def _pairs(run: str) -> list[Group]:
    run = _normal(run)
    if len(run) == 1:
        return [_terms(run)]
    return [_pair(run[i : i + 2]) for i in range(len(run) - 1)]


@lru_cache(maxsize=1 << 14)
def _pair(pair: str) -> Group:
    return _terms(pair)


def _terms(*stems: str) -> Group:
    return tuple(blake2b(stem.encode(), digest_size=8).digest() for stem in stems)


# Without a cache of their own, which threads would share.
_STEMMERS = {name: Stemmer.Stemmer(name, 0) for name in (*STOPS, *(name for _, _, name in _SCRIPTS))}
