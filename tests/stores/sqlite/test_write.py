"""Batches: all or nothing, and a failure finds the one that causes it."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from proxy.stores.contract import Append, Appended, Conflict, Ref
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite.asks import Write
from proxy.stores.sqlite.thread import Worker
from proxy.stores.sqlite.write import Writer
from tests.stores.making import REF, Clock, adding, entry, listed, talk
from tests.stores.sqlite.test_store import child, healthy


def poison(ref: Ref) -> Append:
    """An append that SQLite refuses: a number beyond its range."""
    return adding(ref, msgspec.structs.replace(entry(None), tokens_upto=2**70))


def writer_of(store: SqliteStore) -> Writer:
    worker: Worker[Write] = store._threads()[1]
    writer = worker._serve.__self__  # type: ignore[attr-defined]
    assert isinstance(writer, Writer)
    return writer


async def test_one_that_fails_fails_alone(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    refs = [Ref("t", "session", f"{n}") for n in range(10)]
    for turn in range(2):
        heads = [await store.load(ref, key="", reach=1) for ref in refs]
        appends = [adding(ref, entry(c.head if c else None)) for ref, c in zip(refs, heads, strict=True)]
        appends[4:4] = [poison(Ref("t", "session", "bad")), poison(Ref("t", "session", "bad"))]
        answers = await asyncio.gather(*map(store.append, appends), return_exceptions=True)
        assert [type(answer) for answer in answers[4:6]] == [OverflowError] * 2
        assert answers[:4] + answers[6:] == [Appended()] * 10
        assert [(info.ref, info.turns) for info in await listed(store.list())] == [(ref, turn + 1) for ref in refs]
    await store.close()


async def test_what_waits_is_committed_together(tmp_path: Path) -> None:
    """One commit for many appends: the log grows by few pages, and a follower sees all or none."""
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    refs = [Ref("t", "session", f"{n}") for n in range(60)]
    batches: list[int] = []
    writer = writer_of(store)
    writer._wrote = batches.append
    assert await asyncio.gather(*[store.append(adding(ref, entry(None))) for ref in refs]) == [Appended()] * 60
    assert len(batches) == 1
    await store.close()


async def test_a_session_known_from_before_needs_no_look(tmp_path: Path) -> None:
    """An append is an UPDATE and an INSERT: what is believed is checked by the UPDATE itself."""
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    (first,) = await talk(store, 1)
    statements: list[str] = []
    writer_of(store)._link.get().set_trace_callback(statements.append)
    await talk(store, 1, after=first)
    writer_of(store)._link.get().set_trace_callback(None)
    assert [statement.split()[0] for statement in statements] == ["BEGIN", "SELECT", "UPDATE", "INSERT", "COMMIT"]
    await store.close()


async def test_what_is_known_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.stores.sqlite.write.MOST_KNOWN", 5)
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    refs = [Ref("t", "session", f"{n}") for n in range(12)]
    for _ in range(3):
        for ref in refs:
            chain = await store.load(ref, key="", reach=1)
            assert await store.append(adding(ref, entry(chain.head if chain else None))) == Appended()
    assert len(writer_of(store)._known) == 5
    assert [info.turns for info in await listed(store.list())] == [3] * 12
    await store.close()


async def test_appends_go_on_while_a_long_session_is_removed(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"), synchronous="normal")
    await store.open()
    long, other = Ref("t", "session", "long"), Ref("t", "session", "other")
    await talk(store, 1000, long)
    erasing = asyncio.ensure_future(store.erase(long))
    await asyncio.sleep(0)
    said = await talk(store, 3, other)
    assert not erasing.done()
    again = await talk(store, 2, long)
    assert await erasing is True
    chain = await store.load(long, key="", reach=None)
    assert chain is not None
    assert list(chain.entries) == again
    assert [r.entry for r in await listed(store.records(other))] == said
    await store.close()


async def test_a_removal_that_was_cut_short_is_finished_by_the_sweep(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    store = SqliteStore(path)
    await store.open()
    await talk(store, 500, whole=True)
    writer = writer_of(store)
    step = writer._batch

    def broken(*arguments: object, **more: object) -> object:
        error = step(*arguments, **more)  # type: ignore[arg-type]
        writer._purging.clear()
        return error

    writer._batch = broken  # type: ignore[method-assign, assignment]
    assert await store.erase(REF) is True
    await store.close()

    store = SqliteStore(path)
    await store.open()
    assert await store.load(REF, key="", reach=None) is None
    assert await listed(store.list()) == []
    assert await store.expire(9) == 1
    assert await store.expire(9) == 0
    await store.close()
    with closing(sqlite3.connect(path)) as looking:
        for table in ("refs", "entries", "branches", "digests", "preambles", "replays"):
            assert looking.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert healthy(path)


async def test_an_expired_session_that_begins_anew_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "remora.db"), Clock()
    store = SqliteStore(path, now=clock)
    await store.open()
    old = await talk(store, 200, ttl_s=60)
    clock.seconds += 61
    new = await talk(store, 2)
    assert await store.append(adding(REF, entry(old[-1]))) == Conflict(new[-1].id)
    await store.close()
    with closing(sqlite3.connect(path)) as looking:
        assert looking.execute("SELECT count(*) FROM entries").fetchone() == (2,)
        assert looking.execute("SELECT count(*) FROM refs").fetchone() == (1,)


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    out, error = child("full", path, "400000").communicate(timeout=50)
    assert error == ""
    told, *rest = out.splitlines()
    assert path in told
    assert "full" in told
    assert rest == ["still full"] * 3 + ["ping tells", "all is there", "recovered"]
    assert healthy(path)
