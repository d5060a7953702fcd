"""Runs: logs are followed from anywhere, whole and in order; owners who die, cancellations, what is dropped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.errors import Overloaded, StoreUnavailable
from proxy.resources import runs as module
from proxy.resources.live import Live
from proxy.resources.runs import Runs
from proxy.stores.contract import End, Ref, Run, Store, tag
from proxy.stores.memory import MemoryStore

REF = Ref("t", "chain", "a" * 32)
NOTE = b'{"response":{"id":"resp_1","status":"in_progress","output":[],"output_text":""}}'
FAILED = b'{"response":{"id":"resp_1","status":"failed","output":[],"output_text":""}}'


def event(number: int) -> bytes:
    return b'event: e\ndata: {"sequence_number":%d}\n\n' % number


@asynccontextmanager
async def process(
    store: Store, *, silent_ms: int = 60_000, log_s: float = 60.0, said: list[str] | None = None
) -> AsyncIterator[Runs]:
    """One of the processes that share the store; `said`: what it may say."""
    silence: list[str] = []
    say = (silence if said is None else said).append
    broke: list[Exception] = []
    runs = Runs(store, log_s=log_s, silent_ms=silent_ms, failed=lambda _: FAILED, say=say, broke=broke.append)
    runs.open()
    try:
        yield runs
    finally:
        await runs.close()
    assert (silence, broke) == ([], [])


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    made: Store = MemoryStore()
    await made.open()
    yield made
    await made.close()


async def collected(runs: Runs, run: Live | Run, after: int) -> list[bytes]:
    return [each async for each in runs.follow(run, after)]


async def found(runs: Runs) -> Live | Run:
    async with asyncio.timeout(10):
        while (run := await runs.find(REF.tenant, tag(REF), "e" * 32)) is None:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.01)
    return run


async def test_a_log_is_followed_whole_and_in_order_here_and_elsewhere(store: Store) -> None:
    async with process(store) as here, process(store) as there:
        live = here.begin(REF, "e" * 32, None, NOTE)
        live.log(event(0) + event(1))
        followers = [asyncio.create_task(collected(here, live, after)) for after in (-1, 0, 5)]
        other = await found(there)
        assert isinstance(other, Run)
        followers += [asyncio.create_task(collected(there, other, after)) for after in (-1, 1)]
        for number in range(2, 40):
            live.log(event(number))
            if number % 10 == 0:
                await asyncio.sleep(module.TICK_S * 0.6)
        live.end(NOTE, keep=True)
        for task, after in zip(followers, (-1, 0, 5, -1, 1), strict=True):
            assert await asyncio.wait_for(task, 10) == [event(number) for number in range(after + 1, 40)]
        # when it is written, it is read from the store everywhere
        while here.live(REF.tenant, "e" * 32):  # noqa: ASYNC110 - time passes
            await asyncio.sleep(0.01)
        assert await collected(here, await found(here), 36) == [event(37), event(38), event(39)]


async def test_a_run_whose_owner_died_has_failed_and_its_followers_are_told(store: Store) -> None:
    assert await store.begin_run(REF, "e" * 32, owner="dead", state=NOTE, ttl_s=None)
    assert await store.log_run(REF, "e" * 32, owner="dead", events=[event(0)])
    async with process(store, silent_ms=200) as here:
        run = await found(here)
        events = await asyncio.wait_for(collected(here, run, -1), 20)
        assert events[0] == event(0)
        assert b"response.failed" in events[1]
        assert b'"sequence_number":1}' in events[1]
        run = await found(here)
        assert isinstance(run, Run)
        assert (run.ended, run.state) == (True, FAILED)
        # a client that was given more than was written is told the end too, and one that has it nothing more
        assert await collected(here, run, 7) == [events[1]]
        assert await collected(here, run, 1) == []
        # who was only paused finds out, and may not go on
        assert await store.log_run(REF, "e" * 32, owner="dead", events=[event(1)]) is None


async def test_an_owner_who_is_alive_is_not_taken_for_dead(store: Store) -> None:
    async with process(store, silent_ms=3000) as here, process(store, silent_ms=3000) as there:
        live = here.begin(REF, "e" * 32, None, NOTE)
        await here.announce(live)
        for _ in range(5):
            await asyncio.sleep(1)
            run = await found(there)
            assert isinstance(run, Run)
            assert not run.ended
        live.end(NOTE, keep=True)
        assert not live.lost


async def test_a_run_is_cancelled_from_anywhere(store: Store) -> None:
    async with process(store) as here, process(store) as there:
        live = here.begin(REF, "e" * 32, None, NOTE)
        await here.announce(live)

        async def maker() -> None:
            while not live.cancelled:  # noqa: ASYNC110 - time passes
                await asyncio.sleep(0.01)
            live.end(FAILED, keep=True)

        making = asyncio.create_task(maker())
        other = await found(there)
        done = await asyncio.wait_for(there.cancel(other, 10), 20)
        assert isinstance(done, Run)
        assert (done.ended, done.cancelled, done.state) == (True, True, FAILED)
        await making


async def test_what_is_dropped_does_not_come_back(store: Store) -> None:
    async with process(store) as here:
        for announced in (False, True):
            live = here.begin(REF, "e" * 32, None, NOTE)
            if announced:
                await here.announce(live)
            live.log(event(0))
            await here.drop(live)
            live.end(NOTE, keep=True)
            await asyncio.sleep(module.TICK_S * 2.5)
            assert live.lost
            assert await here.find(REF.tenant, tag(REF), "e" * 32) is None


async def test_what_is_announced_is_begun_once_however_long_the_store_takes() -> None:
    class Slow(MemoryStore):
        async def begin_run(self, *args: Any, **more: Any) -> bool:
            made = await super().begin_run(*args, **more)
            await asyncio.sleep(module.BEAT_S * 1.5)
            return made

    async with process(Slow()) as here:
        live = here.begin(REF, "e" * 32, None, NOTE, announced=True)
        assert await here.announce(live)
        assert (live.begun, live.lost, live.cancelled) == (True, False, False)
        second = here.begin(Ref("t", "conversation", "b"), "f" * 32, None, NOTE, announced=True)
        assert not await here.announce(second)
        assert here.live("t", "f" * 32) is None


async def test_one_that_is_made_again_under_the_id_of_one_that_failed_elsewhere(store: Store) -> None:
    assert await store.begin_run(REF, "e" * 32, owner="other", state=NOTE, ttl_s=None)
    async with process(store) as here:
        live = here.begin(REF, "e" * 32, None, NOTE)
        live.log(event(0))
        await asyncio.sleep(module.TICK_S * 2.5)
        # the other process has not said yet that it ended there
        assert (live.begun, live.lost) == (False, False)
        assert await store.log_run(
            REF, "e" * 32, owner="other", events=[event(7)], state=FAILED, end=End(60.0, keep=True)
        )
        live.log(event(1))
        live.end(NOTE, keep=True)
        async with asyncio.timeout(10):
            while here.live(REF.tenant, "e" * 32):  # noqa: ASYNC110 - it is written soon
                await asyncio.sleep(0.01)
        run = await found(here)
        assert isinstance(run, Run)
        assert (run.state, await collected(here, run, -1)) == (NOTE, [event(0), event(1)])


async def test_nobody_is_taken_for_dead_because_the_store_was_away() -> None:
    class Away(MemoryStore):
        away = False

        async def log_run(self, *args: Any, **more: Any) -> Run | None:
            if self.away:
                raise StoreUnavailable("The store is away.")
            return await super().log_run(*args, **more)

    store = Away()
    said: list[str] = []
    async with process(store, silent_ms=3000, said=said) as here, process(store, silent_ms=3000, said=said) as there:
        lives = [
            (each, each.begin(REF, id * 32, None, NOTE, announced=True)) for each, id in ((here, "e"), (there, "f"))
        ]
        for each, live in lives:
            assert await each.announce(live)
        store.away = True
        await asyncio.sleep(4)
        store.away = False
        await asyncio.sleep(module.SWEEP_EVERY_S + module.BEAT_S)
        for _, live in lives:
            assert (live.lost, live.cancelled) == (False, False)
            live.end(NOTE, keep=True)
    assert len(said) == 2


async def test_so_many_run_in_the_background_and_no_more(store: Store) -> None:
    go_on = asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    async with process(store) as here:
        for _ in range(module.BACKGROUND_AT_MOST):
            here.spawn(wait)
        with pytest.raises(Overloaded):
            here.spawn(wait)
        go_on.set()
        await asyncio.gather(*here.tasks)
        here.spawn(wait)
        await asyncio.gather(*here.tasks)
