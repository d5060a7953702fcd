"""The thread that takes all that waits at once."""

import asyncio
import threading
import time

import pytest

from proxy.errors import StoreUnavailable
from proxy.stores.sqlite import thread
from proxy.stores.sqlite.thread import Job, Worker


class Gate:
    """Serves numbers by doubling them, a batch at a time, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Semaphore(0)
        self.busy = threading.Event()
        self.finished = 0
        self.left = 0

    def serve(self, jobs: list[Job[int]]) -> tuple[list[Job[int]], bool]:
        self.busy.set()
        self.open.acquire()
        self.batches.append([job.ask for job in jobs])
        for job in jobs:
            if job.ask < 0:
                job.error = ValueError(job.ask)
            job.answer = job.ask * 2
        self.left = max(0, self.left - 1)
        return jobs, self.left > 0

    def finish(self) -> None:
        self.finished += 1


async def test_what_is_asked_meanwhile_travels_together() -> None:
    gate = Gate()
    worker = Worker("test", gate.serve, gate.finish)
    first = worker.ask(1)
    await asyncio.to_thread(gate.busy.wait)
    rest = [worker.ask(n) for n in range(2, 9)]
    await asyncio.sleep(0)
    more = [worker.ask(n) for n in range(9, 12)]
    await asyncio.sleep(0)
    gate.open.release(2)
    assert await first == 2
    assert await asyncio.gather(*rest, *more) == [2 * n for n in range(2, 12)]
    assert gate.batches == [[1], list(range(2, 12))]
    gate.open.release(9)
    await worker.close()


async def test_an_error_goes_to_the_one_who_asked() -> None:
    gate = Gate()
    gate.open.release(9)
    worker = Worker("test", gate.serve, gate.finish)
    answers = await asyncio.gather(worker.ask(1), worker.ask(-1), worker.ask(3), return_exceptions=True)
    assert [answers[0], answers[2]] == [2, 6]
    assert isinstance(answers[1], ValueError)
    await worker.close()


async def test_each_has_a_failure_of_its_own_which_it_may_mark() -> None:
    failure = StoreUnavailable("the disk is full", retry_after_s=1)

    def fail(jobs: list[Job[int]]) -> tuple[list[Job[int]], bool]:
        for job in jobs:
            job.error = failure
        return jobs, False

    worker = Worker("test", fail, lambda: None)
    one, other = await asyncio.gather(worker.ask(1), worker.ask(2), return_exceptions=True)
    await worker.close()
    assert isinstance(one, StoreUnavailable)
    assert isinstance(other, StoreUnavailable)
    one.retry = False
    assert (other.message, other.retry_after_s, other.retry) == (failure.message, 1, None)


async def test_a_disk_that_does_not_answer_is_waited_for_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "STUCK_S", 0.1)
    gate = Gate()
    worker = Worker("test", gate.serve, gate.finish)
    first = worker.ask(1)
    await asyncio.to_thread(gate.busy.wait)
    behind = worker.ask(2)
    async with asyncio.timeout(5):
        for waiting in (first, behind, worker.ask(3)):
            with pytest.raises(StoreUnavailable):
                await waiting
    # what was asked is done all the same, and what is asked now is answered
    gate.open.release(9)
    assert await worker.ask(4) == 8
    assert sorted(n for batch in gate.batches for n in batch) == [1, 2, 3, 4]
    await worker.close()


async def test_one_that_works_on_its_own_for_long_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "STUCK_S", 0.2)
    steps = iter(range(6))
    held: list[Job[int]] = []

    def serve(jobs: list[Job[int]]) -> tuple[list[Job[int]], bool]:
        held.extend(jobs)
        time.sleep(0.1)
        return ([], True) if next(steps) < 5 else (held, False)

    worker = Worker("test", serve, lambda: None)
    assert await worker.ask(1) is None
    await worker.close()


async def test_a_mistake_in_serving_surfaces_and_the_thread_goes_on() -> None:
    def serve(jobs: list[Job[int]]) -> tuple[list[Job[int]], bool]:
        if any(job.ask == 0 for job in jobs):
            raise ZeroDivisionError
        return jobs, False

    worker = Worker("test", serve, lambda: None)
    with pytest.raises(ZeroDivisionError):
        await worker.ask(0)
    assert await worker.ask(1) is None
    await worker.close()


async def test_a_cancelled_wait_does_not_stop_the_work() -> None:
    gate = Gate()
    worker = Worker("test", gate.serve, gate.finish)
    waiting = worker.ask(1)
    await asyncio.to_thread(gate.busy.wait)
    waiting.cancel()
    gate.open.release(9)
    assert await worker.ask(2) == 4
    assert gate.batches == [[1], [2]]
    await worker.close()


async def test_closing_serves_what_waits_and_what_is_left() -> None:
    gate = Gate()
    gate.left = 4
    worker = Worker("test", gate.serve, gate.finish)
    waiting = [worker.ask(n) for n in range(3)]
    worker.tell(3)
    gate.open.release(99)
    await worker.close()
    await worker.close()
    assert await asyncio.gather(*waiting) == [0, 2, 4]
    assert sorted(n for batch in gate.batches for n in batch) == [0, 1, 2, 3]
    assert (gate.left, gate.finished) == (0, 1)
    with pytest.raises(StoreUnavailable):
        worker.ask(4)
    worker.tell(4)


async def test_no_more_waits_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "MOST_WAITING", 3)
    gate = Gate()
    worker = Worker("test", gate.serve, gate.finish)
    waiting = [worker.ask(n) for n in range(3)]
    with pytest.raises(StoreUnavailable) as error:
        worker.ask(3)
    assert error.value.retry_after_s == 1
    gate.open.release(99)
    await asyncio.gather(*waiting)
    assert await worker.ask(3) == 6
    await worker.close()


async def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "MOST_AT_ONCE", 4)
    gate = Gate()
    worker = Worker("test", gate.serve, gate.finish)
    waiting = [worker.ask(0)]
    await asyncio.to_thread(gate.busy.wait)
    for n in range(1, 11):
        waiting.append(worker.ask(n))
        await asyncio.sleep(0)
    gate.open.release(99)
    await asyncio.gather(*waiting)
    assert max(map(len, gate.batches)) == 4
    assert [n for batch in gate.batches for n in batch] == list(range(11))
    await worker.close()


def test_a_loop_that_is_closed_is_no_error_in_the_thread() -> None:
    gate = Gate()

    async def leave() -> "Worker[int]":
        worker = Worker("test", gate.serve, gate.finish)
        worker.ask(1).cancel()
        await asyncio.to_thread(gate.busy.wait)
        return worker

    worker = asyncio.run(leave())
    gate.open.release(99)
    worker._queue.put(None)
    worker._thread.join(10)
    assert gate.finished == 1


async def test_what_nobody_waits_for_is_let_go_when_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "MOST_WAITING", 5)
    gate = Gate()
    worker = Worker("test", gate.serve, gate.finish)
    first = worker.ask(0)
    for n in range(1, 50):
        worker.tell(n)
    gate.open.release(99)
    await first
    await worker.close()
    assert [ask for batch in gate.batches for ask in batch] == list(range(5))
