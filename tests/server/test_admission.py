"""No more requests at once than may be, whatever becomes of each."""

import asyncio

import pytest

from proxy.errors import Overloaded
from proxy.server.admission import Admission


async def test_one_too_many_is_refused_and_counts_for_nothing() -> None:
    admission = Admission(2)
    with admission, admission:
        for _ in range(3):
            with pytest.raises(Overloaded) as refused, admission:
                raise AssertionError("let in")
            assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
        assert admission.running == 2
    assert admission.running == 0
    with admission:
        pass


async def test_what_fails_or_is_cancelled_makes_room() -> None:
    admission = Admission(1)
    with pytest.raises(ZeroDivisionError), admission:
        _ = 1 / 0

    async def waiting() -> None:
        with admission:
            await asyncio.Event().wait()

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    assert admission.running == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert admission.running == 0


async def test_what_goes_on_without_its_client_still_counts() -> None:
    admission = Admission(1)
    go_on = asyncio.Event()

    async def rest() -> None:
        await go_on.wait()

    with admission:
        task = asyncio.create_task(rest())
        admission.keep(task)
    with pytest.raises(Overloaded), admission:
        pass
    go_on.set()
    await task
    await asyncio.sleep(0)
    assert admission.running == 0
