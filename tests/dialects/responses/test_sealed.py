"""What is sealed is read again; what is not ours, or was changed, is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.responses.sealed import REASONING, SUMMARY, is_sealed, seal, unseal
from proxy.errors import InvalidBody

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(codec="utf-8")),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), each, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_what_is_sealed_is_read_again(value: object) -> None:
    sealed = seal(REASONING, value)
    assert unseal(REASONING, sealed, "m") == value
    assert is_sealed(REASONING, sealed)
    assert not is_sealed(SUMMARY, sealed)
    assert sealed.isascii()


def test_what_no_json_parser_takes_is_mended() -> None:
    assert unseal(REASONING, seal(REASONING, ["\ud83d\ude00", "a\ud83d"]), "m") == ["\U0001f600", "a\ufffd"]
    assert unseal(REASONING, seal(REASONING, 10**30), "m") == 1e30


ODD = [None, 3, "", "gAAAAAB", seal(REASONING, "a"), seal(SUMMARY, "a")[:-2]]
DAMAGED = [SUMMARY + rest for rest in ("", "x", "é", "_-==", "*" + seal("", "a"))]


@pytest.mark.parametrize("value", [*ODD, *DAMAGED])
def test_what_is_not_ours_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidBody) as told:
        unseal(SUMMARY, value, "input[0].encrypted_content")
    assert told.value.param == "input[0].encrypted_content"


def test_only_text_is_sealed() -> None:
    assert not is_sealed(SUMMARY, None)
