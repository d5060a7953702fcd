"""Errands: one at a time for each key, the newest cause counts, failures are tried again, nothing outlives the end."""

import asyncio
from typing import Any

from proxy.exchange import errands
from proxy.exchange.errands import Errands, Failed


class Work:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.fails = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = self.most_at_once = 0

    async def __call__(self, cause: str) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            if self.fails:
                self.fails -= 1
                raise Failed
            if cause == "bug":
                raise ValueError(cause)
            self.done.append(cause)
        finally:
            self.at_once -= 1


class Clock:
    """Lets those who rest go on when the test says so."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.over = asyncio.Event()

    async def __call__(self, pause: float) -> None:
        self.pauses.append(pause)
        await self.over.wait()


async def made(work: Work, **limits: Any) -> tuple[Errands[str], list[Exception]]:
    broke: list[Exception] = []
    return Errands(work, broke.append, **limits), broke


async def finished(errand: Errands[str]) -> None:
    """Until nothing is under way, resting or not."""
    async with asyncio.timeout(5):
        while errand.count:  # noqa: ASYNC110 - the product needs no event for it
            await asyncio.sleep(0)


async def test_only_the_newest_cause_follows_the_one_under_way() -> None:
    work = Work()
    errand, _ = await made(work)
    work.gate.clear()
    for cause in ("a", "b", "c"):
        errand.begin("key", cause)
        await asyncio.sleep(0)
    work.gate.set()
    await errand.idle()
    assert work.done == ["a", "c"]
    assert work.most_at_once == 1


async def test_keys_do_not_wait_for_each_other_but_only_so_many_work_at_once() -> None:
    work = Work()
    errand, _ = await made(work)
    work.gate.clear()
    for n in range(40):
        errand.begin(n, str(n))
    for _ in range(5):
        await asyncio.sleep(0)
    assert work.at_once == errands.AT_WORK_AT_MOST
    work.gate.set()
    await errand.idle()
    assert sorted(work.done, key=int) == [str(n) for n in range(40)]
    assert work.most_at_once == errands.AT_WORK_AT_MOST


async def test_a_failure_is_tried_again_with_the_newest_cause() -> None:
    work, clock = Work(), Clock()
    errand, broke = await made(work, rest=clock)
    work.fails = 3
    errand.begin("key", "a")
    await errand.idle()
    errand.begin("key", "b")
    clock.over.set()
    await finished(errand)
    assert work.done == ["b"]
    assert clock.pauses == [1, 2, 4]
    assert not broke


async def test_it_gives_up_some_day_and_begins_anew_later() -> None:
    work, clock = Work(), Clock()
    clock.over.set()
    errand, _ = await made(work, rest=clock, tries=2)
    work.fails = 2
    errand.begin("key", "a")
    await finished(errand)
    assert not work.done
    errand.begin("key", "b")
    await finished(errand)
    assert work.done == ["b"]


async def test_pauses_double_up_to_the_last() -> None:
    work, clock = Work(), Clock()
    clock.over.set()
    errand, _ = await made(work, rest=clock)
    work.fails = 8
    errand.begin("key", "a")
    await finished(errand)
    assert clock.pauses == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_a_bug_is_told_and_ends_only_its_own_errand() -> None:
    work = Work()
    errand, broke = await made(work)
    errand.begin("one", "bug")
    errand.begin("two", "fine")
    await errand.idle()
    assert [type(error) for error in broke] == [ValueError]
    assert work.done == ["fine"]
    errand.begin("one", "again")
    await errand.idle()
    assert work.done == ["fine", "again"]


async def test_closing_ends_what_hangs_and_what_waits() -> None:
    work = Work()
    errand, _ = await made(work, rest=Clock(), grace_s=0.01)
    work.fails = 1
    errand.begin("waits", "a")
    await errand.idle()
    work.gate.clear()
    errand.begin("hangs", "b")
    await errand.close()
    assert work.at_once == 0
    assert not work.done
    await errand.idle()


async def test_there_are_never_more_than_may_be() -> None:
    work = Work()
    errand, _ = await made(work, at_most=3)
    for n in range(5):
        errand.begin(n, str(n))
    await errand.idle()
    assert work.done == ["0", "1", "2"]
