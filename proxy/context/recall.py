"""Old messages that bear on the new one: found, ranked, chosen, and quoted within a budget. Pure.

`min_score` is compared to how sure the best match is, a figure of 0 to 1. By keywords: the weight (inverse document
frequency) of the question's words that stand in the best message, or by a share beside it, of the weight of all of the
question's words; see `ranking.by_keywords`. A question of stop words, or of words that stand everywhere or nowhere,
is never sure of anything. By vectors: how far the best cosine stands above the conversation's mean, of what there is
room for; see `ranking.by_vectors`. By both: the surer of the two.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple

from proxy.context import ranking
from proxy.context.contract import Embed, Embedded, Excerpt, Found, Pick, Recall, Recalled, Search
from proxy.context.excerpts import SPEAKERS, Piece, age, passage, render
from proxy.context.words import asked
from proxy.conversation.entry import Entry

Texts = Callable[[bytes], Sequence[tuple[str, str]]]
"""An entry's wire bytes -> the role and the text of each of its messages."""

MAX_WORDS = 48
"""Of a question: its first and its last ones."""
MAX_CHARS = 4_096
"""Of a question, likewise: it is read on the client's path."""
MAX_EMBED_CHARS = 8_000
CANDIDATES = 4
"""So many times `top_k` messages are looked at ..."""
MAX_CANDIDATES = 256
"""... and never more, nor many more than there can be room for ..."""
LEAST_CANDIDATES = 16
"""... but always so many."""
TOKENS_A_WORD = 2.0
"""Tokens of a message for each of its words that count, where nobody says what messages weigh."""
SPARE = 1.4
"""So many times what there will be room for is looked at, if it is of the usual length: some is passed over."""
FLOOR = 0.05
"""A message that has less than this share of the best one's score is left out, though there be room."""
LONG = 0.25
"""A message that would take more than this share of the budget is quoted in part."""
GAP_TOKENS = 2
FRAME_TOKENS = 24
AGE_TOKENS = 6
ROLE_TOKENS = 4
"""What stands around the texts, whose tokens were counted when they were recorded: at most so much in o200k_base and
cl100k_base. Counting all of it again would take longer than finding it."""
LEAST_TOKENS = 8
"""With less room than this nothing more is looked at."""

Needs = Search | Embed | Pick
Answers = Found | Embedded | Sequence[Entry] | None


class _Chosen(NamedTuple):
    piece: Piece
    score: float
    tokens: int
    """Estimated."""


def recall(
    query: str,
    settings: Recall,
    *,
    window_start: int,
    texts: Texts,
    count: Callable[[str], int],
    now_ms: int,
    without: tuple[int, int] = (0, 0),
    mean_tokens: float = 0.0,
) -> Generator[Needs, Answers, Recalled | None]:
    """What of the messages at positions below `window_start` bears on `query`; None if nothing surely does. Those from
    the first to before the second position of `without` are left out. `mean_tokens`: of a message; 0: unknown.

    Never longer than `settings.max_tokens` by `count`, nor more runs of neighbouring messages than `settings.top_k`.
    Quotes users, assistants and tools, never a system message. The same answers give the same text.
    """
    if window_start <= 0 or settings.max_tokens <= 0 or settings.top_k <= 0:
        return None
    words = asked(query if len(query) <= MAX_CHARS else f"{query[: MAX_CHARS // 2]}\n{query[-MAX_CHARS // 2 :]}")
    if len(words) > MAX_WORDS:
        words = words[: MAX_WORDS // 2] + words[-MAX_WORDS // 2 :]
    ranked: ranking.Ranked | None = None
    weights = {term: 1.0 for word in words for term in word.terms}
    if settings.method != "keywords" and query.strip():
        embedded = yield Embed(query[:MAX_EMBED_CHARS])
        if isinstance(embedded, Embedded):
            ranked = ranking.by_vectors(embedded, window_start)
    if words and (ranked is None or settings.method == "both"):
        terms = tuple(dict.fromkeys(term for word in words for term in word.terms))
        found = yield Search(terms)
        if isinstance(found, Found):
            mean_tokens = mean_tokens or TOKENS_A_WORD * found.length / max(found.messages, 1)
            weighed = ranking.weigh(found, terms, words)
            weights = {term: each.weight for word, each in zip(words, weighed, strict=True) for term in word.terms}
            keywords = ranking.by_keywords(found, weighed, window_start)
            ranked = keywords if ranked is None else ranking.blend(keywords, ranked)
    if ranked is None or ranked.sure < settings.min_score:
        return None
    ranked.scores[slice(*without)] = 0.0
    positions = ranking.best(ranked.scores, _candidates(settings, mean_tokens), FLOOR)
    if not positions:
        return None
    top = float(ranked.scores[positions[0]])
    scores = {at: float(ranked.scores[at]) / top for at in positions}
    entries = yield Pick(tuple(sorted(positions)))
    assert isinstance(entries, Sequence)
    chosen = _choose(entries, scores, settings, weights, texts, count)
    return _fit(chosen, settings, ranked.sure, now_ms)


def _candidates(settings: Recall, mean_tokens: float) -> int:
    """How many messages to look at: more than there will be room for, if they are of the usual length."""
    most = min(settings.top_k * CANDIDATES, MAX_CANDIDATES)
    usual = min(mean_tokens, settings.max_tokens * LONG)
    room = settings.max_tokens / usual if usual > 0 else most
    return min(most, max(LEAST_CANDIDATES, int(room * SPARE)))


def _choose(
    entries: Sequence[Entry],
    scores: Mapping[int, float],
    settings: Recall,
    weights: Mapping[bytes, float],
    texts: Texts,
    count: Callable[[str], int],
) -> dict[int, _Chosen]:
    """The best messages, as many as there is room for, by position.

    An answer comes along with its question, since neighbours share their scores.
    """
    entry_of = {at: entry for entry in entries for at in range(entry.upto - entry.count, entry.upto)}
    waiting = sorted((score, at) for at, score in scores.items() if at in entry_of)
    room = settings.max_tokens - FRAME_TOKENS
    long = max(int(settings.max_tokens * LONG), 1)
    chosen: dict[int, _Chosen] = {}
    seen: set[str] = set()
    runs = 0
    while waiting and room >= LEAST_TOKENS:
        score, at = waiting.pop()
        added = 1 - (at - 1 in chosen) - (at + 1 in chosen)
        if runs + added > settings.top_k:
            continue
        entry = entry_of[at]
        facts = entry.facts
        shapes = facts.shapes
        index = at - entry.upto + entry.count
        weight = shapes[index].tokens
        if room < weight <= long or shapes[index].role not in SPEAKERS:
            continue
        start = index + sum([shape.size for shape in shapes[:index]])
        said = texts(entry.wire[start : start + shapes[index].size])
        if len(said) != 1:
            continue
        role, text = said[0]
        if role not in SPEAKERS or text in seen or not text.strip():
            continue
        gap = GAP_TOKENS * max(added, 0)
        tokens = min(weight, len(text) + 8)
        quoted = text
        if tokens > long:
            quoted = passage(text, weights, max(len(text) * min(long, max(room - gap, 1)) // tokens, 40))
            tokens = count(quoted) + ROLE_TOKENS
        tokens += quoted.count("\n")
        if tokens + gap > room:
            continue
        room -= tokens + gap
        turn = max(entry.turn - [shape.role for shape in shapes[index + 1 :]].count("user"), 1)
        chosen[at] = _Chosen(Piece(at, turn, role, quoted, facts.at_ms), score, tokens)
        seen.add(text)
        runs += added
    return chosen


def _fit(chosen: Mapping[int, _Chosen], settings: Recall, sure: float, now_ms: int) -> Recalled | None:
    """The text, the weakest left out until it fits with its lines of age."""
    kept = dict(sorted(chosen.items()))
    strongest = sorted(kept, key=lambda at: (-kept[at].score, -at))
    told = {at_ms: age(at_ms, now_ms) for at_ms in {each.piece.at_ms for each in kept.values()}}
    while kept:
        runs = sum([at - 1 not in kept for at in kept])
        ages = len({told[each.piece.at_ms] for each in kept.values()})
        tokens = FRAME_TOKENS + AGE_TOKENS * ages + GAP_TOKENS * runs + sum([each.tokens for each in kept.values()])
        over = max(tokens - settings.max_tokens, runs - settings.top_k)
        if over <= 0:
            text = render([each.piece for each in kept.values()], now_ms)
            return Recalled(text, tokens, tuple(_runs(list(kept.values()), sure)))
        while over > 0 and strongest:
            over -= max(kept.pop(strongest.pop()).tokens, 1)
    return None


def _runs(kept: Sequence[_Chosen], sure: float) -> list[Excerpt]:
    """Neighbours are one excerpt."""
    runs: list[Excerpt] = []
    first = last = held = 0
    best = 0.0
    for at, (piece, share, tokens) in enumerate(kept):
        first, held, best = (first, held, best) if held else (at, 0, 0.0)
        held, best, last = held + tokens, max(best, share), piece.position + 1
        if at + 1 == len(kept) or kept[at + 1].piece.position != last:
            opening = kept[first].piece
            runs.append(Excerpt(opening.turn, opening.position, last, held, round(best * sure, 3)))
            held = 0
    return runs
