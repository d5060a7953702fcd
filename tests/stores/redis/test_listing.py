"""The list names what is there, and loses what is not."""

from collections.abc import Callable

from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Link
from proxy.stores.redis.store import RedisStore
from tests.stores.making import Clock, listed, talk

Make = Callable[..., RedisStore]


async def test_a_name_without_a_ref_is_passed_over_and_removed_once_it_is_old(make: Make, address: Address) -> None:
    """What a crash leaves between naming a ref and making it."""
    clock = Clock()
    store = make(now=clock)
    await store.open()
    await talk(store, 1)
    link = Link(address)
    born = int(clock.seconds * 1000)
    await link.ask("ZADD", f"{address.space}:list", 0, b"tenant\0one\0%012xabcdefabcdef" % born)
    for old, left in ((0, 2), (3600, 2), (3601, 1)):
        clock.seconds = born / 1000 + old
        assert len(await listed(store.list())) == 1
        assert await link.ask("ZCARD", f"{address.space}:list") == left
    await link.close()
