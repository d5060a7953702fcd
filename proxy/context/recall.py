"""Old messages that bear on the new one: found, ranked, chosen, and quoted within a budget. Pure.

`min_score` is compared to how sure the best match is, a figure of 0 to 1. By keywords: the weight (inverse document
frequency) of the question's words that stand in the best message, or by a share beside it, of the weight of all of the
question's words; see `ranking.by_keywords`. A question of stop words, or of words that stand everywhere or nowhere,
is never sure of anything. By vectors: how far the best cosine stands above the conversation's mean, of what there is
room for; see `ranking.by_vectors`. By both: the surer of the two.
"""

from collections.abc import Callable, Container, Generator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from proxy.context import ranking
from proxy.context.contract import Embed, Embedded, Excerpt, Pick, Recall, Recalled, Search
from proxy.context.excerpts import SPEAKERS, Piece, age, passage, render
from proxy.context.words import asked
from proxy.conversation.entry import Entry
from proxy.conversation.words import Found

Texts = Callable[[bytes], Sequence[tuple[str, str]]]
"""Messages' wire bytes, joined by commas -> the role and the text of each of them."""

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
SPARE = 1.25
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
Answers = Embedded | Sequence[Entry] | None


class _Chosen(NamedTuple):
    piece: Piece
    score: float
    tokens: int
    """Estimated."""


class _Held(NamedTuple):
    """A message that may be quoted."""

    turn: int
    at_ms: int
    weight: int
    """In tokens."""
    wire: bytes


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
    terms = tuple(dict.fromkeys(term for word in words for term in word.terms))
    ranked: ranking.Ranked | None = None
    weights = {term: 1.0 for word in words for term in word.terms}
    scores: dict[int, float] = {}

    def choose(found: Found | None) -> Sequence[int]:
        nonlocal ranked, weights, scores
        weight = mean_tokens
        if found is not None:
            weight = weight or TOKENS_A_WORD * found.length / max(found.messages, 1)
            weighed = ranking.weigh(found, terms, words)
            weights = {term: each.weight for word, each in zip(words, weighed, strict=True) for term in word.terms}
            keywords = ranking.by_keywords(found, weighed, window_start)
            ranked = keywords if ranked is None else ranking.blend(keywords, ranked)
        if ranked is None or ranked.sure < settings.min_score:
            return ()
        ranked.scores[slice(*without)] = 0.0
        best = ranking.best(ranked.scores, _candidates(settings, weight), FLOOR)
        shares = ranked.scores[best] / ranked.scores[best[:1]]
        scores = dict(zip(best, shares.tolist(), strict=True))
        return sorted(best)

    if settings.method != "keywords" and query.strip():
        embedded = yield Embed(query[:MAX_EMBED_CHARS])
        if isinstance(embedded, Embedded):
            ranked = ranking.by_vectors(embedded, window_start)
    if words and (ranked is None or settings.method == "both"):
        entries = yield Search(terms, partial(ranking.wanted, terms, words), choose)
    elif positions := choose(None):
        entries = yield Pick(tuple(positions))
    else:
        return None
    if not scores or ranked is None:
        return None
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
    room = settings.max_tokens - FRAME_TOKENS
    long = max(int(settings.max_tokens * LONG), 1)
    found = _held(entries, scores)
    read = _read({at: each.wire for at, each in found.items() if each.weight <= long}, texts)
    chosen: dict[int, _Chosen] = {}
    seen: set[str] = set()
    runs = 0
    for score, at in sorted([(scores[at], at) for at in found], reverse=True):
        if room < LEAST_TOKENS:
            break
        added = 1 - (at - 1 in chosen) - (at + 1 in chosen)
        if runs + added > settings.top_k:
            continue
        turn, at_ms, weight, wire = found[at]
        if room < weight <= long:
            continue
        said = read.get(at) or texts(wire)
        if len(said) != 1:
            continue
        role, text = said[0]
        if role not in SPEAKERS or text in seen or not text.strip():
            continue
        gap = GAP_TOKENS if added > 0 else 0
        tokens = min(weight, len(text) + 8)
        quoted = text
        if tokens > long:
            quoted = passage(text, weights, max(len(text) * min(long, max(room - gap, 1)) // tokens, 40))
            tokens = count(quoted) + ROLE_TOKENS
        tokens += quoted.count("\n")
        if tokens + gap > room:
            continue
        room -= tokens + gap
        chosen[at] = _Chosen(Piece(at, turn, role, quoted, at_ms), score, tokens)
        seen.add(text)
        runs += added
    return chosen


def _held(entries: Sequence[Entry], wanted: Container[int]) -> dict[int, _Held]:
    """Of the wanted positions those that hold what may be quoted."""
    found = {}
    for entry in entries:
        facts = entry.facts
        shapes = facts.shapes
        turn = entry.turn - sum([shape.role == "user" for shape in shapes])
        start = 0
        for at, shape in enumerate(shapes, entry.upto - entry.count):
            role, size = shape.role, shape.size
            turn += role == "user"
            if at in wanted and role in SPEAKERS:
                found[at] = _Held(max(turn, 1), facts.at_ms, shape.tokens, entry.wire[start : start + size])
            start += size + 1
    return found


def _read(wires: Mapping[int, bytes], texts: Texts) -> dict[int, list[tuple[str, str]]]:
    """The role and the text of each of them, in one go, which takes a third of the time; {} if they cannot be told
    apart then."""
    said = texts(b",".join(wires.values())) if wires else ()
    return {at: [each] for at, each in zip(wires, said, strict=True)} if len(said) == len(wires) else {}


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
