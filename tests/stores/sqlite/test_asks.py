"""What is made ready for the writer."""

import pytest

from proxy.conversation.entry import Anchor
from proxy.stores.sqlite.asks import adding
from tests.stores.making import REF, entry, replay
from tests.stores.making import adding as append


def test_an_id_that_is_none_is_refused_before_anything_waits() -> None:
    for id in ("", "AB" * 16, "ab" * 15):
        with pytest.raises(ValueError, match="is no id"):
            adding(append(REF, entry(None, id=id)))


def test_a_failed_exchange_keeps_a_replay_only_if_it_is_sticky() -> None:
    new = entry(None)
    for sticky in (False, True):
        for moves in (False, True):
            made = adding(append(REF, new, moves=moves, replay=replay("k", new, sticky=sticky)))
            assert (made.replay is not None) is (moves or sticky)


def test_the_anchor_is_its_key_and_where_it_resumes() -> None:
    assert adding(append(REF, entry(None, anchor=Anchor("k", 2, 6)))).anchor == ("k", 6)
    assert adding(append(REF, entry(None))).anchor is None
