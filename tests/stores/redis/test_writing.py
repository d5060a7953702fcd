"""What the server removes by itself, should the sweep never come; and what the sweep looks at."""

import time
from collections.abc import Callable

from proxy.conversation.entry import Entry
from proxy.stores.contract import Appended, Index, Ref
from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Link
from proxy.stores.redis.store import RedisStore
from proxy.stores.redis.writing import SLACK_MS
from tests.stores.making import REF, Clock, adding, entry, replay, talk


async def lives(link: Link, space: str) -> set[int]:
    """When the ref's keys end, in milliseconds; -1: never."""
    keys = await link.ask("KEYS", f"{space}:{{*")
    assert isinstance(keys, list)
    ends = [await link.ask("PEXPIRETIME", key) for key in keys if isinstance(key, bytes)]
    return {end for end in ends if isinstance(end, int)}


async def test_the_server_removes_all_keys_of_a_ref_at_one_time(store: RedisStore, address: Address) -> None:
    link = Link(address)
    said: list[Entry] = []

    async def grow(ttl: int | None) -> set[int]:
        said.append(entry(said[-1] if said else None))
        assert await store.append(adding(REF, said[-1], ttl_s=ttl)) == Appended()
        # strings that are made now, after the server was told
        await store.index(REF, [Index(each.id, (), f"model {len(said)}", (b"x", b"y")) for each in said], revision=0)
        chain = await store.vectors(REF, said[-1].id, f"model {len(said)}")
        assert chain
        assert len(chain.matrix) == 2 * len(said)
        return await lives(link, address.space)

    assert await grow(None) == {-1}
    now = time.time() * 1000
    (first,) = await grow(3600)
    assert 3_600_000 + SLACK_MS < first - now <= 3_700_000 + 2 * SLACK_MS
    # renewed each turn, but not told each turn
    assert await grow(3605) == {first}
    (later,) = await grow(90_000)
    assert later > first
    (sooner,) = await grow(60)
    assert now + 60_000 + SLACK_MS < sooner < first
    assert await grow(None) == {-1}
    await link.close()


async def test_with_another_clock_the_server_is_told_nothing(make: Callable[..., RedisStore], address: Address) -> None:
    store, link = make(now=Clock()), Link(address)
    await store.open()
    await talk(store, 2, ttl_s=60)
    assert await lives(link, address.space) == {-1}
    await link.close()


async def test_the_sweep_looks_at_what_is_due_and_at_nothing_else(
    make: Callable[..., RedisStore], address: Address
) -> None:
    clock, link = Clock(), Link(address)
    store = make(now=clock)
    await store.open()
    (last,) = await talk(store, 1, Ref("t", "session", "used"), ttl_s=100)
    await talk(store, 1, Ref("t", "session", "left"), ttl_s=100)
    await talk(store, 1, Ref("t", "session", "kept"))
    one = entry(None)
    await store.append(adding(REF, one, replay=replay("k", one, sticky=True), ttl_s=10**6))
    assert await link.ask("ZCARD", f"{address.space}:due") == 3
    clock.seconds += 50
    await talk(store, 1, Ref("t", "session", "used"), after=last, ttl_s=100)
    due = int(clock.seconds * 1000)
    clock.seconds += 50
    assert await store.expire(9) == 1
    # the one that was used is looked at again when it is over, not before
    assert await link.ask("ZCOUNT", f"{address.space}:due", "-inf", due + 99_999) == 0
    assert await link.ask("ZCOUNT", f"{address.space}:due", due + 100_000, due + 100_000) == 1
    clock.seconds += 50
    assert await store.expire(9) == 1
    clock.seconds += 86_400
    assert await store.expire(9) == 1
    assert await store.find_replay(REF, "k") is None
    assert await link.ask("ZCARD", f"{address.space}:due") == 1
    clock.seconds += 10**6
    assert await store.expire(9) == 1
    assert await link.ask("EXISTS", f"{address.space}:due") == 0
    await link.close()
