"""A deadline cancels the wait it bounds, and is never taken for a cancellation by someone else."""

import asyncio

import pytest

from proxy.upstream.deadline import Deadline


async def bounded(seconds: float, *, hit: list[bool]) -> None:
    deadline = Deadline(asyncio.get_running_loop(), seconds)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        hit.append(deadline.hit())
        raise
    finally:
        deadline.end()


async def test_time_that_is_over_is_told_from_a_cancellation() -> None:
    hit: list[bool] = []
    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(bounded(0.01, hit=hit))
    waiting = asyncio.ensure_future(bounded(60, hit=hit))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert hit == [True, False]


async def test_a_cancellation_that_comes_with_the_end_of_the_time_wins() -> None:
    made: list[Deadline] = []
    hit: list[bool] = []

    async def wait() -> None:
        made.append(Deadline(asyncio.get_running_loop(), 60))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            hit.append(made[0].hit())
            raise
        finally:
            made[0].end()

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    made[0]._cancel()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert hit == [False]


async def test_after_its_end_it_cancels_nobody() -> None:
    deadline = Deadline(asyncio.get_running_loop(), 0.01)
    deadline.again()
    deadline.end()
    deadline.again()
    deadline.end()
    await asyncio.sleep(0.03)


async def test_the_time_can_begin_anew() -> None:
    deadline = Deadline(asyncio.get_running_loop(), 0.1)
    for _ in range(4):
        await asyncio.sleep(0.05)
        deadline.again()
    deadline.end()
    assert not deadline.hit()
