"""Runs and labels on a real server: by its clock, from any replica."""

import asyncio
import time
from collections.abc import Callable

from proxy.conversation.entry import new_id
from proxy.stores.contract import Appended, Conflict, End, tag
from tests.stores.making import CHAIN, adding, entry
from tests.stores.postgres.test_store import opened


async def test_beats_are_told_by_the_servers_clock(fresh: Callable[[], str]) -> None:
    url = fresh()
    one, other = await opened(url), await opened(url)
    id = new_id()
    before = int(time.time() * 1000) - 5
    assert await one.begin_run(CHAIN, id, owner="me", state=b"s", ttl_s=60)
    run = await other.find_run(CHAIN.tenant, tag(CHAIN), id)
    assert run
    assert before <= run.beat_ms <= int(time.time() * 1000) + 5
    assert await other.stale_runs(60_000, 9) == []
    assert [each.entry for each in await other.stale_runs(0, 9)] == [id]
    assert (await other.cancel_run(CHAIN, id)) is not None
    told = await one.log_run(CHAIN, id, owner="me", events=[b"a"], end=End(60, keep=False))
    assert told
    assert told.cancelled
    assert list(await other.run_events(CHAIN, id, -1, 9)) == [b"a"]
    for store in (one, other):
        await store.close()


async def test_logging_holds_no_append_up(fresh: Callable[[], str]) -> None:
    """Nor the other way round; and erasing waits for both, so that nothing is left behind it."""
    url = fresh()
    stores = await asyncio.gather(*[opened(url) for _ in range(3)])
    for _ in range(5):
        ids = [new_id() for _ in range(4)]
        first = entry(None)
        assert await stores[0].append(adding(CHAIN, first, note=b"n")) == Appended()
        for id in ids:
            assert await stores[0].begin_run(CHAIN, id, owner="me", state=b"", ttl_s=None)
        answers = await asyncio.gather(
            *[stores[n % 3].log_run(CHAIN, id, owner="me", events=[b"x"] * 50) for n, id in enumerate(ids * 3)],
            stores[1].append(adding(CHAIN, entry(first), note=b"n")),
            stores[2].erase(CHAIN),
            *[stores[n % 3].log_run(CHAIN, id, owner="me", events=[b"y"]) for n, id in enumerate(ids)],
        )
        assert answers[13] is True
        assert answers[12] in (Appended(), Conflict(None))
        (left,) = await stores[0]._rows("SELECT (SELECT count(*) FROM logs) + (SELECT count(*) FROM responses)")
        assert left[0] == 0
    for store in stores:
        await store.close()
