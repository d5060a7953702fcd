"""The lists of stop words are what the guess of a language rests on."""

import pytest

from proxy.context.stopwords import ENGLISH, LANGUAGES, STOPS


def test_every_word_is_told_with_its_languages() -> None:
    assert {(word, language) for word, found in LANGUAGES.items() for language in found} == {
        (word, language) for language, stops in STOPS.items() for word in stops
    }


def test_words_are_as_a_message_is_compared_with_them() -> None:
    assert [word for word in LANGUAGES if word != word.lower() or not word.isalpha()] == []


@pytest.mark.parametrize("language", list(STOPS))
def test_every_language_has_words_that_no_other_has(language: str) -> None:
    assert sum(found == (language,) for found in LANGUAGES.values()) >= 15


def test_a_month_and_question_words_of_fact_are_kept_and_dropped() -> None:
    assert "may" not in STOPS[ENGLISH]
    assert {"when", "what", "where", "who"} <= STOPS[ENGLISH]
