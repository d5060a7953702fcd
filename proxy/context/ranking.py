"""Scores for the messages of a chain: BM25, what neighbours add, vectors, and how sure a match is. Pure numpy.

All arrays are dense over positions 0 to `size - 1`, so that neighbours are a shift and sums need no lookup.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from proxy.context.contract import Embedded, Found
from proxy.context.words import Asked

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


def weigh(found: Found, terms: Sequence[bytes], words: Sequence[Asked]) -> list[Weighed]:
    """The postings of each word, those of its terms united, and its weight: its inverse document frequency."""
    postings = dict(zip(terms, found.found, strict=True))
    total = found.messages
    weighed = []
    for word in words:
        # signed, since numpy turns those into floats twice as fast; positions never reach the sign
        packed = np.frombuffer(postings[word.terms[0]], "<i8")
        for term in word.terms[1:]:
            if more := postings[term]:
                packed = _unite(packed, np.frombuffer(more, "<i8"))
        held = len(packed)
        weight = math.log1p(max(total - held + 0.5, 0.0) / (held + 0.5))
        if total >= COMMON_FROM and held > COMMON * total:
            weight *= COMMON_WEIGHT
        weighed.append(Weighed(packed, weight))
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
    as at least `FEW_WORDS` and at most `FULL_WORDS` words that stand nowhere but once.
    """
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
    sure = _sure(found, words, int(scores.argmax()))
    return Ranked(scores, sure * _stands_out(scores, len(words)) if sure else 0.0)


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


def _stands_out(scores: Scores, words: int) -> float:
    """0 to 1: how far the best score stands above all of them, for a long message.

    Any two long messages share some rare words by chance; of `n` scores that are spread by chance the best lies about
    sqrt(2 ln n) standard deviations above their mean. A short question needs no such proof: each of its words counts.
    """
    share = min(max((words - SHORT_WORDS) / (LONG_WORDS - SHORT_WORDS), 0.0), 1.0)
    n = len(scores)
    if share <= 0 or n < 2:
        return 1.0
    by_chance = math.sqrt(2 * math.log(n))
    certain = min(math.sqrt(n - 1), by_chance + STANDS_OUT)
    mean = float(scores.mean())
    # of all that is not 0 anyway, so that squares may be taken before the mean is
    # not `dot`, which sets several threads to work for so little
    variance = float(np.einsum("i,i", scores, scores)) / n - mean * mean
    top = float(scores.max())
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
    return [int(each) for each in candidates[np.lexsort((-candidates, -values))[:most]]]
