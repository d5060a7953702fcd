"""What is held of sessions in use fits together, and is bounded."""

import pytest

from proxy.conversation.entry import Entry
from proxy.stores.contract import Ref
from proxy.stores.postgres import cache as module
from proxy.stores.postgres.cache import Cache, window
from tests.stores.making import OTHER_RULES, REF, RULES, entry


def line(count: int) -> tuple[Entry, ...]:
    said: list[Entry] = []
    for n in range(count):
        said.append(entry(said[-1] if said else None, f"{n}"))
    return tuple(said)


def test_it_grows_by_what_follows_and_forgets_what_does_not() -> None:
    cache, said = Cache(), line(5)
    cache.grown(REF, 1, said[0], None, None)
    assert cache.get(REF) is None
    cache.put(REF, 1, said[:3], RULES.id, RULES, 0, 3)
    cache.grown(REF, 1, said[3], RULES.id, None)
    held = cache.get(REF)
    assert held
    assert (held.entries, held.preamble, held.first, held.tokens) == (said[:4], RULES, 0, 0)
    cache.grown(REF, 1, said[4], OTHER_RULES.id, OTHER_RULES)
    held = cache.get(REF)
    assert held
    assert (held.entries, held.preamble) == (said, OTHER_RULES)
    for n, follows in ((1, said[2]), (2, entry(said[4]))):
        cache.put(REF, 1, said, None, None, 0, 5)
        cache.grown(REF, n, follows, None, None)
        assert cache.get(REF) is None


def test_it_lets_go_of_what_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARE", 2)
    cache, said = Cache(), line(10)
    cache.put(REF, 1, said, None, None, 0, 4)
    held = cache.get(REF)
    assert held
    assert held.entries == said
    cache.put(REF, 1, said, None, None, 0, 3)
    held = cache.get(REF)
    assert held
    assert (held.entries, held.first, held.tokens) == (said[-3:], said[-4].upto, said[-4].tokens_upto)


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, said = Cache(), line(4)
    cache.put(REF, 1, said, RULES.id, RULES, 0, 4)
    monkeypatch.setattr(module, "MOST_BYTES", cache._bytes * 3)
    refs = [Ref("t", "session", f"{n}") for n in range(9)]
    for ref in refs:
        cache.put(ref, 1, said, RULES.id, RULES, 0, 4)
        assert cache._bytes <= module.MOST_BYTES
    assert [ref for ref in refs if cache.get(ref)] == refs[-3:]
    for ref in refs:
        cache.drop(ref)
    assert cache._bytes == 0


def test_a_window_is_what_was_asked_for() -> None:
    said = line(6)
    assert window(said, "", None) == said
    for reach, count in ((0, 1), (1, 1), (8, 1), (9, 2), (47, 6), (99, 6)):
        assert window(said, "", reach) == said[-count:]
