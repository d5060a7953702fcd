"""The store in dicts keeps the laws."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.errors import SettingsError
from proxy.stores.memory import MemoryStore, from_url, places
from tests.stores.contract import Factory, Laws
from tests.stores.laws.lining import in_line, soon
from tests.stores.making import REF, adding, entry


class TestMemory(Laws):
    @pytest.fixture
    def factory(self) -> Factory:
        def make(now: Callable[[], float]) -> MemoryStore:
            return MemoryStore(now=now)

        return make


def test_its_url_has_nothing_behind_the_scheme() -> None:
    assert isinstance(from_url("memory:"), MemoryStore)
    with pytest.raises(SettingsError, match="nothing behind"):
        from_url("memory://x")


async def test_those_who_wait_in_a_line_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "POLL_S", 30)
    store = MemoryStore()
    last = None
    for turn in range(4):
        await in_line(store, "a", "b")
        waiting = asyncio.ensure_future(store.moved(REF, 30))
        await asyncio.sleep(0)
        if turn % 2:
            store.step_out(REF, "a")
        else:
            last = entry(last)
            await store.append(adding(REF, last, holder="a"))
        await soon(waiting)
        await in_line(store, "b")
        store.step_out(REF, "b")
    assert not store._stands
    assert not store._waits
