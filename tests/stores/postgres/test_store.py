"""The store in PostgreSQL keeps the laws, across replicas, restarts and crashes of the server."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.conversation.entry import Entry
from proxy.conversation.summary import Summary
from proxy.conversation.words import Words
from proxy.stores.contract import Appended, Conflict, Index, Noted, Ref, tag
from proxy.stores.postgres import PostgresStore, from_url, search
from proxy.stores.postgres import calls as module
from proxy.stores.postgres.address import parse
from tests.stores.contract import Factory, Laws
from tests.stores.making import OTHER_RULES, REF, RULES, Clock, adding, entry, replay, talk
from tests.support.postgres import Server


class TestPostgres(Laws):
    @pytest.fixture
    def factory(self, fresh: Callable[[], str]) -> Factory:
        def make(now: Callable[[], float]) -> PostgresStore:
            return PostgresStore(parse(fresh()), now=now)

        return make

    @pytest.fixture
    def crowding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "BAGS", 2)
        monkeypatch.setattr(search, "PARTS", 2)


async def opened(url: str) -> PostgresStore:
    store = from_url(url)
    await store.open()
    return store


async def test_all_survives_closing(fresh: Callable[[], str]) -> None:
    url = fresh()
    store = await opened(url)
    said = await talk(store, 3)
    secret = await store.secret()
    await store.close()
    again = await opened(url)
    chain = await again.load(REF, key="", reach=None)
    assert chain
    assert list(chain.entries) == said
    assert await again.secret() == secret
    await again.close()


async def test_two_replicas_see_each_others_turns_at_once(fresh: Callable[[], str]) -> None:
    """Whatever each of them holds: one may append, branch, erase, and begin anew behind the other's back."""
    url = fresh()
    both = [await opened(url), await opened(url)]
    said: list[Entry] = []
    for turn in range(40):
        one, other = both[turn % 2], both[1 - turn % 2]
        parent = said[-1] if said else None
        if turn % 7 == 6:
            middle = len(said) // 2
            new = entry(said[middle], f"{turn}", preamble=OTHER_RULES)
            assert await one.append(adding(REF, new, said[-1].id, preamble=OTHER_RULES)) == Appended()
            said = [*said[: middle + 1], new]
        elif turn == 31:
            assert await one.erase(REF)
            assert await other.load(REF, key="", reach=None) is None
            assert await other.append(adding(REF, entry(parent))) == Conflict(None)
            new = entry(None, f"{turn}", preamble=RULES)
            assert await other.append(adding(REF, new, preamble=RULES)) == Appended()
            said = [new]
        else:
            # some turns at once, so that the other lags behind
            for step in range(1 + turn % 3):
                new = entry(parent, f"{turn} {step}", preamble=RULES)
                assert await one.append(adding(REF, new, preamble=RULES)) == Appended()
                said.append(new)
                parent = new
        for store in (other, one, other):
            for reach in (None, 1, 20, 60):
                chain = await store.load(REF, key="", reach=reach)
                assert chain
                count = len(said) if reach is None else min((reach + 7) // 8, len(said))
                assert list(chain.entries) == said[-count:]
                assert chain.preamble == (OTHER_RULES if turn % 7 == 6 else RULES)
    for store in both:
        await store.close()


async def test_rivals_on_many_stores_lose_nothing(fresh: Callable[[], str]) -> None:
    """Every acknowledged turn is there once, each made on the one before."""
    url = fresh()
    stores = await asyncio.gather(*[opened(url) for _ in range(4)])
    acknowledged: list[str] = []

    async def client(store: PostgresStore, name: str) -> None:
        for turn in range(8):
            answer: object = None
            while answer != Appended():
                chain = await store.load(REF, key="", reach=None)
                new = entry(chain.head if chain else None, f"{name} {turn}")
                answer = await store.append(adding(REF, new))
            acknowledged.append(new.id)

    await asyncio.gather(*[client(store, f"{n}") for n, store in enumerate(stores * 2)])
    chain = await stores[0].load(REF, key="", reach=None)
    assert chain
    assert sorted(each.id for each in chain.entries) == sorted(acknowledged)
    assert [each.parent for each in chain.entries] == ["", *[each.id for each in chain.entries[:-1]]]
    for store in stores:
        await store.close()


async def test_erasing_leaves_no_row(fresh: Callable[[], str], server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """In no table, whether it is done in one step or in many, by erasing or by time."""
    monkeypatch.setattr(module, "ROWS_A_STEP", 7)
    monkeypatch.setattr(search, "BAGS", 2)
    clock = Clock()
    url = fresh()
    store = PostgresStore(parse(url), now=clock)
    await store.open()
    for how in ("erase", "expire", "begin anew"):
        said: list[Entry] = []
        for n in range(30):
            parent = said[n // 2] if said else None
            new = entry(parent, f"{n}", preamble=RULES)
            kept = replay(f"{n}", new, sticky=n % 2 == 0)
            head = said[-1].id if said else None
            done = await store.append(adding(REF, new, head, preamble=RULES, whole=n > 9, replay=kept, ttl_s=60))
            assert done == Appended()
            words = tuple(Words(1, ((b"%08d" % n, 1),)) for _ in range(new.count))
            await store.index(REF, [Index(new.id, words), Index(new.id, (), "m", (b"x", b""))], revision=0)
            said.append(new)
        await store.keep_summary(REF, Summary(said[0].id, said[0].id, 2, "text", 1, 1, "", "m", 1), revision=0)
        if how == "erase":
            assert await store.erase(REF)
        else:
            clock.seconds += 61
            if how == "begin anew":
                await talk(store, 1, ttl_s=1)
                clock.seconds += 2
            while await store.expire(9):
                pass
        counts = rows_of(server, parse(url).schema)
        assert {name: count for name, count in counts.items() if count} == {"meta": 2, "migrations": 3}
    await store.close()


def rows_of(server: Server, schema: str) -> dict[str, int]:
    names = server.sql(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'").split()
    return {name: int(server.sql(f"SELECT count(*) FROM {schema}.{name}")) for name in names}


async def rows_read(server: Server, schema: str) -> int:
    """Of all tables, since they were made, once nobody is connected any more."""
    connected = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'remora'"
    async with asyncio.timeout(10):
        while server.sql(connected) != "0":  # noqa: ASYNC110 - it is another process that ends
            await asyncio.sleep(0.01)
    counted = "(SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = '{0}')"
    counted += " + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = '{0}')"
    return int(server.sql("SELECT " + counted.format(schema)))


async def test_expiry_reads_only_what_is_over(fresh: Callable[[], str], server: Server) -> None:
    url = fresh()
    store = PostgresStore(parse(url), now=Clock())
    await store.open()
    for n in range(300):
        await talk(store, 1, Ref("t", "session", f"{n}"), ttl_s=None if n % 2 else 100_000)
    await store.close()
    before = await rows_read(server, parse(url).schema)
    await store.open()
    assert await store.expire(20) == 0
    await store.close()
    assert await rows_read(server, parse(url).schema) - before < 20


async def test_what_is_read_does_not_grow_with_the_chain(fresh: Callable[[], str], server: Server) -> None:
    """Also while the server has never counted its rows: the plans that it makes then are the ones that it keeps."""
    url = fresh()
    schema = parse(url).schema
    store = await opened(url)
    said = await talk(store, 3)
    for each in said:
        await store.index(REF, [Index(each.id, (Words(0, ()),) * 2)], revision=0)
    costs = []
    for _ in range(3):
        said += await talk(store, 150, after=said[-1])
        for each in said[-150:]:
            await store.index(REF, [Index(each.id, (Words(0, ()),) * 2)], revision=0)
        await store.close()
        before = await rows_read(server, schema)
        store = await opened(url)
        aside = entry(said[-20], "aside")
        assert await store.append(adding(REF, aside, said[-1].id)) == Appended()
        assert await store.append(adding(REF, entry(said[-1], state="failed"), moves=False)) == Appended()
        back = entry(said[-1], "back")
        assert await store.append(adding(REF, back, aside.id)) == Appended()
        said.append(back)
        for id in (None, aside.id, said[-30].id):
            assert await store.load(REF, key="", reach=60, entry=id)
        assert await store.read(REF, aside.id, 20, 30)
        assert await store.pick(REF, aside.id, [1, 50])
        assert await store.find(REF.tenant, tag(REF), said[10].id)
        assert await store.find_turn(REF, back.turn - 3)
        assert await store.annotate(REF, back.id, b"note")
        assert await store.keep_summary(REF, Summary(back.id, back.id, 2, "text", 1, 1, "", "m", 1), revision=0)
        await store.index(REF, [Index(back.id, (Words(0, ()),) * 2)], revision=0)
        assert (await store.unindexed(REF, aside.id, model="", most=9)).entries
        await store.close()
        costs.append(await rows_read(server, schema) - before)
        store = await opened(url)
    await store.close()
    # a statement that read all of the ref would read 300 rows more at the end than at the beginning
    assert max(costs) < min(costs) + 150


async def test_what_was_delivered_is_forgotten_in_the_database(fresh: Callable[[], str], server: Server) -> None:
    url = fresh()
    store = await opened(url)
    first = entry(None)
    await store.append(adding(REF, first, replay=replay("k", first)))
    store.delivered(REF, "k")
    assert await store.find_replay(REF, "k") is None
    await store.close()
    assert rows_of(server, parse(url).schema)["replays"] == 0
    store = await opened(url)
    second = entry(first)
    await store.append(adding(REF, second, replay=replay("k", second)))
    store.delivered(REF, "k")
    third = entry(second)
    await store.append(adding(REF, third, replay=replay("k", third)))
    assert await store.find_replay(REF, "k") == replay("k", third)
    await store.close()
    store = await opened(url)
    assert await store.find_replay(REF, "k") == replay("k", third)
    await store.close()


async def test_a_late_delivery_forgets_nothing_newer(fresh: Callable[[], str]) -> None:
    """One replica delivers, another records the same request again: the second reply is kept."""
    url = fresh()
    clock = Clock()
    one, other = PostgresStore(parse(url), now=clock), PostgresStore(parse(url), now=clock)
    await asyncio.gather(one.open(), other.open())
    first = entry(None)
    await one.append(adding(REF, first, replay=replay("k", first)))
    one.delivered(REF, "k")
    clock.seconds += 1
    second = entry(first)
    await other.append(adding(REF, second, replay=replay("k", second)))
    await one.close()
    assert await other.find_replay(REF, "k") == replay("k", second)
    await other.close()


@pytest.mark.parametrize("merged", [False, True])
async def test_a_search_costs_about_the_same_however_long_the_chain(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch, merged: bool
) -> None:
    """Rows that are read for one term: one of each part, and the bags."""
    monkeypatch.setattr(search, "BAGS", 4 if merged else 10_000)
    monkeypatch.setattr(search, "PARTS", 2)
    url = fresh()
    store = await opened(url)
    said = await talk(store, 200)
    bag = Words(1, ((b"abcdefgh", 1),))
    await store.index(REF, [Index(each.id, (bag, bag)) for each in said], revision=0)
    found = await store.postings(REF, said[-1].id, [b"abcdefgh"])
    assert found
    assert len(found.found[0]) == 400 * 8
    (rows,) = await store._rows("SELECT (SELECT count(*) FROM postings) + (SELECT count(*) FROM bags)")
    assert (rows[0] <= 20) is merged
    await store.close()


async def test_notes_are_found_by_id_and_erased(fresh: Callable[[], str], server: Server) -> None:
    url = fresh()
    clock = Clock()
    store = PostgresStore(parse(url), now=clock)
    await store.open()
    first = entry(None)
    failed = entry(first, state="failed")
    await store.append(adding(REF, first, note=b"a note", ttl_s=60))
    await store.append(adding(REF, failed, moves=False, ttl_s=60))
    assert await store.find(REF.tenant, tag(REF), first.id) == Noted(REF, first, b"a note")
    assert await store.find(REF.tenant, tag(REF), failed.id) == Noted(REF, failed, b"")
    for tenant, of, id in (
        ("other", tag(REF), first.id),
        (REF.tenant, "0" * 16, first.id),
        (REF.tenant, tag(REF), "x"),
    ):
        assert await store.find(tenant, of, id) is None
    for note in (b"another", b"", b"third"):
        assert await store.annotate(REF, first.id, note) is True
        assert await store.find(REF.tenant, tag(REF), first.id) == Noted(REF, first, note)
        assert rows_of(server, parse(url).schema)["notes"] == (1 if note else 0)
    assert await store.annotate(REF, entry(None).id, b"x") is False
    assert await store.annotate(Ref("other", "session", "one"), first.id, b"x") is False
    clock.seconds += 60
    assert await store.find(REF.tenant, tag(REF), first.id) is None
    assert await store.annotate(REF, first.id, b"x") is False
    assert await store.expire(9) == 1
    assert rows_of(server, parse(url).schema)["notes"] == 0
    await store.close()
