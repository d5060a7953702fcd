"""What a message is found by: every kind of word is found again, and hostile text costs no more than its length."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.context.words import MAX_CHARS, MAX_COUNT, MAX_TERMS, asked, spots, words
from proxy.conversation.words import Words


def terms(text: str) -> set[bytes]:
    return {term for term, _ in words(text).terms}


def finds(question: str, text: str) -> bool:
    """A word of the question stands in the text."""
    held = terms(text)
    return any(term in held for word in asked(question) for term in word.terms)


def finds_all(question: str, text: str) -> bool:
    held = terms(text)
    found = asked(question)
    return bool(found) and all(any(term in held for term in word.terms) for word in found)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("allergies", "She is allergic to nuts"),
        ("Who went running?", "I run every day"),
        ("photographer", "He likes photography"),
        ("What are Melanie's hobbies?", "Melanie's newest hobby"),
        ("parties", "the party was loud"),
        ("caroline", "CAROLINE!"),
        ("Caroline’s", "Caroline called"),
        ("Häuser", "Wir haben das Haus gekauft und es ist schön"),
        ("Wann war die Prüfung der Lehrerinnen?", "Die Lehrerin hat am Montag die Prüfungen gehabt"),
        ("Kündigungen", "Ich habe die Kündigung gestern abgeschickt"),
        ("les chansons préférées", "C'est ma chanson préférée, elle est belle"),
        ("¿Cuándo fueron las vacaciones?", "Nuestra vacación fue en agosto con los niños"),
        ("Где живёт моя сестра?", "Моей сестре нравится Москва, она живет там"),
        ("Когда была операция?", "Операцию сделали в мае"),
        ("When did she visit München?", "Wir waren im Sommer in München und es war schön"),
        ("cafe", "un café crème pour moi, s'il vous plaît"),
        ("東京はどうでしたか", "先週東京に行きました"),
        ("北京的天气", "我昨天去了北京"),
        ("서울에서", "나는 서울에 살아요"),
        ("กรุงเทพ", "ฉันไปเที่ยวกรุงเทพเมื่อวาน"),
        ("Ｆｕｌｌ ｗｉｄｔｈ", "full width"),
        ("ｶﾀｶﾅ", "カタカナ"),
        ("हिन्दी", "मुझे हिन्दी पसंद है"),
        ("الكتاب", "قرأت كتابا جديدا"),
        ("Ελλάδα", "ελλαδα"),
        ("deployment", "Das Deployment ist durch"),
    ],
)
def test_other_forms_of_a_word_find_it(question: str, text: str) -> None:
    assert finds(question, text)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("getUserById", "call getUserById() first"),
        ("get_user_by_id", "call getUserById() first"),
        ("user id", "call getUserById() first"),
        ("login.py", "see src/auth/login.py line 3"),
        ("src/auth/login.py", "open `src/auth/login.py`"),
        ("ERR_404", "it says ERR_404 again"),
        ("ERR 404", "it says ERR_404 again"),
        ("XMLHttpRequest", "new XMLHttpRequest()"),
        ("HttpRequest", "new XML_Http_Request()"),
        ("C++", "I write C++ at work"),
        ("C#", "and C# at home"),
        ("co-worker", "my coworker left"),
        ("2023-05-08", "on 2023-05-08 it rained"),
        ("8 2023", "on 2023-05-08 it rained"),
        ("the 8th", "8 people"),
        ("1,000", "1000 euros"),
        ("10:30", "at 10:30 sharp"),
        ("3.14", "pi is 3.14 or so"),
        ("007", "agent 7"),
        ("US", "She lives in the US now"),
    ],
)
def test_numbers_dates_and_identifiers_are_found_whole_and_in_parts(question: str, text: str) -> None:
    held = terms(text)
    assert any(term in held for word in asked(question) for term in word.terms)


@pytest.mark.parametrize(
    "text", ["", " ", "?!", "\x00", "\ud800", "the and of", "I don't, can't", "und oder aber", "😀"]
)
def test_nothing_is_found_by_nothing(text: str) -> None:
    assert words(text) == Words(0, ())
    assert asked(text) == ()


def test_stop_words_of_another_language_are_words() -> None:
    assert words("He will die in the war").length == 2
    assert words("Die war nicht in dem Haus").length == 1


def test_words_are_counted_and_each_term_told_once() -> None:
    found = words("tea, Tea and more TEA with lemon")
    assert found.length == 4
    assert sorted(count for _, count in found.terms) == [1, 3]
    assert all(len(term) == 8 for term, _ in found.terms)


@given(st.text(max_size=400) | st.text("aA1_'’.,-/é漢が\u0301\ud800\0 ก", max_size=400))
def test_any_text_has_words_and_a_question_of_the_same_text_finds_all_of_them(text: str) -> None:
    found = words(text)
    assert found == words(text)
    held = [term for term, _ in found.terms]
    assert len(held) == len(set(held))
    assert {term for word in asked(text) for term in word.terms} >= set(held)
    assert found.length == sum(word.often for word in asked(text))
    for offset, term in spots(text, frozenset(held)):
        assert 0 <= offset < len(text)
        assert term in held
    assert {term for _, term in spots(text, frozenset(held))} == set(held)


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a'",
        "a's's",
        "a.b",
        "1,",
        "\u0315\u0300",
        "a\u0315\u0300",
        "ﷺ",
        "漢",
        "漢a",
        "½",
        "\ud800",
        "aB",
        "a_",
        "'",
        "\0",
    ],
)
def test_a_megabyte_without_spaces_is_bounded(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    before = time.process_time()
    found = words(text)
    assert time.process_time() - before < 2.0
    assert len(found.terms) <= MAX_TERMS
    assert all(count <= MAX_COUNT for _, count in found.terms)


def test_counts_and_characters_have_a_limit() -> None:
    found = words("tea " * MAX_CHARS)
    assert found.length == MAX_CHARS // 4
    assert found.terms[0][1] == MAX_COUNT
    assert len(words(" ".join(f"w{i}" for i in range(20_000))).terms) == MAX_TERMS
    assert not finds("lemon", " " * MAX_CHARS + "lemon")
