"""What was delivered is gathered, taken once, and bounded."""

import asyncio

import pytest

from proxy.stores.contract import Ref
from proxy.stores.postgres import delivered as module
from proxy.stores.postgres.delivered import Delivered
from tests.stores.making import REF

OTHER = Ref("t", "session", "two")


def nothing() -> None:
    pass


async def test_it_is_known_until_the_database_knows() -> None:
    delivered = Delivered()
    delivered.add(REF, "k", 10.0, nothing)
    delivered.add(OTHER, "k", 11.5, nothing)
    assert (REF, "k") in delivered
    assert (REF, "x") not in delivered
    assert delivered.take(12.0) == ([2000, 500], [REF, OTHER], ["k", "k"])
    assert (REF, "k") in delivered
    delivered.add(REF, "later", 12.0, nothing)
    assert delivered.take(12.0) is None
    delivered.done()
    assert (REF, "k") not in delivered
    assert delivered.take(12.0) == ([0], [REF], ["later"])
    delivered.cancel()


async def test_a_ref_that_moves_on_is_forgotten() -> None:
    delivered = Delivered()
    delivered.add(REF, "a", 1.0, nothing)
    delivered.take(1.0)
    delivered.add(REF, "b", 1.0, nothing)
    delivered.forget(REF)
    assert (REF, "a") not in delivered
    assert (REF, "b") not in delivered
    delivered.cancel()


async def test_it_asks_to_be_taken_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AFTER_S", 0.0)
    monkeypatch.setattr(module, "MOST", 3)
    delivered, asked = Delivered(), asyncio.Event()
    for n in range(9):
        delivered.add(Ref("t", "session", f"{n}"), "k", 1.0, asked.set)
    async with asyncio.timeout(5):
        await asked.wait()
    taken = delivered.take(1.0)
    assert taken
    assert len(taken[1]) == 3
