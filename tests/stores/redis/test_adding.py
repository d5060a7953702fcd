"""What the script is told of an append."""

import pytest

from proxy.stores.contract import Append, Ref
from proxy.stores.redis import rows
from proxy.stores.redis.adding import adding
from tests.stores.making import REF, entry


def test_an_entry_needs_an_id() -> None:
    with pytest.raises(ValueError, match="no id"):
        adding(Append(ref=REF, expected=None, entry=entry(None, id="x")), b"tag", 1, guarded=False)


def test_only_sessions_are_listed() -> None:
    append = Append(ref=REF, expected=None, entry=entry(None))
    arguments, member = adding(append, b"tag", 1, guarded=False)
    assert rows.unpack_member(member)[0] == REF
    assert member in arguments
    other = Append(ref=Ref("t", "chain", "c"), expected=None, entry=entry(None))
    assert adding(other, b"tag", 1, guarded=False)[1] == b""
