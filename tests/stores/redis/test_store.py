"""The store in Redis keeps the laws, shared by several, across crashes and faults of the server."""

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from proxy.errors import SettingsError, StoreUnavailable
from proxy.stores.contract import Appended, Conflict, Index, Ref
from proxy.stores.redis import from_url
from proxy.stores.redis import store as module
from proxy.stores.redis.address import Address, parse
from proxy.stores.redis.link import Link
from proxy.stores.redis.store import RedisStore
from tests.stores.contract import Factory, Laws
from tests.stores.making import REF, RULES, Clock, adding, entry, listed, replay, talk
from tests.support.redis import Server, serve

NUMBERS = count()
Make = Callable[..., RedisStore]


class TestRedis(Laws):
    @pytest.fixture
    def factory(self, redis_server: Server) -> Factory:
        def make(now: Callable[[], float]) -> RedisStore:
            return RedisStore(parse(f"{redis_server.url}?prefix=laws{next(NUMBERS)}"), now=now)

        return make


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that may be maltreated; all that it acknowledges is on disk."""
    yield from serve("appendonly yes", "appendfsync always", "requirepass SECRET")


def url_of(server: Server) -> str:
    return f"unix://:SECRET@{server.socket}?timeout=2"


async def keys_of(address: Address) -> list[bytes]:
    link = Link(address)
    keys = await link.ask("KEYS", f"{address.space}:*")
    await link.close()
    assert isinstance(keys, list)
    return [key for key in keys if isinstance(key, bytes)]


async def test_two_stores_see_each_others_writes_at_once(make: Make) -> None:
    one, two = make(), make()
    await asyncio.gather(one.open(), two.open())
    assert await one.secret() == await two.secret()
    last = None
    for turn in range(20):
        writer, reader = (one, two) if turn % 3 else (two, one)
        last = entry(last, f"{turn}", preamble=RULES if turn % 2 else None)
        assert await writer.append(adding(REF, last, preamble=RULES if turn % 2 else None)) == Appended()
        for store in (reader, writer, reader):
            chain = await store.load(REF, key="", reach=25)
            assert chain
            assert (chain.head, chain.preamble) == (last, RULES if turn % 2 else None)
            assert len(chain.entries) == min(turn + 1, 4)
    assert await one.erase(REF)
    assert await two.load(REF, key="", reach=None) is None
    assert await two.append(adding(REF, entry(last))) == Conflict(None)
    assert last
    await talk(one, 1)
    chain = await two.load(REF, key="", reach=None)
    assert chain
    assert len(chain.entries) == 1


async def test_a_kill_loses_nothing_that_was_acknowledged(own: Server) -> None:
    store = from_url(url_of(own))
    await store.open()
    acknowledged: dict[str, list[str]] = {}

    async def hammer(name: str) -> None:
        last = None
        while True:
            last = entry(last, name)
            try:
                assert await store.append(adding(Ref("t", "session", name), last)) == Appended()
            except StoreUnavailable:
                return
            acknowledged.setdefault(name, []).append(last.id)

    async def kill() -> None:
        async with asyncio.timeout(20):
            while sum(map(len, acknowledged.values())) < 200:  # noqa: ASYNC110 - the others' work
                await asyncio.sleep(0.001)
        await asyncio.to_thread(own.kill)

    await asyncio.wait_for(asyncio.gather(kill(), *[hammer(f"{n}") for n in range(8)]), 30)
    for call in (store.ping(), store.load(REF, key="", reach=None), store.append(adding(REF, entry(None)))):
        start = time.monotonic()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await call
        assert time.monotonic() - start < 3
    await asyncio.to_thread(own.restart)
    for name, ids in acknowledged.items():
        chain = await store.load(Ref("t", "session", name), key="", reach=None)
        assert chain
        found = [each.id for each in chain.entries]
        # the one whose answer was cut off may be there too
        assert found[: len(ids)] == ids
        assert len(found) - len(ids) in (0, 1)
        # read past what is held: from the server
        records = await listed(store.records(Ref("t", "session", name)))
        assert [each.entry.id for each in records] == found
    assert len(await listed(store.list())) == 8
    await store.ping()
    await talk(store, 2)
    await store.close()


async def test_a_server_that_hangs_is_given_up_in_time_and_comes_back(own: Server) -> None:
    store = from_url(url_of(own))
    await store.open()
    (last,) = await talk(store, 1)
    own.pause()
    try:
        start = time.monotonic()
        calls = [store.append(adding(REF, entry(last))), store.load(REF, key="", reach=1), store.ping()]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        assert time.monotonic() - start < 5
    finally:
        own.resume()
    chain = await store.load(REF, key="", reach=1)
    assert chain
    assert await store.append(adding(REF, entry(chain.head))) == Appended()
    await store.close()


async def test_what_the_server_refuses_is_told_and_passes(own: Server) -> None:
    store = from_url(url_of(own))
    await store.open()
    (last,) = await talk(store, 1)
    link = Link(parse(url_of(own)))

    async def refused(match: str) -> None:
        for call in (store.ping(), store.append(adding(REF, entry(last)))):
            with pytest.raises(StoreUnavailable, match=match) as error:
                await call
            assert "SECRET" not in error.value.message
        assert await store.load(REF, key="", reach=None) is not None

    await link.ask("CONFIG", "SET", "maxmemory", 1)
    await refused("out of memory")
    await link.ask("CONFIG", "SET", "maxmemory", 0)
    await link.ask("REPLICAOF", "127.0.0.1", 1)
    await refused("read-only replica")
    await link.ask("REPLICAOF", "NO", "ONE")
    await link.ask("CONFIG", "SET", "min-replicas-to-write", 3)
    await refused("too few replicas")
    await link.ask("CONFIG", "SET", "min-replicas-to-write", 0)
    await store.ping()
    assert len(await listed(store.records(REF))) == 1
    assert await store.append(adding(REF, entry(last))) == Appended()
    await link.close()
    await store.close()


async def test_a_wrong_password_is_told_without_it(own: Server) -> None:
    for url in (url_of(own).replace("SECRET", "WRONG"), f"unix://{own.socket}"):
        with pytest.raises(SettingsError, match="password") as error:
            await from_url(url).open()
        assert "WRONG" not in str(error.value)
        assert "\n" not in str(error.value)


async def test_scripts_that_the_server_forgot_are_sent_again(store: RedisStore, address: Address) -> None:
    link = Link(address)
    last = None
    for _ in range(4):
        await link.ask("SCRIPT", "FLUSH")
        last = entry(last)
        assert await store.append(adding(REF, last)) == Appended()
        await link.ask("SCRIPT", "FLUSH")
        assert await store.load(REF, key="", reach=None, entry=last.id) is not None
    await link.close()


async def test_a_cancelled_append_happens_though_it_had_to_connect(store: RedisStore, address: Address) -> None:
    link = Link(address)
    await link.ask("SCRIPT", "FLUSH")
    await link.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    async with asyncio.timeout(5):
        while store._nodes()[0]._seed._connection:  # noqa: ASYNC110 - the loop's work
            await asyncio.sleep(0.001)
    first = entry(None)
    task = asyncio.ensure_future(store.append(adding(REF, first)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    async with asyncio.timeout(5):
        while await store.load(REF, key="", reach=None) is None:
            pass
    assert await store.append(adding(REF, first)) == Appended(again=True)
    await link.close()


async def test_what_was_delivered_is_forgotten_without_another_write(
    store: RedisStore, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DELIVERED_AFTER_S", 0.01)
    first = entry(None)
    await store.append(adding(REF, first, replay=replay("k", first)))
    link = Link(address)
    (key,) = [each for each in await keys_of(address) if each.endswith(b"}")]
    assert await link.ask("HEXISTS", key, "l") == 1
    store.delivered(REF, "k")
    async with asyncio.timeout(5):
        while await link.ask("HEXISTS", key, "l"):
            pass
    await link.close()


async def test_what_was_delivered_is_forgotten_by_closing(store: RedisStore, address: Address) -> None:
    first = entry(None)
    await store.append(adding(REF, first, replay=replay("k", first)))
    (key,) = [each for each in await keys_of(address) if each.endswith(b"}")]
    store.delivered(REF, "k")
    await store.close()
    link = Link(address)
    assert await link.ask("HEXISTS", key, "l") == 0
    await link.close()


async def test_nothing_stays_of_what_was_erased_or_expired(make: Make, address: Address) -> None:
    clock = Clock()
    store = make(now=clock)
    await store.open()
    for ref, ttl in ((REF, None), (Ref("t", "session", "expires"), 60)):
        first = entry(None, preamble=RULES)
        kept = replay("k", first, sticky=True)
        await store.append(adding(ref, first, preamble=RULES, plan=b"{}", replay=kept, ttl_s=ttl))
        await store.index(ref, [Index(first.id, (), "m", (b"x", b"y"))], revision=0)
    assert len(await keys_of(address)) == 2 * 4 + 3
    assert await store.erase(REF)
    clock.seconds += 61
    assert await store.expire(9) == 1
    assert await keys_of(address) == [f"{address.space}:secret".encode()]


async def test_a_lost_data_set_is_begun_anew_under_the_same_secret(make: Make, address: Address) -> None:
    store, other = make(), make()
    await store.open()
    await talk(store, 1)
    secret = await store.secret()
    link = Link(address)
    await link.ask("DEL", *await keys_of(address))
    assert await store.load(REF, key="", reach=None) is None
    await store.ping()
    await other.open()
    assert await other.secret() == secret
    await link.ask("SET", f"{address.space}:secret", b"1" + b"x" * 32)
    with pytest.raises(StoreUnavailable, match="another store"):
        await store.ping()
    await link.ask("SET", f"{address.space}:secret", b"2 of a later layout")
    with pytest.raises(SettingsError, match="newer"):
        await make().open()
    await link.close()


async def test_all_survives_reopening(store: RedisStore, make: Make) -> None:
    said = await talk(store, 3)
    await store.close()
    await store.open()
    await store.open()
    again = make()
    await again.open()
    for each in (store, again):
        chain = await each.load(REF, key="", reach=None)
        assert chain
        assert list(chain.entries) == said
