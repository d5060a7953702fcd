"""Rows, joined by the server."""

from proxy.stores.postgres.rows import pack, unpack
from tests.stores.making import entry


def test_rows_joined_are_the_entries_again() -> None:
    one = entry(None)
    two = entry(one)
    assert unpack(2, pack(one) + pack(two)) == [one, two]
    assert unpack(0, None) == []
