"""The log is moved into the file while the store is open."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.stores.contract import Ref
from proxy.stores.sqlite import SqliteStore, checkpoint
from tests.stores.making import REF, adding, entry, listed, talk


def size(file: str | Path) -> int:
    return Path(file).stat().st_size


def present(file: str | Path) -> bool:
    return Path(file).exists()


def held(file: str | Path) -> bytes:
    return Path(file).read_bytes()


async def until(what: object, *, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not what():  # type: ignore[operator]  # noqa: ASYNC110 - another thread's work
            await asyncio.sleep(0.005)


async def test_the_log_stays_small_under_a_steady_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_BYTES", 200_000)
    monkeypatch.setattr(checkpoint, "LARGE_BYTES", 1_000_000)
    path = tmp_path / "remora.db"
    store = SqliteStore(str(path), synchronous="normal")
    await store.open()
    log = f"{path}-wal"
    ref = Ref("t", "session", "s")
    written = 0
    async with asyncio.timeout(30):
        # without beginning anew, the log holds more than all that was ever written
        while written < 2_000_000 or size(log) > written / 3:
            await asyncio.gather(*[store.append(adding(ref, entry(None, "x" * 4000), moves=False)) for _ in range(16)])
            written += 16 * 8000
    assert size(path) > 1_000_000
    await store.close()
    assert not present(log)


async def test_the_log_is_emptied_soon_after_erasing(tmp_path: Path) -> None:
    path = tmp_path / "remora.db"
    store = SqliteStore(str(path))
    await store.open()
    await talk(store, 3)
    await store.append(adding(Ref("t", "session", "gone"), entry(None, "WALRUS")))
    log = f"{path}-wal"
    assert b"WALRUS" in held(log)
    await store.erase(Ref("t", "session", "gone"))
    await until(lambda: size(log) == 0)
    assert b"WALRUS" not in held(path)
    assert len(await listed(store.records(REF))) == 3
    await store.close()


async def test_it_is_emptied_as_soon_as_nobody_reads_the_old_state(tmp_path: Path) -> None:
    path = tmp_path / "remora.db"
    store = SqliteStore(str(path))
    await store.open()
    (first,) = await talk(store, 1)
    log = f"{path}-wal"
    with closing(sqlite3.connect(path, isolation_level=None)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM entries").fetchone()
        await store.erase(REF)
        await asyncio.sleep(0.3)
        assert size(log) > 0
        reading.execute("COMMIT")
        await until(lambda: size(log) == 0)
    assert first.wire not in held(path)
    await store.close()


async def test_a_large_log_is_emptied_when_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_BYTES", 50_000)
    monkeypatch.setattr(checkpoint, "LARGE_BYTES", 50_000)
    monkeypatch.setattr(checkpoint, "IDLE_S", 0.05)
    path = tmp_path / "remora.db"
    store = SqliteStore(str(path), synchronous="normal")
    await store.open()
    await talk(store, 30)
    await until(lambda: size(f"{path}-wal") == 0)
    await store.close()


async def test_a_checkpoint_that_fails_hurts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_BYTES", 1)
    path = tmp_path / "remora.db"
    store = SqliteStore(str(path), synchronous="normal")
    await store.open()
    worker = store._threads()[3]
    said = await talk(store, 3)
    worker._link._secret = b"other"
    worker._link.stale = True
    said += await talk(store, 3, after=said[-1])
    await until(lambda: not worker._link.connected)
    chain = await store.load(REF, key="", reach=None)
    assert chain is not None
    assert list(chain.entries) == said
    await store.close()


async def test_closing_empties_it_though_others_have_the_file_open(tmp_path: Path) -> None:
    path = tmp_path / "remora.db"
    store = SqliteStore(str(path))
    await store.open()
    await talk(store, 2)
    with closing(sqlite3.connect(path)) as other:
        other.execute("SELECT count(*) FROM entries").fetchone()
        await store.close()
        assert size(f"{path}-wal") == 0
