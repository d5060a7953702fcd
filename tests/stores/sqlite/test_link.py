"""A connection that knows when the file is not what it was."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.errors import StoreUnavailable
from proxy.stores.contract import Appended, Conflict, Ref
from proxy.stores.sqlite import SqliteStore, schema
from proxy.stores.sqlite.link import Link
from tests.stores.making import REF, adding, entry, talk


def put_away(path: Path, suffixes: tuple[str, ...]) -> None:
    for suffix in suffixes:
        Path(f"{path}{suffix}").rename(f"{path}{suffix}.kept")


async def test_a_file_that_is_removed_takes_nothing_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "remora.db"
    store = SqliteStore(str(path))
    await store.open()
    said = await talk(store, 3)
    path.rename(tmp_path / "away.db")
    lost = entry(said[-1], "lost")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"remora\.db"):
            await store.append(adding(REF, lost))
        with pytest.raises(StoreUnavailable):
            await store.ping()
    assert not path.exists()
    with pytest.raises(StoreUnavailable):
        await store.load(REF, key="", reach=None)
    (tmp_path / "away.db").rename(path)
    assert await store.append(adding(REF, lost)) in (Appended(), Appended(again=True))
    chain = await store.load(REF, key="", reach=None)
    assert chain is not None
    assert list(chain.entries) == [*said, lost]
    await store.close()


async def test_another_database_in_its_place_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "remora.db", tmp_path / "other.db"
    store = SqliteStore(str(path))
    await store.open()
    said = await talk(store, 3)
    schema.prepare(str(other))
    put_away(path, ("", "-wal", "-shm"))
    shutil.copy(other, path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"removed or replaced|another database"):
            await store.append(adding(REF, entry(said[-1])))
    with pytest.raises(StoreUnavailable, match="another database"):
        await store.load(REF, key="", reach=None)
    with closing(sqlite3.connect(path)) as looking:
        assert looking.execute("SELECT count(*) FROM entries").fetchone() == (0,)
    await store.close()


async def test_an_older_copy_in_its_place_is_taken_as_it_is(tmp_path: Path) -> None:
    """A backup put back: what this process believed of its sessions is forgotten."""
    path, copy = tmp_path / "remora.db", tmp_path / "copy.db"
    store = SqliteStore(str(path))
    await store.open()
    said = await talk(store, 2)
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(copy)) as backup:
        live.backup(backup)
    said += await talk(store, 2, after=said[-1])
    assert await store.load(REF, key="", reach=None) is not None
    put_away(path, ("-wal", "-shm"))
    copy.rename(path)
    with pytest.raises(StoreUnavailable):
        await talk(store, 1, Ref("t", "session", "elsewhere"))
    other = SqliteStore(str(path))
    await other.open()
    anew = await talk(other, 2, after=said[1])  # their rows have the numbers that the lost ones had
    await other.close()
    chain = await store.load(REF, key="", reach=None)
    assert chain is not None
    assert list(chain.entries) == said[:2] + anew
    assert await store.append(adding(REF, entry(said[-1]))) == Conflict(anew[-1].id)
    assert await store.append(adding(REF, entry(anew[-1]))) == Appended()
    await store.close()


def test_a_file_that_is_no_store_any_more_is_a_storage_failure(tmp_path: Path) -> None:
    path = tmp_path / "remora.db"
    link = Link(str(path), schema.prepare(str(path)))
    link.get()
    link.drop()
    path.write_bytes(b"x" * 5000)
    with pytest.raises(sqlite3.DatabaseError) as error:
        link.get()
    assert schema.unavailable(error.value, str(path)) is not None
    path.unlink()
    with closing(sqlite3.connect(path)) as empty:
        empty.execute("CREATE TABLE t (a)")
    with pytest.raises(StoreUnavailable, match="another database"):
        link.get()
    assert not link.connected


def test_a_reading_link_cannot_write(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    link = Link(path, schema.prepare(path), reads=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        link.get().execute("DELETE FROM meta")
    link.drop()


def test_a_stale_link_connects_again(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    link = Link(path, schema.prepare(path))
    first = link.get()
    assert link.get() is first
    link.stale = True
    second = link.get()
    assert second is not first
    assert link.get() is second
    link.drop()


def test_how_sure_a_commit_is_may_change_from_one_to_the_next(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    secret = schema.prepare(path)
    for synchronous, level in (("full", 2), ("normal", 1)):
        link = Link(path, secret, synchronous=synchronous)
        for durable in (False, True, False, False, True):
            link.get()
            link.durable(durable)
            assert link.get().execute("PRAGMA synchronous").fetchone() == (level if durable else 1,)
        link.durable(False)
        link.drop()
        assert link.get().execute("PRAGMA synchronous").fetchone() == (level,)
        for durable in (False, True):
            link.durable(durable)
            assert link.get().execute("PRAGMA synchronous").fetchone() == (level if durable else 1,)
        link.drop()
