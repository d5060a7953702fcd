"""Lines that several processes share."""

import asyncio
import time

import pytest
from hypothesis import HealthCheck, given, settings

from proxy.stores.contract import Appended, Place, Ref
from proxy.stores.redis.address import Address, parse
from proxy.stores.redis.link import Link
from proxy.stores.redis.store import RedisStore
from tests.stores.laws.lining import EXAMPLES, FIRST, SHORT, Step, crowd, in_line, line_up, play, settled, soon, steps
from tests.stores.making import REF, Clock, adding, entry, talk
from tests.stores.redis.test_store import NUMBERS, Make, keys_of
from tests.support.redis import Server

Two = tuple[RedisStore, RedisStore]


@pytest.fixture
async def two(make: Make) -> Two:
    """As two processes have them, which go by the server's clock."""
    one, other = make(), make()
    await asyncio.gather(one.open(), other.open())
    return one, other


async def lines_of(address: Address) -> int:
    return sum(key.endswith((b":w", b":t")) for key in await keys_of(address))


async def hearing(*stores: RedisStore) -> None:
    for store in stores:
        await store.moved(REF, 0)
    async with asyncio.timeout(5):
        while not all(store._waiting.hearing for store in stores):  # noqa: ASYNC110 - they connect
            await asyncio.sleep(0.005)


async def test_everybody_gets_a_turn_alone_over_two_stores(two: Two, address: Address) -> None:
    await crowd(two, Clock(), 40)
    two[0].step_out(REF, "last")
    two[1].step_out(REF, "last")
    await asyncio.gather(*[store.ping() for store in two])
    assert await lines_of(address) == 0


@given(script=steps)
@settings(
    max_examples=EXAMPLES // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_two_answer_as_one(redis_server: Server, script: list[Step]) -> None:
    async def run() -> None:
        clock, address = Clock(), parse(f"{redis_server.url}?prefix=both{next(NUMBERS)}")
        both = [RedisStore(address, now=clock) for _ in range(2)]
        for store in both:
            await store.open()
        try:
            await play(both, clock, script)
        finally:
            for store in both:
                await store.close()

    asyncio.run(run())


async def test_those_who_wait_in_another_process_are_told_at_once(two: Two) -> None:
    """By stepping out and by an append; not by coming again and again, which would take longer."""
    one, other = two
    await hearing(*two)
    last = None
    began = time.monotonic()
    for n in range(40):
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
    assert time.monotonic() - began < 5


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


async def test_no_place_is_left_behind(two: Two, address: Address) -> None:
    """Where nobody comes any more, the server removes the line by itself."""
    refs = [Ref("tenant", "session", f"{n}") for n in range(10)]
    await asyncio.gather(*[line_up(store, f"{store}", ref, keep_ms=SHORT) for ref in refs for store in two])
    async with asyncio.timeout(5):
        while await lines_of(address):  # noqa: ASYNC110 - the server's own time
            await asyncio.sleep(0.01)
    await in_line(two[0], "a", "b")
    assert await lines_of(address) == 2
    two[1].step_out(REF, "a")
    two[0].step_out(REF, "b")
    await asyncio.gather(*[store.ping() for store in two])
    assert await lines_of(address) == 0


async def test_an_append_that_names_no_holder_does_not_look_at_lines(two: Two, address: Address) -> None:
    (said,) = await talk(two[0], 1)
    link = Link(address)
    (main,) = [key for key in await keys_of(address) if key.endswith(b"}")]
    await link.ask("SET", main + b":w", "no sorted set")
    assert await two[0].append(adding(REF, entry(said))) == Appended()
    await link.close()


async def test_who_may_not_publish_appends_all_the_same(make: Make, redis_server: Server, address: Address) -> None:
    link = Link(address)
    await link.ask("ACL", "SETUSER", "mute", "on", ">x", "~*", "+@all", "resetchannels")
    store = RedisStore(parse(f"unix://mute:x@{redis_server.socket}?prefix={address.space}"))
    await store.open()
    await in_line(store, "a", "b")
    assert await store.append(adding(REF, entry(None), holder="a")) == Appended()
    async with asyncio.timeout(5):
        while (await line_up(store, "b")).ahead:
            await store.moved(REF, 30)
    await store.close()
    await link.ask("ACL", "DELUSER", "mute")
    await link.close()


async def test_stepping_out_connects_if_it_must(two: Two, address: Address) -> None:
    await in_line(two[0], "a", "b")
    link = Link(address)
    await link.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    async with asyncio.timeout(5):
        while two[0]._nodes()[0]._seed._connection:  # noqa: ASYNC110 - the loop's work
            await asyncio.sleep(0.001)
    two[0].step_out(REF, "a")
    await two[0].close()
    assert await line_up(two[1], "b") == FIRST
    await link.close()
