"""In a cluster each key is asked for where it is, and the laws hold there too."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from proxy.stores.contract import Appended, Index, Ref
from proxy.stores.redis.address import parse
from proxy.stores.redis.link import Link
from proxy.stores.redis.nodes import SLOTS, slot
from proxy.stores.redis.store import RedisStore, from_url
from tests.stores.contract import Factory
from tests.stores.laws.appending import Appending
from tests.stores.laws.ending import Ending
from tests.stores.laws.keeping import Keeping
from tests.stores.laws.labelling import Labelling
from tests.stores.laws.lining import Lining
from tests.stores.laws.noting import Noting
from tests.stores.laws.pruning import Pruning
from tests.stores.laws.redacting import Redacting
from tests.stores.laws.running import Running
from tests.stores.laws.telling import Telling
from tests.stores.making import Clock, adding, entry, listed, talk
from tests.support.redis import Server, free_port, serve

NUMBERS = count()


@contextmanager
def node() -> Iterator[Server]:
    yield from serve("cluster-enabled yes", "cluster-require-full-coverage no", port=free_port())


@contextmanager
def whole() -> Iterator[Server]:
    """A cluster of one node."""
    with node() as server:
        assert server.call("CLUSTER", "ADDSLOTSRANGE", "0", f"{SLOTS - 1}") == b"+OK\r\n"
        server.until(lambda: b"cluster_state:ok" in server.call("CLUSTER", "INFO"))
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[Server]:
    with whole() as server:
        yield server


class TestCluster(Appending, Keeping, Ending, Telling, Noting, Labelling, Pruning, Redacting, Running, Lining):
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def factory(self, cluster: Server) -> Factory:
        def make(now: Callable[[], float]) -> RedisStore:
            return RedisStore(parse(f"{cluster.url}?prefix=laws{next(NUMBERS)}"), now=now)

        return make

    @pytest.fixture
    async def store(self, cluster: Server, clock: Clock) -> AsyncIterator[RedisStore]:
        store = RedisStore(parse(f"{cluster.url}?prefix=laws{next(NUMBERS)}"), now=clock)
        await store.open()
        assert store._nodes()[0].cluster
        yield store
        await store.close()


def test_slots_are_those_of_the_specification(cluster: Server) -> None:
    for key in (b"123456789", b"a{b}c", b"{}x", b"{user}:x", b"x{y", b"{{z}}", b""):
        assert cluster.call("CLUSTER", "KEYSLOT", key.decode()) == b":%d\r\n" % slot(key)


async def test_all_keys_of_a_ref_lie_in_one_slot_and_show_no_name(cluster: Server) -> None:
    store = from_url(f"{cluster.url}?prefix=names")
    await store.open()
    ref = Ref("Tenant", "session", "Session")
    (first,) = await talk(store, 1, ref, ttl_s=60)
    await store.index(ref, [Index(first.id, (), model, (b"x", b"y")) for model in ("one", "two")], revision=0)
    link = Link(parse(cluster.url))
    found = await link.ask("KEYS", "names:*")
    assert isinstance(found, list)
    keys = [key for key in found if isinstance(key, bytes)]
    assert len(keys) == 6 + 3
    of_ref = [key for key in keys if b"{" in key]
    assert len(of_ref) == 6
    assert len({slot(key) for key in of_ref}) == 1
    assert not [key for key in keys if b"tenant" in key.lower() or b"session" in key.lower()]
    assert await store.erase(ref)
    assert await link.ask("KEYS", "names:*") == [b"names:secret"]
    await link.close()
    await store.close()


async def test_keys_are_followed_where_they_move() -> None:
    """Half of the slots go to a second node while the store is open."""
    with whole() as cluster, node() as second:
        moved = from_url(f"{cluster.url}?prefix=moving")
        await moved.open()
        refs = [Ref("t", "session", f"{n}") for n in range(20)]
        for ref in refs:
            await talk(moved, 1, ref, ttl_s=600)
        first_link, second_link = Link(parse(cluster.url)), Link(parse(second.url))
        await first_link.ask("CLUSTER", "MEET", "127.0.0.1", second.port)
        cluster.until(lambda: b"cluster_known_nodes:2" in cluster.call("CLUSTER", "INFO"))
        second.until(lambda: b"cluster_slots_assigned:16384" in second.call("CLUSTER", "INFO"))
        second.until(lambda: b"cluster_state:ok" in second.call("CLUSTER", "INFO"))
        one, two = await first_link.ask("CLUSTER", "MYID"), await second_link.ask("CLUSTER", "MYID")
        assert isinstance(one, bytes)
        assert isinstance(two, bytes)
        keys = moved._nodes()[1]
        wanted = {slot(keys.main(keys.tag(ref))) for ref in refs[::2]} | {slot(keys.due)}
        for number in sorted(wanted):
            await second_link.ask("CLUSTER", "SETSLOT", number, "IMPORTING", one)
            await first_link.ask("CLUSTER", "SETSLOT", number, "MIGRATING", two)
            held = await first_link.ask("CLUSTER", "GETKEYSINSLOT", number, 99)
            assert isinstance(held, list)
            for key in held:
                assert isinstance(key, bytes)
                await first_link.ask("MIGRATE", "127.0.0.1", second.port, key, 0, 5000)
        # on their way: asked for there
        for ref in refs:
            chain = await moved.load(ref, key="", reach=None)
            assert chain
            assert await moved.append(adding(ref, entry(chain.head), ttl_s=600)) == Appended()
        for number in wanted:
            await second_link.ask("CLUSTER", "SETSLOT", number, "NODE", two)
            await first_link.ask("CLUSTER", "SETSLOT", number, "NODE", two)
        # moved
        for ref in refs:
            chain = await moved.load(ref, key="", reach=None)
            assert chain
            assert len(chain.entries) == 2
        assert len(await listed(moved.list())) == 20
        used = {link.address.port for link in moved._nodes()[0]._slots}
        assert used == {cluster.port, second.port}
        assert [await moved.erase(ref) for ref in refs] == [True] * 20
        assert await listed(moved.list()) == []
        await first_link.close()
        await second_link.close()
        await moved.close()
