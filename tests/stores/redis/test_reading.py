"""What is read costs by the window, not by the history: counted in the server's own work."""

from itertools import pairwise

import pytest

from proxy.conversation.entry import Anchor, Entry
from proxy.stores.contract import Append, Appended
from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Link
from proxy.stores.redis.store import RedisStore
from tests.stores.making import REF, entry


async def work(link: Link) -> int:
    """Commands and fields that the server was asked for, those of scripts included."""
    told = await link.ask("INFO", "commandstats")
    assert isinstance(told, bytes)
    return sum(int(line.split(b"calls=")[1].split(b",")[0]) for line in told.splitlines() if b"cmdstat_h" in line)


@pytest.mark.parametrize("anchored", [True, False])
async def test_a_turn_costs_the_same_at_any_depth(store: RedisStore, address: Address, anchored: bool) -> None:
    link, other = Link(address), RedisStore(address)
    await other.open()
    last: Entry | None = None
    costs: dict[int, list[int]] = {}
    for depth in range(1, 2001):
        resume = max(0, 2 * depth - 20)
        last = entry(last, anchor=Anchor("k", resume, resume) if anchored else None)
        before = await work(link) if depth in (50, 2000) else 0
        done = await store.append(Append(ref=REF, expected=last.parent or None, entry=last))
        assert done == Appended()
        if before:
            cost = [before, await work(link)]
            # from the server, for this one holds nothing
            chain = await other.load(REF, key="k", reach=75)
            assert chain
            assert len(chain.entries) == 10
            cost.append(await work(link))
            assert len(await other.read(REF, last.id, 30, 40)) == 5
            assert await other.find_turn(REF, 20) is not None
            assert len(await other.pick(REF, last.id, [3, 40, 90])) == 3
            cost.append(await work(link))
            costs[depth] = [b - a for a, b in pairwise(cost)]
            other._cache.drop(REF)
    (append, load, deep), (late_append, late_load, late_deep) = costs[50], costs[2000]
    assert late_append == append
    assert late_load == load
    # far back is found by halving
    assert late_deep <= deep + 100
    await other.close()
    await link.close()
