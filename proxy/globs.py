"""Globs over model names: which is the more specific, and whether two can match the same name. Ground floor."""

import re
from fnmatch import translate
from functools import cache

_TOKEN = re.compile(r"\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


def matcher(glob: str) -> re.Pattern[str]:
    """What matches as `*`, `?` and `[…]` say, the whole name, upper and lower case apart."""
    return re.compile(translate(glob))


def weight(glob: str) -> int:
    """How many literal characters a glob has: the heavier is the more specific."""
    return sum(not _wild(token) for token in _TOKEN.findall(glob))


def overlap(a: str, b: str) -> bool:
    """Some name matches both globs. `[…]` is taken to match any character, so it may say so of a pair that only
    nearly overlaps, and never misses one that does."""

    @cache  # bounded by the lengths of the two
    def meet(i: int, j: int) -> bool:
        if i == len(left) and j == len(right):
            return True
        if i < len(left) and left[i] == "*" and (meet(i + 1, j) or (j < len(right) and meet(i, j + 1))):
            return True
        if j < len(right) and right[j] == "*" and (meet(i, j + 1) or (i < len(left) and meet(i + 1, j))):
            return True
        if i == len(left) or j == len(right) or "*" in {left[i], right[j]}:
            return False
        return (_wild(left[i]) or _wild(right[j]) or left[i] == right[j]) and meet(i + 1, j + 1)

    left, right = _TOKEN.findall(a), _TOKEN.findall(b)
    return meet(0, 0)


def _wild(token: str) -> bool:
    return token in {"*", "?"} or len(token) > 1
