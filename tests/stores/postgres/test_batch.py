"""Calls that travel together: each has its own answer, and one that fails spoils none of the others."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.errors import StoreUnavailable
from proxy.stores.contract import Appended, Conflict, Ref
from proxy.stores.postgres import PostgresStore, batch, from_url, migrate
from proxy.stores.postgres.address import parse
from tests.stores.making import adding, entry
from tests.support.postgres import Server

REFS = [Ref("t", "session", f"{n:03d}") for n in range(90)]


async def opened(url: str) -> PostgresStore:
    store = from_url(url)
    await store.open()
    return store


async def test_each_has_its_own_answer_in_whatever_order_they_come(fresh: Callable[[], str]) -> None:
    store = await opened(fresh())
    first = {ref: entry(None, ref.name) for ref in REFS}
    assert await asyncio.gather(*[store.append(adding(ref, first[ref])) for ref in reversed(REFS)]) == [Appended()] * 90
    chains = await asyncio.gather(*[store.load(ref, key="", reach=None) for ref in [*REFS[45:], *REFS[:45]]])
    assert [chain and chain.head for chain in chains] == [first[ref] for ref in [*REFS[45:], *REFS[:45]]]
    late = await asyncio.gather(*[store.append(adding(ref, entry(None))) for ref in REFS])
    assert late == [Conflict(first[ref].id) for ref in REFS]
    await store.close()


async def test_many_at_once_make_few_transactions(fresh: Callable[[], str], server: Server) -> None:
    """A commit each would be ninety."""
    store = await opened(fresh())
    await store.append(adding(Ref("t", "session", "x"), entry(None)))
    count = "SELECT pg_current_xact_id()"
    before = int(server.sql(count))
    await asyncio.gather(*[store.append(adding(ref, entry(None))) for ref in REFS])
    assert int(server.sql(count)) - before < 12
    await store.close()


async def test_who_cancels_spoils_nothing(fresh: Callable[[], str]) -> None:
    store = await opened(fresh())
    new = {ref: entry(None, ref.name) for ref in REFS}
    tasks = [asyncio.ensure_future(store.append(adding(ref, new[ref]))) for ref in REFS]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[1::2] == [Appended()] * 45
    again = await asyncio.gather(*[store.append(adding(ref, new[ref])) for ref in REFS])
    assert again == [Appended(again=True)] * 90
    await store.close()


async def test_one_that_waits_for_a_lock_fails_alone(fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "SETTINGS", migrate.SETTINGS.replace("lock_timeout = '5s'", "lock_timeout = '200ms'"))
    url = fresh()
    store = await opened(url)
    heads = {ref: entry(None) for ref in REFS}
    await asyncio.gather(*[store.append(adding(ref, heads[ref])) for ref in REFS])
    holder = await migrate.connect(parse(url), await store.secret())
    async with holder.transaction():
        await holder.execute("SELECT FROM refs WHERE name = '007' FOR UPDATE")
        answers = await asyncio.gather(
            *[store.append(adding(ref, entry(heads[ref]))) for ref in REFS], return_exceptions=True
        )
    await holder.close()
    assert isinstance(answers.pop(7), StoreUnavailable)
    assert answers == [Appended()] * 89
    await store.close()


async def test_rivals_in_many_batches_of_two_stores_do_not_lock_each_other(
    fresh: Callable[[], str], server: Server
) -> None:
    url = fresh()
    stores = [await opened(url), await opened(url)]
    for turn in range(4):
        orders = [REFS, REFS[::-1]]
        wanted = [
            store.append(adding(ref, entry(None, f"{turn}")))
            for store, order in zip(stores, orders, strict=True)
            for ref in order
        ]
        answers = await asyncio.gather(*wanted)
        assert sum(answer == Appended() for answer in answers) == (90 if turn == 0 else 0)
    assert server.sql("SELECT sum(deadlocks) FROM pg_stat_database") == "0"
    for store in stores:
        await store.close()


async def test_what_waits_too_long_is_told_so(fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is busy with those before."""
    monkeypatch.setattr(batch, "MOST_UNDER_WAY", 1)
    monkeypatch.setattr(batch, "MOST_AT_ONCE", 1)
    monkeypatch.setattr(batch, "WAIT_S", 0.0)
    store = await opened(fresh())
    answers = await asyncio.gather(*[store.load(ref, key="", reach=None) for ref in REFS[:3]], return_exceptions=True)
    late = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
    assert late
    assert all("does not keep up" in answer.message for answer in late)
    monkeypatch.setattr(batch, "MOST_WAITING", 2)
    monkeypatch.setattr(batch, "WAIT_S", 5.0)
    answers = await asyncio.gather(*[store.load(ref, key="", reach=None) for ref in REFS[:3]], return_exceptions=True)
    assert [isinstance(answer, StoreUnavailable) for answer in answers] == [False, False, True]
    await store.close()


async def test_those_of_one_ref_are_done_in_the_order_in_which_they_came(fresh: Callable[[], str]) -> None:
    """However many batches they make up; so a repetition never overtakes."""
    store = await opened(fresh())
    for turn in range(30):
        ref = REFS[turn]
        new = entry(None)
        tasks = []
        for _ in range(4):
            tasks.append(asyncio.ensure_future(store.append(adding(ref, new))))
            for _ in range(turn % 4):
                await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [Appended(), *[Appended(again=True)] * 3]
    await store.close()
