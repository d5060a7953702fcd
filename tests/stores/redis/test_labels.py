"""Labels of one moment are paged through in order, and names without a ref are not told."""

from collections.abc import Callable

import pytest

from proxy.stores.contract import Ref
from proxy.stores.redis import labels as module
from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Link
from proxy.stores.redis.store import RedisStore
from tests.stores.making import Clock


@pytest.mark.parametrize("newest_first", [False, True])
async def test_labels_of_one_moment_are_paged_through(
    make: Callable[..., RedisStore], address: Address, newest_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LABELS_A_PAGE", 2)
    clock, link = Clock(), Link(address)
    store = make(now=clock)
    await store.open()
    names = []
    for moment in range(3):
        clock.seconds += 1
        for name in "cabfed":
            names.append(f"{moment}{name}")
            assert await store.label(Ref("t", "completion", names[-1]), b"x", new=True)
    names.sort(reverse=newest_first)
    key = store._nodes()[1].labels("t", "completion")
    await link.ask("ZADD", key, 0, b"stray\0" + b"%024x" % 0)
    seen: list[str] = []
    while page := await store.labels(
        "t", "completion", after=seen[-1] if seen else None, most=5, newest_first=newest_first
    ):
        seen += [each.ref.name for each in page]
    assert seen == names
    # one that is old enough to be sure of is forgotten
    assert await link.ask("ZCARD", key) == 18
    for name in names:
        assert await store.erase(Ref("t", "completion", name))
    assert await link.ask("EXISTS", key) == 0
    await link.close()
