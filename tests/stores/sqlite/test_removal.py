"""What is erased goes in steps, and nothing that waits is taken twice."""

import asyncio
from pathlib import Path

import pytest

from proxy.conversation.entry import new_id
from proxy.stores.contract import End, Ref
from proxy.stores.sqlite import SqliteStore, removal
from proxy.stores.sqlite.schema import connect
from tests.stores.making import CHAIN, REF, Clock, talk


async def run(store: SqliteStore, ref: Ref, chunks: int, *, keep: bool) -> str:
    id = new_id()
    assert await store.begin_run(ref, id, owner="me", state=b"s", ttl_s=None) is True
    for _ in range(chunks):
        await store.log_run(ref, id, owner="me", events=[b"x", b"y"])
    await store.log_run(ref, id, owner="me", end=End(60, keep=keep))
    return id


async def test_a_long_log_goes_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "CHUNKS_A_STEP", 3)
    path, clock = str(tmp_path / "remora.db"), Clock()
    store = SqliteStore(path, synchronous="normal", now=clock)
    await store.open()
    for keep in (True, False):
        await run(store, CHAIN, 20, keep=keep)
    stays = await run(store, REF, 20, keep=False)
    clock.seconds += 59
    await store.log_run(REF, stays, owner="me")
    clock.seconds += 1
    other = new_id()
    await store.begin_run(REF, other, owner="me", state=b"", ttl_s=None)
    await store.log_run(REF, other, owner="me", events=[b"z"])
    sweeping = asyncio.ensure_future(store.expire(9))
    await asyncio.sleep(0)
    assert await store.expire(9) == 0, "all of it is under way"
    assert await sweeping == 3
    assert list(await store.run_events(REF, other, -1, 9)) == [b"z"]
    await store.close()
    db = connect(path)
    assert db.execute("SELECT count(*) FROM events").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM responses").fetchone() == (2,)
    db.close()


async def test_an_erased_ref_takes_its_runs_along_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "CHUNKS_A_STEP", 3)
    path = str(tmp_path / "remora.db")
    store = SqliteStore(path, synchronous="normal")
    await store.open()
    await talk(store, 1, CHAIN)
    for _ in range(4):
        await run(store, CHAIN, 7, keep=True)
    kept = await run(store, REF, 7, keep=True)
    assert await store.erase(CHAIN) is True
    assert len(await store.run_events(REF, kept, -1, 99)) == 14
    await store.close()
    db = connect(path)
    for table, left in (("responses", 1), ("events", 7), ("refs", 1), ("entries", 0), ("labels", 0)):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (left,)
    db.close()
