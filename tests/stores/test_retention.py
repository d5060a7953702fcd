"""The sweep."""

import asyncio

import pytest

from proxy.errors import StoreUnavailable
from proxy.stores import retention
from proxy.stores.contract import Ref
from proxy.stores.memory import MemoryStore
from proxy.stores.retention import sweep
from tests.stores.making import Clock, listed, talk


class Watched(MemoryStore):
    """Counts what it is asked, and fails when it is told to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(now=clock)
        self.asked: list[int] = []
        self.failing = 0
        self.rounds = asyncio.Condition()

    async def expire(self, limit: int) -> int:
        async with self.rounds:
            self.asked.append(limit)
            self.rounds.notify_all()
        if self.failing:
            self.failing -= 1
            raise StoreUnavailable("The disk is full; free some space on it.")
        return await super().expire(limit)

    async def after(self, calls: int) -> None:
        async with asyncio.timeout(10), self.rounds:
            await self.rounds.wait_for(lambda: len(self.asked) >= calls)


async def test_it_begins_at_once_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE_S", 0)
    clock = Clock()
    store = Watched(clock)
    for n in range(50):
        await talk(store, 1, Ref("t", "session", f"{n}"), ttl_s=60)
    await talk(store, 1, Ref("t", "session", "stays"))
    clock.seconds += 61
    said: list[str] = []
    task = asyncio.create_task(sweep(store, 0.01, said.append))
    await store.after(5)
    assert store.asked[0] == retention.STEP < 50
    assert [info.ref.name for info in await listed(store.list())] == ["stays"]
    assert len(store._lines) == 1
    await talk(store, 1, Ref("t", "session", "late"), ttl_s=60)
    clock.seconds += 61
    await store.after(len(store.asked) + 2)
    assert len(store._lines) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == []


async def test_a_store_that_fails_is_told_and_tried_again() -> None:
    store = Watched(Clock())
    store.failing = 2
    said: list[str] = []
    task = asyncio.create_task(sweep(store, 0.001, said.append))
    await store.after(4)
    task.cancel()
    assert said == ["expired sessions could not be removed: The disk is full; free some space on it."] * 2


async def test_a_bug_does_not_end_the_sweep() -> None:
    content = "what somebody said"

    class Broken(Watched):
        async def expire(self, limit: int) -> int:
            await super().expire(limit)
            raise KeyError(content)

    store = Broken(Clock())
    said: list[str] = []
    task = asyncio.create_task(sweep(store, 0.001, said.append))
    await store.after(3)
    task.cancel()
    assert said[0].startswith("internal error: KeyError")
    assert content not in said[0]


async def test_a_round_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEPS_A_ROUND", 3)
    monkeypatch.setattr(retention, "STEP", 1)
    monkeypatch.setattr(retention, "PAUSE_S", 0)
    clock = Clock()
    store = Watched(clock)
    for n in range(9):
        await talk(store, 1, Ref("t", "session", f"{n}"), ttl_s=60)
    clock.seconds += 61
    task = asyncio.create_task(sweep(store, 3600, print))
    await store.after(3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(store.asked) == 3
    assert len(store._lines) == 6
    task.cancel()
