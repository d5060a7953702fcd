"""A call is made as long as the store is open, and to its end whatever becomes of who waits."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.errors import StoreUnavailable
from proxy.stores.contract import Ref
from proxy.stores.postgres import calls as module
from tests.stores.postgres.test_store import opened

COMPLETION = Ref("tenant", "completion", "one")


async def test_a_write_is_done_though_nobody_waits(fresh: Callable[[], str]) -> None:
    store = await opened(fresh())
    task = asyncio.ensure_future(store.label(COMPLETION, b"x", new=True))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()
    await store.open()
    found = await store.labelled(COMPLETION)
    assert found
    assert found.label == b"x"
    await store.close()


async def test_no_more_wait_than_may(fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WRITING", 2)
    store = await opened(fresh())
    refs = [Ref("tenant", "completion", f"{n}") for n in range(3)]
    answers = await asyncio.gather(*[store.label(ref, b"x", new=True) for ref in refs], return_exceptions=True)
    assert [isinstance(answer, StoreUnavailable) for answer in answers] == [False, False, True]
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.labelled(COMPLETION)
