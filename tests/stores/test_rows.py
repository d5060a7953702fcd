"""Entries and summaries as blobs, joined by nothing; and ids."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.entry import Entry
from proxy.conversation.summary import Summary
from proxy.stores.rows import key_of, pack, pack_summary, unpack_all, unpack_one, unpack_summary

_ints = st.integers(0, 2**62)
_blobs = st.binary(max_size=300)
entries = st.builds(
    Entry,
    id=st.text("0123456789abcdef", min_size=32, max_size=32),
    parent=st.sampled_from(["", "ab" * 16]),
    wire=_blobs,
    count=_ints,
    upto=_ints,
    tokens=_ints,
    tokens_upto=_ints,
    turn=_ints,
    loose=st.booleans(),
    digest=_blobs,
    packed=_blobs,
)


@given(st.lists(entries, max_size=20))
def test_rows_joined_are_the_entries_again(some: list[Entry]) -> None:
    assert unpack_all(len(some), b"".join(map(pack, some))) == some
    assert [unpack_one(pack(each)) for each in some] == some


@given(st.builds(Summary, **dict.fromkeys(("upto", "tokens", "generation", "at_ms"), _ints)))
def test_a_summary_is_itself_again(summary: Summary) -> None:
    assert unpack_summary(pack_summary(summary)) == summary


@given(st.binary(min_size=16, max_size=16))
def test_an_id_becomes_its_bytes(key: bytes) -> None:
    assert key_of(key.hex()) == key


def test_what_is_no_id_has_no_key() -> None:
    for id in ("", "ab", "ab" * 15, "ab" * 17, "AB" * 16, "xy" * 16, " " + "ab" * 16, "ab " * 16, "é" * 32):
        assert key_of(id) is None
