"""Scores for the messages of a chain: BM25, what neighbours add, vectors, and how sure a match is. Pure numpy.

All arrays are dense over positions 0 to `size - 1`, so that neighbours are a shift and sums need no lookup.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxy.context.contract import Embedded
from proxy.context.words import Asked
from proxy.conversation.words import Found

Scores = NDArray[np.float64]
Packed = NDArray[np.int64]

K1, B = 1.2, 0.5
"""BM25's. `B` is below the usual 0.75: in a talk it is the long messages that tell something."""
COMMON = 0.05
"""A word in more than this share of the messages says little ..."""
COMMON_WEIGHT = 0.5
"""... and weighs half ..."""
COMMON_FROM = 200
"""... in a conversation of at least so many messages."""
LEFT_OUT_FROM = 4_096
"""In a conversation of at least so many messages it does not count at all ..."""
RARER = 3
"""... where at least so many rarer words of the question were said. To look for it would be most of the work."""
NEIGHBOURS = ((1, 0.5), (2, 0.25), (3, 0.12))
"""(Distance, share of its score that a message lends to the one so far away, on both sides.)"""
_SHARES = [share for _, share in NEIGHBOURS]
_KERNEL = np.array([*reversed(_SHARES), 1.0, *_SHARES])
NEAR = (0.75, 0.5)
"""What a word one and two messages away from the best one is worth for how sure the match is."""
ENOUGH = 2 / 3
"""A match of so much of the weight is sure ..."""
FULL_WORDS = 4
"""... and so is one of so many rare words' weight, however long the question is ..."""
FEW_WORDS = 1.5
"""... but none of less than so much of so many, however short it is."""
UNKNOWN = 0.1
"""What a word that stands nowhere on the chain weighs against a match, of a rare one's weight: a question is often
put in other words than its answer."""
SHORT_WORDS, LONG_WORDS = 8, 24
"""A message of fewer words that count is a question; one of more is told about something ..."""
STANDS_OUT = 12.0
"""... and its best match is sure where it stands so many standard deviations above the best by chance."""
KEYWORDS_SHARE = 0.5
"""Of keywords in the sum with vectors."""
NEARER = (0.5, 0.35, 0.25, 0.15)
"""Shares of the best score among which the best ones are sought, in this order."""
_BLOCK = 4_096
_EMPTY = np.empty(0, dtype=np.int64)


class Ranked(NamedTuple):
    scores: Scores
    """Of each position; 0: nothing speaks for it."""
    sure: float
    """0 to 1: how sure it is that the best of them bears on the question."""


class Weighed(NamedTuple):
    """Where one word of the question stands."""

    packed: Packed
    """Its postings, in order, each position once."""
    weight: float
    left_out: bool = False
    """Nobody looked where it stands."""


def wanted(terms: Sequence[bytes], words: Sequence[Asked], messages: int, counts: Sequence[int]) -> list[bool]:
    """Of which terms it matters where they stand: all but those of common words that are left out."""
    if messages < LEFT_OUT_FROM:
        return [True] * len(terms)
    held = dict(zip(terms, counts, strict=True))
    most = [max(held[term] for term in word.terms) for word in words]
    common = COMMON * messages
    if sum(0 < each <= common for each in most) < RARER:
        return [True] * len(terms)
    needed = {term for word, each in zip(words, most, strict=True) if each <= common for term in word.terms}
    return [term in needed for term in terms]


def weigh(found: Found, terms: Sequence[bytes], words: Sequence[Asked]) -> list[Weighed]:
    """The postings of each word, those of its terms united, and its weight: its inverse document frequency."""
    postings = dict(zip(terms, found.found, strict=True))
    total = found.messages
    weighed = []
    for word in words:
        packed, held = _EMPTY, 0
        for term in word.terms:
            more = postings[term]
            if isinstance(more, int):
                held = max(held, more)
            elif more:
                # signed, since numpy turns those into floats twice as fast; positions never reach the sign
                some = np.frombuffer(more, "<i8")
                packed = _unite(packed, some) if len(packed) else some
        left_out = held > len(packed)
        held = max(held, len(packed))
        weight = math.log1p(max(total - held + 0.5, 0.0) / (held + 0.5))
        if total >= COMMON_FROM and held > COMMON * total:
            weight *= COMMON_WEIGHT
        weighed.append(Weighed(packed, weight, left_out))
    return weighed


def _unite(one: Packed, other: Packed) -> Packed:
    """Both, in order; of a message in both the one with the higher count."""
    both = np.sort(np.concatenate([one, other]))
    last = np.ones(len(both), dtype=bool)
    last[:-1] = (both[1:] >> 24) != (both[:-1] >> 24)
    return both[last]


def by_keywords(found: Found, words: Sequence[Weighed], size: int) -> Ranked:
    """BM25 over the positions below `size`, with the statistics of the whole chain.

    `sure` is the weight of the question's words that stand in the best message or near it (see `NEAR`), of `ENOUGH` of
    the weight of all its words. There a word that stands nowhere counts `UNKNOWN` of its weight, and the whole counts
    as at least `FEW_WORDS` and at most `FULL_WORDS` words that stand nowhere but once. Words that are left out are
    neither among the one nor the other.
    """
    asked = len(words)
    words = [word for word in words if not word.left_out]
    if not words or size <= 0 or found.messages <= 0:
        return Ranked(np.zeros(max(size, 0)), 0.0)
    mean = max(found.length / found.messages, 1.0)
    border = np.int64(size << 24)
    kept = [word.packed[: word.packed.searchsorted(border)] for word in words]
    packed = np.concatenate(kept)
    if not len(packed):
        return Ranked(np.zeros(size), 0.0)
    counts = (packed & 4095).astype(np.float64)
    each = (packed >> 12 & 4095).astype(np.float64)
    positions = packed >> 24
    # worked out in place: for each new array of this size the system may have to find memory first
    each *= K1 * B / mean
    each += K1 * (1 - B)
    each += counts
    np.divide(counts, each, out=each)
    at = 0
    for word, some in zip(words, kept, strict=True):
        each[at : at + len(some)] *= word.weight * (K1 + 1)
        at += len(some)
    dense = np.bincount(positions, each, minlength=size).astype(np.float64, copy=False)
    scores = spread(dense)
    top = int(scores.argmax())
    sure = _sure(found, words, top)
    return Ranked(scores, sure * _stands_out(scores, float(scores[top]), asked) if sure else 0.0)


def spread(scores: Scores) -> Scores:
    """Each message's score with what its neighbours lend it: an answer stands beside its question."""
    reach = (len(_KERNEL) - 1) // 2
    return np.convolve(scores, _KERNEL)[reach : reach + len(scores)] if len(scores) else scores


def _sure(found: Found, words: Sequence[Weighed], best: int) -> float:
    rare = math.log1p((found.messages + 0.5) / 0.5)
    shares = (1.0, *NEAR)
    edges = np.array([max(best - len(NEAR), 0) << 24, best + len(NEAR) + 1 << 24])
    matched = total = 0.0
    for word in words:
        total += word.weight * (1.0 if len(word.packed) else UNKNOWN)
        first, upto = word.packed.searchsorted(edges).tolist()
        if first < upto:
            near = word.packed[first:upto].tolist()
            matched += word.weight * max(shares[abs((packed >> 24) - best)] for packed in near)
    return min(1.0, matched / (ENOUGH * min(max(total, FEW_WORDS * rare), FULL_WORDS * rare)))


def _stands_out(scores: Scores, top: float, words: int) -> float:
    """0 to 1: how far `top`, the best score, stands above all of them, for a long message.

    Any two long messages share some rare words by chance; of `n` scores that are spread by chance the best lies about
    sqrt(2 ln n) standard deviations above their mean. A short question needs no such proof: each of its words counts.
    """
    share = min(max((words - SHORT_WORDS) / (LONG_WORDS - SHORT_WORDS), 0.0), 1.0)
    n = len(scores)
    if share <= 0 or n < 2:
        return 1.0
    by_chance = math.sqrt(2 * math.log(n))
    certain = min(math.sqrt(n - 1), by_chance + STANDS_OUT)
    mean = float(scores.sum()) / n
    # of all that is not 0 anyway, so that squares may be taken before the mean is
    # not `dot`, which sets several threads to work for so little
    variance = float(np.einsum("i,i", scores, scores)) / n - mean * mean
    if certain <= by_chance or variance <= 1e-12 * top * top:
        return 1.0
    above = (top - mean) / math.sqrt(variance)
    return 1.0 - share * (1.0 - min(max((above - by_chance) / (certain - by_chance), 0.0), 1.0))


def by_vectors(embedded: Embedded, size: int) -> Ranked | None:
    """Cosines over the positions below `size`; None where the vectors do not fit each other.

    Scores are how far a message's cosine stands above the conversation's mean, of what there is room for up to 1, never
    below 0: models differ in how alike any two texts are. `sure` is the best score.
    """
    query = np.frombuffer(embedded.vector, "<f4")
    positions = np.frombuffer(embedded.positions, "<u4").astype(np.int64)
    if not len(query) or len(embedded.matrix) != len(query) * len(positions) * 2:
        return None
    upto = int(np.searchsorted(positions, size))
    scores = np.zeros(max(size, 0))
    if not upto:
        return Ranked(scores, 0.0)
    matrix = np.frombuffer(embedded.matrix, "<f2").reshape(len(positions), len(query))
    cosines = np.concatenate(
        [matrix[at : min(at + _BLOCK, upto)].astype(np.float32) @ query for at in range(0, upto, _BLOCK)]
    ).astype(np.float64)
    cosines = np.nan_to_num(cosines, nan=0.0, posinf=0.0, neginf=0.0).clip(-1.0, 1.0)
    mean = float(cosines.mean()) if upto > 1 else 0.0
    scores[positions[:upto]] = ((cosines - mean) / max(1.0 - mean, 1e-6)).clip(0.0, 1.0)
    return Ranked(scores, float(scores.max()))


def blend(keywords: Ranked, vectors: Ranked) -> Ranked:
    """The weighted sum of both, each with a best of 1; as sure as the surer one."""
    parts = [
        (share, ranked.scores / top)
        for share, ranked in ((KEYWORDS_SHARE, keywords), (1 - KEYWORDS_SHARE, vectors))
        if len(ranked.scores) and (top := float(ranked.scores.max())) > 0
    ]
    scores = np.zeros(len(keywords.scores))
    for share, part in parts:
        scores += share * part
    return Ranked(scores, max(keywords.sure, vectors.sure))


def best(scores: Scores, most: int, floor: float) -> list[int]:
    """The positions with the highest scores, at least `floor` of the highest one, best first; of equals the newer."""
    top = float(scores.max()) if len(scores) else 0.0
    if top <= 0 or most <= 0:
        return []
    # most of them lie far below the best: those near it are sought first, and often are enough
    for share in (*[share for share in NEARER if share > floor], floor):
        candidates = (scores >= max(top * share, 1e-12)).nonzero()[0]
        if len(candidates) >= most:
            break
    values = scores[candidates]
    best: list[int] = candidates[np.lexsort((-candidates, -values))[:most]].tolist()
    return best
