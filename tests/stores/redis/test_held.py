"""What is held answers as the server would, and no more of it is held than there is room for."""

import pytest

from proxy.conversation.entry import Anchor, Entry
from proxy.stores.contract import Append, Ref
from proxy.stores.redis import held as module
from proxy.stores.redis.held import Cache, hold
from tests.stores.making import OTHER_RULES, REF, RULES, entry


def line(count: int) -> list[Entry]:
    said: list[Entry] = []
    for n in range(count):
        said.append(entry(said[-1] if said else None, f"{n}"))
    return said


def test_a_window_is_told_only_if_all_of_it_is_held() -> None:
    said = line(6)
    whole, end = hold(b"g", list(said), None, 0, ()), hold(b"g", said[3:], None, 0, ())
    for reach, count in ((None, 6), (0, 1), (1, 1), (8, 1), (9, 2), (24, 3), (25, 4), (99, 6)):
        assert whole.window("", reach) == said[-count:]
        assert end.window("", reach) == (said[-count:] if count <= 3 else None)
    anchored = entry(said[-1], anchor=Anchor("k", 6, 6))
    kept = hold(b"g", [*said[3:], anchored], None, 0, ())
    assert kept.window("k", None) == [*said[3:], anchored]
    assert kept.window("other", None) is None


def test_it_grows_by_what_was_appended_to_it() -> None:
    cache, said = Cache(), line(4)
    cache.put(REF, hold(b"g", said[:2], RULES, 0, ()))
    before = cache.get(REF)
    cache.grown(Append(ref=REF, expected=None, entry=said[2], preamble=OTHER_RULES), b"g")
    after = cache.get(REF)
    assert before
    assert after
    assert (before.window("", None), after.window("", None)) == (said[:2], said[:3])
    assert (before.preamble, after.preamble) == (RULES, OTHER_RULES)
    assert before.stamp != after.stamp
    # a sibling of what was put behind it
    cache.put(REF, before)
    cache.grown(Append(ref=REF, expected=None, entry=entry(said[1], "sibling")), b"g")
    assert cache.get(REF) is None
    assert after.window("", None) == said[:3]
    for append, generation in ((said[3], b"other"), (entry(said[0]), b"g")):
        cache.put(REF, after)
        cache.grown(Append(ref=REF, expected=None, entry=append), generation)
        assert cache.get(REF) is None


def test_what_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 20_000)
    cache = Cache()
    for n in range(100):
        cache.put(Ref("t", "session", f"{n}"), hold(b"g", line(2), None, 0, ()))
    held = [n for n in range(100) if cache.get(Ref("t", "session", f"{n}"))]
    assert 3 < len(held) < 10
    assert held == list(range(100))[-len(held) :]


def test_what_lies_far_before_the_window_is_let_go() -> None:
    cache, said = Cache(), line(100)
    everything = hold(b"g", said, None, 0, ())
    cache.put(REF, everything)
    cache.used(REF, everything, said[-40:])
    assert cache.get(REF) is everything
    cache.used(REF, everything, said[-10:])
    left = cache.get(REF)
    assert left
    assert left.entries == said[-10:]
