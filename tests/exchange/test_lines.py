"""One exchange at a time on a session across processes: two turnstiles over one store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from proxy.errors import QueueTimeout, SessionBusy, SessionConflict
from proxy.exchange.lines import Lines
from proxy.exchange.turnstile import Turnstile
from proxy.policy import Policy, Session
from proxy.stores.contract import Append, Appended, Conflict, Place, Ref, Store
from proxy.stores.memory import MemoryStore
from tests.stores.making import entry

REF = Ref("tenant", "session", "s")


def policy(concurrency: str = "queue", timeout_s: float = 20.0) -> Policy:
    return Policy(session=msgspec.convert({"concurrency": concurrency}, Session), queue_timeout_s=timeout_s)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    made: Store = MemoryStore()
    await made.open()
    yield made
    await made.close()


@asynccontextmanager
async def process(store: Store, *, keep_s: float = 10.0, kept: bool = True) -> AsyncIterator[Turnstile]:
    """One of the processes; `kept`: it keeps its places by coming again."""
    broke: list[Exception] = []
    lines = Lines(store, broke.append, keep_s)
    if kept:
        lines.open()
    yield Turnstile(lines=lines)
    await lines.close()
    assert broke == []


async def visit(turnstile: Turnstile, mode: Policy, told: list[str], name: str, go_on: asyncio.Event) -> None:
    here = turnstile.begin()
    try:
        await turnstile.enter(here, REF, mode)
        told.append(f"{name} in")
        await go_on.wait()
        told.append(f"{name} out")
    finally:
        turnstile.end(here)


async def until(told: list[str], word: str) -> None:
    async with asyncio.timeout(10):
        while word not in told:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.005)


async def test_exchanges_of_all_processes_follow_each_other_in_the_order_in_which_they_came(store: Store) -> None:
    told: list[str] = []
    go_on = asyncio.Event()
    async with process(store) as one, process(store) as two:
        tasks = []
        for number, turnstile in enumerate([one, two, one, two, two, one]):
            tasks.append(asyncio.create_task(visit(turnstile, policy(), told, str(number), go_on)))
            await until(told, "0 in")
            await asyncio.sleep(0.01)
        assert told == ["0 in"]
        go_on.set()
        await asyncio.gather(*tasks)
    # one is inside at a time, and nobody is left out
    assert [line.split()[1] for line in told] == ["in", "out"] * 6
    assert sorted(line[0] for line in told[::2]) == list("012345")
    # between processes, who came first is first
    assert told.index("1 in") < told.index("2 in")
    assert told.index("0 in") < told.index("1 in")


async def test_where_nobody_shall_wait_nobody_does(store: Store) -> None:
    told: list[str] = []
    go_on = asyncio.Event()
    async with process(store) as one, process(store) as two:
        first = asyncio.create_task(visit(one, policy("reject"), told, "0", go_on))
        await until(told, "0 in")
        with pytest.raises(SessionBusy):
            await visit(two, policy("reject"), told, "1", go_on)
        go_on.set()
        await first
        await visit(two, policy("reject"), told, "2", go_on)
    assert told == ["0 in", "0 out", "2 in", "2 out"]


async def test_waiting_is_bounded_and_leaves_nothing_behind(store: Store) -> None:
    told: list[str] = []
    go_on = asyncio.Event()
    async with process(store) as one, process(store) as two:
        first = asyncio.create_task(visit(one, policy(), told, "0", go_on))
        await until(told, "0 in")
        with pytest.raises(QueueTimeout):
            await visit(two, policy(timeout_s=0.05), told, "1", go_on)
        gone = asyncio.create_task(visit(two, policy(), told, "2", go_on))
        await asyncio.sleep(0.02)
        gone.cancel()
        await asyncio.wait((gone,))
        go_on.set()
        await first
        async with asyncio.timeout(5):
            await visit(two, policy(), told, "3", go_on)
    assert told == ["0 in", "0 out", "3 in", "3 out"]


async def test_a_place_is_kept_for_as_long_as_the_exchange_takes(store: Store) -> None:
    told: list[str] = []
    go_on, at_once = asyncio.Event(), asyncio.Event()
    at_once.set()
    async with process(store, keep_s=0.3) as one, process(store, keep_s=0.3) as two:
        first = asyncio.create_task(visit(one, policy(), told, "0", go_on))
        await until(told, "0 in")
        second = asyncio.create_task(visit(two, policy(), told, "1", at_once))
        await asyncio.sleep(1.0)
        assert told == ["0 in"]
        go_on.set()
        await asyncio.gather(first, second)
    assert told == ["0 in", "0 out", "1 in", "1 out"]


async def test_who_stands_still_for_too_long_loses_its_place(store: Store) -> None:
    told: list[str] = []
    never, at_once = asyncio.Event(), asyncio.Event()
    at_once.set()
    async with process(store, keep_s=0.3, kept=False) as one, process(store, keep_s=0.3) as two:
        first = asyncio.create_task(visit(one, policy(), told, "0", never))
        await until(told, "0 in")
        async with asyncio.timeout(5):
            await visit(two, policy(), told, "1", at_once)
        first.cancel()
        await asyncio.wait((first,))
    assert told == ["0 in", "1 in", "1 out"]


async def test_parallel_exchanges_stand_in_no_line(store: Store) -> None:
    told: list[str] = []
    never, at_once = asyncio.Event(), asyncio.Event()
    at_once.set()
    async with process(store) as one, process(store) as two:
        first = asyncio.create_task(visit(one, policy(), told, "0", never))
        await until(told, "0 in")
        await visit(two, policy("parallel"), told, "1", at_once)
        first.cancel()
        await asyncio.wait((first,))
    assert told == ["0 in", "1 in", "1 out"]


async def test_the_same_request_again_waits_for_the_first_and_others_for_nobody(store: Store) -> None:
    async with process(store) as one, process(store) as other:
        first, beside, again = one.begin(), other.begin(), other.begin()
        first.key = beside.key = again.key = "key"
        await one.before(first, REF)
        await other.before(beside, REF)
        with pytest.raises(QueueTimeout):
            await other.behind(again, REF, policy("parallel", 0.05))
        waiting = asyncio.create_task(other.behind(again, REF, policy("parallel")))
        one.end(first)
        await asyncio.wait((waiting,), timeout=0.1)
        assert not waiting.done()
        other.end(beside)
        async with asyncio.timeout(5):
            await waiting
        elsewhere = one.begin()
        elsewhere.key = "another key"
        await one.behind(elsewhere, REF, policy("parallel", 0.05))
        one.end(elsewhere)
        other.end(again)


@pytest.mark.parametrize("kept", [True, False])
async def test_who_does_not_come_again_in_time_is_overtaken(store: Store, kept: bool) -> None:
    async with process(store, keep_s=0.3, kept=kept) as one:
        here = one.begin()
        here.key = "key"
        await one.before(here, REF)
        one.check_place(here)
        await asyncio.sleep(0.5)
        with contextlib.nullcontext() if kept else pytest.raises(SessionConflict):
            one.check_place(here)
        one.end(here)
        one.check_place(here)


class Late(MemoryStore):
    """Its answers to appends come late: the append has happened, and a place was kept since."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = asyncio.Event()

    async def line_up(self, ref: Ref, holder: str, *, keep_ms: int, wait: bool) -> Place:
        place = await super().line_up(ref, holder, keep_ms=keep_ms, wait=wait)
        self.kept.set()
        return place

    async def append(self, append: Append) -> Appended | Conflict:
        answer = await super().append(append)
        self.kept.clear()
        await self.kept.wait()
        return answer


async def test_a_place_that_was_kept_while_it_was_given_up_holds_nobody_up() -> None:
    store = Late()
    await store.open()
    async with process(store, keep_s=3.0) as one, process(store, keep_s=3.0) as two:
        here, after = one.begin(), two.begin()
        await one.enter(here, REF, policy())
        await store.append(Append(ref=REF, expected=None, entry=entry(None), holder=here.holder))
        here.appended = True
        one.end(here)
        async with asyncio.timeout(1):
            await two.enter(after, REF, policy())
        two.end(after)
    await store.close()


async def test_one_that_is_refused_leaves_no_place_that_its_retry_would_wait_behind(store: Store) -> None:
    async with process(store) as one, process(store) as other:
        holder, refused, again = one.begin(), other.begin(), one.begin()
        refused.key = again.key = "key"
        await one.first(holder, REF, policy())
        with pytest.raises(SessionBusy):
            await other.first(refused, REF, policy("reject"))
        other.end(refused)
        await one.behind(again, REF, policy("reject", 2))
        one.end(again)
        # one that is let in stands in both lines
        one.end(holder)
        await other.first(refused, REF, policy())
        with pytest.raises(QueueTimeout):
            await one.behind(again, REF, policy("queue", 0.05))
        with pytest.raises(QueueTimeout):
            await one.enter(again, REF, policy("queue", 0.05))
        other.end(refused)
