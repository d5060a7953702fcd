"""Cutting long text: nothing is lost, pieces are bounded, and ordinary text weighs what it weighs uncut."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.tokens.pieces import PIECE_CHARS, pieces
from tests.tokens import reference

PROSE = (
    "Remora keeps what was said — even “quoted” things, it's true! — and puts it in front.\n\n"
    "\t- first: don't\n\t- second;  two spaces, 3.14159 and https://example.org/a?b=c&d=e\r\n"
    "def f(x: int) -> str:\n    return f'{x!r}'  # a comment\n\n\n"
)
CHINESE = "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。闰余成岁，律吕调阳。"
RUNS = st.tuples(st.sampled_from([" ", "\n", "a", "A", "中", "é", "\u0301", "'s", ".", "7", "\t", "😀", "x y", PROSE]))


@given(st.lists(st.tuples(RUNS, st.integers(1, 3000)), max_size=8))
@example([(("a",), PIECE_CHARS)])
@example([(("a",), PIECE_CHARS + 1)])
def test_pieces_joined_are_the_text_and_none_is_too_long(runs: list[tuple[tuple[str], int]]) -> None:
    text = "".join(unit * times for (unit,), times in runs)[:60_000]
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= PIECE_CHARS for piece in cut) or text == ""


@pytest.mark.parametrize("name", reference.NAMES)
@pytest.mark.parametrize(
    "text",
    [
        PROSE * 100,
        CHINESE * 500,
        "word " * 9000,
        "line\n" * 9000,
        ("word" + "\n" * 12) * 3000,
        (" " + "it's" * 1000) * 4,
    ],
    ids="pcwlni",
)
@pytest.mark.parametrize("shift", [0, 1, 2, 3, 7, 50, 99])
def test_ordinary_text_weighs_the_same_cut_and_uncut(name: str, text: str, shift: int) -> None:
    encode = reference.encoding(name).encode_ordinary
    text = text[shift : shift + 3 * PIECE_CHARS]
    cut = list(pieces(text))
    assert len(cut) > 3
    assert [token for piece in cut for token in encode(piece)] == encode(text)


@pytest.mark.parametrize("name", reference.NAMES)
@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 200), words=st.lists(st.text(max_size=8), min_size=1, max_size=30))
def test_any_words_between_spaces_weigh_the_same_cut_and_uncut(name: str, start: int, words: list[str]) -> None:
    text = ("x" * start + " ".join(words) + " and so on, \n") * 400
    text = text[: 2 * PIECE_CHARS]
    encode = reference.encoding(name).encode_ordinary
    assert [token for piece in pieces(text) for token in encode(piece)] == encode(text)
