"""Entries as blobs, joined by SQL."""

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.entry import Entry
from proxy.stores.sqlite.rows import RUN, key_of, pack, unpack, unpack_one

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
def test_sql_joins_any_rows_without_touching_a_byte(some: list[Entry]) -> None:
    connection = sqlite3.connect(":memory:")
    connection.text_factory = bytes
    connection.execute("CREATE TABLE t (row BLOB)")
    connection.executemany("INSERT INTO t VALUES (?)", [(pack(each),) for each in some])
    (run,) = connection.execute(f"SELECT {RUN} FROM t e").fetchone()
    assert unpack(run) == some
    assert [unpack_one(row) for (row,) in connection.execute("SELECT row FROM t")] == some
    connection.close()


@given(st.binary(min_size=16, max_size=16))
def test_an_id_becomes_its_bytes(key: bytes) -> None:
    assert key_of(key.hex()) == key


def test_what_is_no_id_has_no_key() -> None:
    for id in ("", "ab", "ab" * 15, "ab" * 17, "AB" * 16, "xy" * 16, " " + "ab" * 16, "ab " * 16, "é" * 32):
        assert key_of(id) is None
