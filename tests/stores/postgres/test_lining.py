"""Lines that several replicas share."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, given, settings

from proxy.stores.contract import Appended, Place, Ref
from proxy.stores.postgres import PostgresStore
from proxy.stores.postgres.address import parse
from tests.stores.laws.lining import EXAMPLES, FIRST, SHORT, Step, crowd, in_line, line_up, play, settled, soon, steps
from tests.stores.making import REF, Clock, adding, entry, talk
from tests.stores.postgres.test_store import opened, rows_of
from tests.support.postgres import Server

Two = tuple[PostgresStore, PostgresStore]


@pytest.fixture
async def two(fresh: Callable[[], str]) -> AsyncIterator[Two]:
    """As two replicas have them, which go by the server's clock."""
    url = fresh()
    one, other = await opened(url), await opened(url)
    yield one, other
    await one.close()
    await other.close()


def places(server: Server, store: PostgresStore) -> int:
    return rows_of(server, store._address.schema)["places"]


async def hearing(*stores: PostgresStore) -> None:
    for store in stores:
        await store.moved(REF, 0)
    async with asyncio.timeout(5):
        while not all(store._waiting.hearing for store in stores):  # noqa: ASYNC110 - they connect
            await asyncio.sleep(0.005)


async def test_everybody_gets_a_turn_alone_over_two_stores(two: Two, server: Server) -> None:
    await crowd(two, Clock(), 32)
    two[0].step_out(REF, "last")
    two[1].step_out(REF, "last")
    await asyncio.gather(*[store.ping() for store in two])
    assert places(server, two[0]) == 0


@given(script=steps)
@settings(
    max_examples=max(EXAMPLES // 3, 5),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_two_answer_as_one(fresh: Callable[[], str], script: list[Step]) -> None:
    async def run() -> None:
        clock, address = Clock(), parse(fresh())
        both = [PostgresStore(address, now=clock) for _ in range(2)]
        for store in both:
            await store.open()
        try:
            await play(both, clock, script)
        finally:
            for store in both:
                await store.close()

    asyncio.run(run())


async def test_those_who_wait_at_another_replica_are_told_at_once(two: Two) -> None:
    """By stepping out and by an append; not by coming again and again, which would take longer."""
    one, other = two
    await hearing(*two)
    last = None
    began = time.monotonic()
    for n in range(20):
        await in_line(one, "a")
        assert await line_up(other, "b") == Place(1, kept=True)
        waiting = asyncio.ensure_future(other.moved(REF, 30))
        await asyncio.sleep(0)
        if n % 2:
            one.step_out(REF, "a")
        else:
            last = entry(last)
            assert await one.append(adding(REF, last, holder="a")) == Appended()
        await soon(waiting)
        assert await line_up(other, "b") == FIRST
        other.step_out(REF, "b")
        await settled(other)
        await other.ping()
    assert time.monotonic() - began < 4


async def test_a_place_that_lapses_is_taken_without_a_word(two: Two) -> None:
    one, other = two
    await hearing(other)
    await line_up(one, "a", keep_ms=300)
    assert (await line_up(other, "b")).ahead == 1
    began = time.monotonic()
    async with asyncio.timeout(5):
        while (await line_up(other, "b")).ahead:
            await other.moved(REF, 30)
    assert time.monotonic() - began < 2


async def test_no_place_is_left_behind(two: Two, server: Server) -> None:
    one, other = two
    refs = [Ref("tenant", "session", f"{n}") for n in range(30)]
    await asyncio.gather(*[line_up(store, f"{store}", ref, keep_ms=SHORT) for ref in refs for store in two])
    assert places(server, one) == 60
    await asyncio.sleep(SHORT / 1000)
    # by the next that uses the line
    await line_up(other, "c", refs[0])
    assert places(server, one) == 59
    other.step_out(refs[0], "c")
    await other.ping()
    assert places(server, one) == 58
    # by the sweep
    assert await other.expire(5) == 0
    assert places(server, one) == 0


async def test_an_append_that_names_no_holder_does_not_look_at_lines(two: Two, server: Server) -> None:
    (said,) = await talk(two[0], 1)
    server.sql(f"DROP TABLE {two[0]._address.schema}.places")
    assert await two[0].append(adding(REF, entry(said))) == Appended()


async def test_closing_writes_that_one_stepped_out(two: Two, server: Server) -> None:
    await in_line(two[0], "a", "b")
    two[0].step_out(REF, "a")
    await two[0].close()
    two[0].step_out(REF, "b")
    assert await line_up(two[1], "b") == FIRST
    assert places(server, two[1]) == 1
