"""Waiting in lines: told at once, or by looks that all share and that grow rarer."""

import asyncio
from collections.abc import Sequence

import pytest

from proxy.stores.contract import Place, Ref
from proxy.stores.sqlite import waiting as module
from proxy.stores.sqlite.waiting import Waiting
from tests.stores.making import CHAIN, REF

BEHIND = Place(1, kept=True)


class File:
    """Tells who is first where, and counts how often it was asked."""

    def __init__(self) -> None:
        self.first: dict[Ref, str] = {}
        self.asked: list[Sequence[Ref]] = []
        self.error: Exception | None = None

    async def __call__(self, refs: Sequence[Ref]) -> Sequence[str | None]:
        self.asked.append(list(refs))
        if self.error:
            raise self.error
        return [self.first.get(ref) for ref in refs]


async def begun(waiting: Waiting, *refs: Ref, timeout_s: float = 30) -> "list[asyncio.Task[None]]":
    tasks = [asyncio.ensure_future(waiting.moved(ref, timeout_s)) for ref in refs]
    await asyncio.sleep(0)
    return tasks


async def ended(*tasks: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)


def idle(waiting: Waiting) -> bool:
    return not waiting._waits and waiting._looking is None


async def test_who_is_woken_needs_no_look() -> None:
    file = File()
    waiting = Waiting(file)
    tasks = await begun(waiting, REF, REF, CHAIN)
    waiting.wake(REF)
    waiting.wake(REF)
    await ended(*tasks[:2])
    assert not tasks[2].done()
    waiting.left(CHAIN, "a")
    await ended(tasks[2])
    assert file.asked == []
    assert idle(waiting)


async def test_a_look_ends_waiting_where_one_of_this_process_is_first_or_nobody_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.005)
    file = File()
    file.first = {REF: "other", CHAIN: "other"}
    waiting = Waiting(file)
    waiting.stands(REF, "mine", BEHIND)
    waiting.stands(CHAIN, "mine too", BEHIND)
    one, two = await begun(waiting, REF, CHAIN)
    async with asyncio.timeout(5):
        while len(file.asked) < 3:  # noqa: ASYNC110 - time passes
            await asyncio.sleep(0.005)
    assert not one.done()
    file.first[REF] = "mine"
    await ended(one)
    assert not two.done()
    del file.first[CHAIN]
    await ended(two)
    assert idle(waiting)


async def test_who_knows_that_it_is_first_is_no_reason_to_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.005)
    monkeypatch.setattr(module, "LAST_S", 0.01)
    file = File()
    file.first[REF] = "mine"
    waiting = Waiting(file)
    for last in (Place(0, kept=True), Place(3, kept=False)):
        waiting.stands(REF, "mine", BEHIND)
        waiting.stands(REF, "mine", last)
        waiting.stands(REF, "behind it", BEHIND)
        (task,) = await begun(waiting, REF, timeout_s=0.1)
        await ended(task)
    assert len(file.asked) > 6
    waiting.left(REF, "behind it")
    assert waiting._behind == {}


async def test_all_share_one_look_and_looks_grow_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.01)
    monkeypatch.setattr(module, "LAST_S", 0.08)
    file = File()
    refs = [Ref("t", "session", f"{n}") for n in range(40)]
    file.first = dict.fromkeys(refs, "other")
    waiting = Waiting(file)
    tasks = await begun(waiting, *refs, *refs, timeout_s=0.5)
    await ended(*tasks)
    assert max(map(len, file.asked)) == 40
    assert len(file.asked) < 20
    assert idle(waiting)


async def test_a_look_that_fails_is_told_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.005)
    file = File()
    file.error = OSError("no file")
    waiting = Waiting(file)
    tasks = await begun(waiting, REF, REF, CHAIN)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [file.error] * 3
    assert idle(waiting)
    file.error = None
    await ended(*await begun(waiting, REF))


async def test_who_gives_up_leaves_nothing() -> None:
    waiting = Waiting(File())
    before = len(asyncio.all_tasks())
    for tasks in [await begun(waiting, REF, REF, CHAIN) for _ in range(5)]:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert idle(waiting)
    assert len(asyncio.all_tasks()) == before
    await ended(*await begun(waiting, REF, timeout_s=-1))
    assert idle(waiting)


async def test_holders_that_never_come_again_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REFS", 9)
    waiting = Waiting(File())
    for n in range(30):
        waiting.stands(Ref("t", "session", f"{n}"), "a", BEHIND)
    assert len(waiting._behind) == 9
    waiting.close()
    assert waiting._behind == {}
