"""Waiting in lines: told at once, or after a while where nothing can be heard or a place may have lapsed."""

import asyncio
import time

import pytest

from proxy.stores import waiting as module
from proxy.stores.waiting import Waiting

ONE, OTHER = b"one", b"other"


async def took(waiting: Waiting[bytes], timeout_s: float) -> float:
    began = time.monotonic()
    async with asyncio.timeout(5):
        await waiting.moved(ONE, timeout_s)
    return time.monotonic() - began


def hearing() -> Waiting[bytes]:
    waiting = Waiting[bytes](0.05)
    waiting.hearing = True
    return waiting


async def test_who_waits_is_told_of_its_own_line_only() -> None:
    waiting = hearing()
    one, again, other = [asyncio.ensure_future(waiting.moved(tag, 30)) for tag in (ONE, ONE, OTHER)]
    await asyncio.sleep(0)
    waiting.hear(ONE)
    waiting.hear(ONE)
    async with asyncio.timeout(5):
        await asyncio.gather(one, again)
    assert not other.done()
    waiting.hear_all()
    async with asyncio.timeout(5):
        await other
    assert waiting._futures == {}


async def test_what_was_heard_between_asking_and_waiting_counts_once() -> None:
    waiting = hearing()
    waiting.asking(ONE)
    waiting.hear(ONE)
    waiting.behind(ONE, "a", 60_000)
    assert await took(waiting, 30) < 5
    assert await took(waiting, 0.1) > 0.05
    waiting.hear(ONE)
    waiting.asking(ONE)
    assert await took(waiting, 0.1) > 0.05
    waiting.done(ONE, "b")
    assert waiting._stands
    waiting.done(ONE, "a")
    assert waiting._stands == {}


async def test_it_ends_when_the_first_one_may_have_lost_its_place() -> None:
    waiting = hearing()
    waiting.asking(ONE)
    waiting.behind(ONE, "a", 100)
    assert 0.05 < await took(waiting, 30) < 5
    # and is no running in circles, should that one's place be over long since
    waiting.behind(ONE, "a", -100)
    assert await took(waiting, 30) >= module.LEAST_S / 2


async def test_who_cannot_hear_comes_again_soon() -> None:
    assert await took(Waiting[bytes](0.05), 30) < 5


async def test_no_more_lines_are_remembered_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LINES", 3)
    waiting = hearing()
    for n in range(9):
        waiting.asking(b"%d" % n)
    assert len(waiting._stands) == 3


async def test_who_gives_up_and_who_is_closed_upon_leave_nothing() -> None:
    waiting = hearing()
    waiting.asking(ONE)
    tasks = [asyncio.ensure_future(waiting.moved(ONE, 30)) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    waiting.close()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert waiting._stands == {}
    assert waiting._futures == {}
