"""Globs match as fnmatch says, and two that can match one name are found out."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.globs import matcher, overlap, weight

GLOB = st.text(alphabet="ab*?", max_size=7)
NAME = st.text(alphabet="ab", max_size=9)


@given(st.text(alphabet="ab*?[]!-", max_size=8), st.text(alphabet="abAB-", max_size=8))
def test_a_glob_matches_as_fnmatch_says(glob: str, name: str) -> None:
    assert bool(matcher(glob).match(name)) == fnmatchcase(name, glob)


@given(GLOB, GLOB, NAME)
@example("a*", "*b", "ab")
@example("**", "", "")
def test_two_globs_that_match_one_name_overlap(a: str, b: str, name: str) -> None:
    if fnmatchcase(name, a) and fnmatchcase(name, b):
        assert overlap(a, b)
    assert overlap(a, b) == overlap(b, a)


@pytest.mark.parametrize(("a", "b"), [("gpt-*", "claude-*"), ("a?", "a"), ("*x", "*y"), ("a*b", "b*a"), ("", "?")])
def test_two_globs_that_share_no_name_do_not_overlap(a: str, b: str) -> None:
    assert not overlap(a, b)


def test_long_globs_are_compared_at_once() -> None:
    assert not overlap("*a" * 100, "*b" * 100 + "c")


@pytest.mark.parametrize(
    ("glob", "literal"), [("gpt-4o", 6), ("gpt-*", 4), ("*", 0), ("gpt-[34]?", 4), ("[!]]x", 1), ("[", 1)]
)
def test_the_weight_is_the_number_of_literal_characters(glob: str, literal: int) -> None:
    assert weight(glob) == literal
