"""What travels to the database."""

import pytest

from proxy.conversation.entry import Anchor, Entry
from proxy.stores.contract import Append
from proxy.stores.postgres import asks
from tests.stores.making import REF, RULES, adding, entry, replay


def test_an_append_has_a_value_for_each_place() -> None:
    new = entry(None, preamble=RULES, anchor=Anchor("k", 0, 3, "ab" * 16))
    for append in (adding(REF, new, preamble=RULES, replay=replay("k", new)), adding(REF, new)):
        values = (1, *asks.adding(append).values(None))
        assert f"${len(values)})" in asks.APPEND
        assert asks.key(values) == (REF.tenant, REF.kind, REF.name)


def test_what_is_no_id_is_refused_or_never_found() -> None:
    new = entry(None)
    wrong = Entry(**{name: getattr(new, name) for name in new.__struct_fields__} | {"id": "x"})
    with pytest.raises(ValueError, match="32 hex digits"):
        asks.adding(Append(ref=REF, expected=None, entry=wrong))
    assert asks.adding(Append(ref=REF, expected="nonsense", entry=new)).expected == b""
    assert asks.adding(Append(ref=REF, expected=None, entry=new)).expected is None


def test_a_replay_travels_only_where_it_is_kept() -> None:
    new = entry(None)
    for moves, sticky, kept in ((True, False, True), (True, True, True), (False, True, True), (False, False, False)):
        append = adding(REF, new, moves=moves, replay=replay("k", new, sticky=sticky))
        assert (asks.adding(append).replay is not None) is kept
