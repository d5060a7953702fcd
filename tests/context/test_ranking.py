"""Scores follow what stands where: matches, neighbours, vectors, and how sure a match is."""

import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.context import ranking
from proxy.context.contract import Embedded
from proxy.context.ranking import Ranked
from proxy.context.words import Asked, asked, words
from proxy.conversation.words import Found


def ranked(query: str, messages: list[str], size: int | None = None) -> Ranked:
    question = asked(query)
    terms = tuple(dict.fromkeys(term for word in question for term in word.terms))
    indexed = [words(text) for text in messages]
    postings = tuple(
        b"".join(
            struct.pack("<Q", position << 24 | each.length << 12 | dict(each.terms)[term])
            for position, each in enumerate(indexed)
            if term in dict(each.terms)
        )
        for term in terms
    )
    found = Found(len(messages), sum(each.length for each in indexed), postings)
    return ranking.by_keywords(found, ranking.weigh(found, terms, question), len(messages) if size is None else size)


FILLER = [f"nothing number{i} here" for i in range(30)]


def test_the_message_with_the_rare_word_is_the_best() -> None:
    found = ranked("violin nothing", [*FILLER[:20], "a violin", *FILLER[20:]])
    assert ranking.best(found.scores, 1, 0.0) == [20]


@given(st.lists(st.lists(st.sampled_from(["violin", "cello", "oboe", "drum"]), max_size=9), min_size=1, max_size=40))
def test_scores_are_those_of_the_formula(messages: list[list[str]]) -> None:
    found = ranked("violin cello", [" ".join(each) for each in messages])
    mean = max(sum(map(len, messages)) / len(messages), 1.0)
    own = np.zeros(len(messages))
    for word in ("violin", "cello"):
        held = sum(word in each for each in messages)
        weight = np.log1p((len(messages) - held + 0.5) / (held + 0.5))
        for at, each in enumerate(messages):
            often = each.count(word)
            length = ranking.K1 * (1 - ranking.B + ranking.B * len(each) / mean)
            own[at] += weight * often * (ranking.K1 + 1) / (often + length)
    wanted = own.copy()
    for distance, share in ranking.NEIGHBOURS:
        wanted[distance:] += share * own[:-distance]
        wanted[:-distance] += share * own[distance:]
    assert np.allclose(found.scores, wanted)


def test_neighbours_of_a_match_score_less_than_it_and_more_than_others() -> None:
    scores = ranked("violin", [*FILLER[:20], "a violin", *FILLER[20:]]).scores
    assert scores[20] > scores[19] == scores[21] > scores[18] == scores[22] > scores[17] == scores[23] > 0
    assert scores[16] == scores[0] == 0


def test_the_end_of_the_array_takes_no_neighbours_from_the_other_end() -> None:
    scores = ranked("violin", ["a violin", *FILLER]).scores
    assert list(np.flatnonzero(scores)) == [0, 1, 2, 3]


def test_a_long_message_must_match_better_than_two_texts_do_by_chance() -> None:
    chance = random.Random(1)
    words = ["".join(chance.choices("bdklmnprst", k=6)) for _ in range(2000)]
    talk = [" ".join(chance.choices(words, k=200)) for _ in range(300)]
    unrelated = " ".join(chance.choices(words, k=60))
    assert ranked(unrelated, talk).sure < 0.3
    about = " ".join([*talk[17].split()[:30], *chance.choices(words, k=20)])
    found = ranked(about, talk)
    assert found.sure > 0.3
    assert int(np.argmax(found.scores)) == 17
    # of a short question each word counts
    assert ranked(" ".join(talk[17].split()[:3]), talk).sure > 0.3


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_short_arrays_are_ranked(size: int) -> None:
    assert len(ranked("violin", ["a violin"] * 3, size).scores) == size


def test_positions_from_size_on_do_not_count() -> None:
    found = ranked("violin", [*FILLER, "a violin"], len(FILLER))
    assert not found.scores.any()
    assert found.sure == 0.0


def test_of_two_spellings_of_one_word_in_a_message_one_counts() -> None:
    word = Asked((b"a" * 8, b"b" * 8), 1)
    postings = [
        struct.pack("<QQ", 1 << 24 | 5 << 12 | 1, 3 << 24 | 5 << 12 | 1),
        struct.pack("<Q", 3 << 24 | 5 << 12 | 2),
    ]
    weighed = ranking.weigh(Found(9, 45, tuple(postings)), word.terms, [word])
    assert [int(each) >> 24 for each in weighed[0].packed] == [1, 3]
    assert int(weighed[0].packed[1]) & 4095 == 2


def test_more_of_the_question_is_surer() -> None:
    messages = [*FILLER, "the violin teacher lives in Porto", *FILLER, "a violin", *FILLER]
    one = ranked("violin teacher Porto", ["a violin", *FILLER]).sure
    assert 0 < one < ranked("violin teacher Porto", messages).sure <= 1


@pytest.mark.parametrize("query", ["", "and then?", "nothing", "here, nothing", "zebra", "zebras eat grass"])
def test_what_stands_everywhere_or_nowhere_is_never_sure(query: str) -> None:
    assert ranked(query, FILLER).sure < 0.3


@given(
    st.lists(st.sampled_from(["violin", "tea", "tea lemon", "rain", ""]), max_size=30),
    st.text("violntea mr", max_size=30),
)
def test_scores_are_finite_and_sure_is_a_share(messages: list[str], query: str) -> None:
    found = ranked(query, messages)
    assert np.isfinite(found.scores).all()
    assert (found.scores >= 0).all()
    assert 0 <= found.sure <= 1


@given(
    st.lists(st.sampled_from([0.0, 1e-9, 0.5, 0.5, 1.0, 3.25]), max_size=40),
    st.integers(0, 45),
    st.sampled_from([0.0, 0.2]),
)
def test_the_best_are_those_with_the_highest_scores(values: list[float], most: int, floor: float) -> None:
    scores = np.array(values, dtype=np.float64)
    top = max(values, default=0.0)
    order = sorted((-value, -at) for at, value in enumerate(values) if value >= max(floor * top, 1e-12))
    assert ranking.best(scores, most, floor) == [-at for _, at in order[:most]]


def embedded(query: list[float], rows: dict[int, list[float]]) -> Embedded:
    return Embedded(
        np.array(query, "<f4").tobytes(),
        np.array(list(rows), "<u4").tobytes(),
        np.array(list(rows.values()), "<f2").tobytes(),
    )


def test_the_vector_that_points_the_same_way_is_the_best() -> None:
    found = ranking.by_vectors(embedded([1, 0], {0: [0, 1], 2: [1, 0], 3: [0, 1], 9: [1, 0]}), 5)
    assert found is not None
    assert ranking.best(found.scores, 9, 0.0) == [2]
    assert found.sure == pytest.approx(1.0)


def test_vectors_that_are_all_alike_are_not_sure() -> None:
    found = ranking.by_vectors(embedded([1, 0], {i: [0.8, 0.6] for i in range(9)}), 9)
    assert found is not None
    assert found.sure < 0.01


def test_vectors_of_another_length_are_no_vectors() -> None:
    assert ranking.by_vectors(Embedded(bytes(8), bytes(4), bytes(6)), 3) is None
    assert ranking.by_vectors(Embedded(b"", bytes(4), b""), 3) is None


def test_not_a_number_is_no_match() -> None:
    found = ranking.by_vectors(embedded([1, 0], {0: [float("nan"), 0], 1: [1, 0]}), 2)
    assert found is not None
    assert np.isfinite(found.scores).all()


def test_a_blend_has_what_either_has() -> None:
    one = Ranked(np.array([0.0, 4.0, 0.0, 2.0]), 0.2)
    other = Ranked(np.array([0.0, 0.0, 0.3, 0.3]), 0.6)
    both = ranking.blend(one, other)
    assert both.sure == 0.6
    assert ranking.best(both.scores, 4, 0.0) == [3, 2, 1]
    assert ranking.blend(one, Ranked(np.zeros(4), 0.0)).scores.argmax() == 1


RARE = (b"r1" * 4, b"r2" * 4, b"r3" * 4)
COMMON = (b"c1" * 4, b"c2" * 4)


@pytest.mark.parametrize("messages", [ranking.LEFT_OUT_FROM - 1, ranking.LEFT_OUT_FROM, 20_000])
@pytest.mark.parametrize("rare", [(1, 1, 1), (1, 1, 0), (200, 3, 7), (0, 0, 0)])
def test_common_words_are_wanted_unless_enough_rarer_ones_were_said(messages: int, rare: tuple[int, ...]) -> None:
    words = [Asked((RARE[0],), 1), Asked(COMMON, 1), Asked((RARE[1],), 1), Asked((RARE[2],), 1)]
    terms = (*COMMON, *RARE)
    border = int(ranking.COMMON * messages)
    for counts, common in (((3, border + 1), True), ((border, 0), False)):
        wanted = ranking.wanted(terms, words, messages, (*counts, *rare))
        left_out = common and messages >= ranking.LEFT_OUT_FROM and all(rare)
        assert wanted == [not left_out, not left_out, True, True, True]


def test_a_word_that_is_left_out_counts_neither_for_nor_against_a_match() -> None:
    packed = [struct.pack("<Q", at << 24 | 9 << 12 | 1) for at in (4_000, 4_001, 4_009)]
    words = [Asked((term,), 1) for term in RARE]
    without = Found(5_000, 45_000, tuple(packed))
    one = ranking.by_keywords(without, ranking.weigh(without, RARE, words), 5_000)
    found = Found(5_000, 45_000, (*packed, 3_000))
    weighed = ranking.weigh(found, (*RARE, COMMON[0]), [*words, Asked(COMMON[:1], 1)])
    other = ranking.by_keywords(found, weighed, 5_000)
    assert (one.scores == other.scores).all()
    assert 0 < one.sure == other.sure < 1
    assert 0 < weighed[-1].weight < weighed[0].weight / 4
