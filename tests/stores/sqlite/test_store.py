"""The store in a SQLite file keeps the laws, across restarts, crashes and processes."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from proxy.errors import SettingsError, StoreUnavailable
from proxy.stores.contract import Appended, Ref
from proxy.stores.sqlite import SqliteStore, from_url, merge, thread
from proxy.stores.sqlite import store as module
from tests.stores.contract import Factory, Laws
from tests.stores.making import REF, RULES, Clock, adding, entry, listed, replay, talk

ROOT = Path(__file__).parents[3]


class TestSqlite(Laws):
    @pytest.fixture
    def factory(self, tmp_path: Path) -> Factory:
        numbers = count()

        def make(now: Callable[[], float]) -> SqliteStore:
            return SqliteStore(str(tmp_path / f"{next(numbers)}.db"), synchronous="normal", now=now)

        return make

    @pytest.fixture
    def crowding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(merge, "BAGS", 2)
        monkeypatch.setattr(merge, "PARTS", 2)
        monkeypatch.setattr(merge, "POSTINGS_A_STEP", 4)
        monkeypatch.setattr(merge, "POSTINGS_A_BUCKET", 2)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "remora.db")


def child(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.stores.sqlite.children", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    assert process.stdout
    return (line.strip() for line in process.stdout)


def healthy(path: str) -> bool:
    with closing(sqlite3.connect(path)) as looking:
        return looking.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_url_names_a_file_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, where in (
        ("sqlite:///here.db", tmp_path / "here.db"),
        (f"sqlite:///{tmp_path}/there.db?synchronous=normal", tmp_path / "there.db"),
        ("sqlite:///a%20b%3f%23.db?synchronous=full", tmp_path / "a b?#.db"),
    ):

        async def use(url: str = url) -> None:
            store = from_url(url)
            await store.open()
            await talk(store, 1)
            await store.close()

        asyncio.run(use())
        assert where.is_file()
        assert healthy(str(where))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://relative.db",
        "sqlite:///:memory:",
        "sqlite:///x.db?synchronous=off",
        "sqlite:///x.db?synchronous",
        "sqlite:///x.db?cache=9",
    ],
)
def test_a_wrong_url_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(SettingsError) as error:
        from_url(url)
    assert url in str(error.value)
    assert "\n" not in str(error.value)


async def test_full_synchronous_is_the_default_and_reaches_the_file(path: str) -> None:
    for url, level in ((f"sqlite:///{path}", 2), (f"sqlite:///{path}?synchronous=normal", 1)):
        store = from_url(url)
        await store.open()
        links = [w._serve.__self__._link for w in store._threads()[1:2]]  # type: ignore[attr-defined]
        await store.ping()
        assert [link.get().execute("PRAGMA synchronous").fetchone() for link in links] == [(level,)]
        await store.close()


async def test_all_survives_a_restart(path: str) -> None:
    store = SqliteStore(path)
    await store.open()
    first = entry(None, preamble=RULES)
    await store.append(adding(REF, first, preamble=RULES, whole=True, plan=b"{}", replay=replay("k", first)))
    secret = await store.secret()
    await store.close()
    again = SqliteStore(path)
    await again.open()
    chain = await again.load(REF, key="", reach=None)
    assert chain is not None
    assert (chain.entries, chain.preamble, chain.whole) == ((first,), RULES, True)
    assert await again.find_replay(REF, "k") == replay("k", first)
    assert await again.secret() == secret
    (second,) = await talk(again, 1, after=first)
    assert await again.find_digests(REF, [first.digest, second.digest]) == {
        first.digest: first.id,
        second.digest: second.id,
    }
    await again.close()


async def test_a_store_may_be_opened_again(path: str) -> None:
    store = SqliteStore(path)
    for turns in (1, 2):
        await store.open()
        await store.open()
        await talk(store, 1, Ref("t", "session", f"{turns}"))
        assert len(await listed(store.list())) == turns
        await store.close()


@pytest.mark.parametrize("round", range(4))
def test_killed_in_the_middle_all_that_was_acknowledged_is_there_once(path: str, round: int) -> None:
    acknowledged: list[str] = []
    enough = random.Random(round).randint(1, 600)
    with child("hammer", path, "s", "8", "100000") as process:
        for line in lines(process):
            acknowledged.append(line)
            if len(acknowledged) == enough:
                process.kill()
    assert len(acknowledged) >= enough
    assert healthy(path)
    with closing(sqlite3.connect(path)) as looking:
        rows = looking.execute("SELECT r.name, e.id FROM entries e JOIN refs r ON r.n = e.ref").fetchall()
    stored = [f"{name} {id.hex()}" for name, id in rows]
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)

    async def chains() -> None:
        store = SqliteStore(path)
        await store.open()
        async for info in store.list():
            chain = await store.load(info.ref, key="", reach=None)
            assert chain is not None
            assert len(chain.entries) == sum(line.startswith(f"{info.ref.name} ") for line in stored)
            assert chain.entries[0].parent == ""
            assert all(b.parent == a.id for a, b in zip(chain.entries, chain.entries[1:], strict=False))
        await talk(store, 1, Ref("t", "session", "after"))
        await store.close()

    asyncio.run(chains())


def test_processes_share_a_file(path: str) -> None:
    """Three write their own sessions and one that all write: no error, and nothing is lost."""
    own = [child("hammer", path, f"p{n}-", "4", "40") for n in range(2)]
    shared = [child("rival", path, f"{n}", "40") for n in range(3)]
    said = [process.communicate(timeout=50) for process in [*own, *shared]]
    assert [process.returncode for process in [*own, *shared]] == [0] * 5, said
    assert [error for _, error in said] == [""] * 5
    ids = [line for out, _ in said[2:] for line in out.split()]
    assert len(set(ids)) == 120

    async def check() -> None:
        store = SqliteStore(path)
        await store.open()
        chain = await store.load(Ref("t", "session", "shared"), key="", reach=None)
        assert chain is not None
        assert {each.id for each in chain.entries} == set(ids)
        assert [info.turns for info in await listed(store.list())] == [40] * 8 + [120]
        await store.close()

    asyncio.run(check())
    assert healthy(path)


async def test_no_erased_content_stays_in_any_file(path: str) -> None:
    store = SqliteStore(path)
    await store.open()
    clock = Clock()
    kept, gone, old = (Ref("t", "session", name) for name in ("kept", "gone", "old"))
    for ref, word in ((kept, "PELICAN"), (gone, "WALRUS"), (old, "WALRUS")):
        last = None
        for turn in range(150):
            new = entry(last, f"{word} {turn} {word * (turn % 9 * 300)}", preamble=RULES)
            kept_reply = replay(f"{turn}", new, sticky=turn % 3 == 0, body=word.encode() * 99)
            done = await store.append(
                adding(ref, new, preamble=RULES, plan=word.encode(), replay=kept_reply, ttl_s=1 if ref == old else None)
            )
            assert done == Appended()
            last = new
    await store.erase(gone)
    files = [Path(path), Path(path + "-wal"), Path(path + "-shm")]
    clock.seconds = 4_000_000_000
    store._now = clock
    await store.expire(9)
    await store.close()
    held = b"".join(file.read_bytes() for file in files if file.exists())
    assert b"PELICAN" in held
    assert b"WALRUS" not in held


async def test_a_reader_does_not_wait_for_the_writer(path: str) -> None:
    store = SqliteStore(path)
    await store.open()
    said = await talk(store, 2)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(store.append(adding(REF, entry(said[-1]))))
    chain = await store.load(REF, key="", reach=None)
    assert chain is not None
    assert list(chain.entries) == said
    assert not waiting.done()
    blocker.execute("ROLLBACK")
    blocker.close()
    assert await waiting == Appended()
    await store.close()


async def test_what_waits_is_bounded(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "MOST_WAITING", 20)
    store = SqliteStore(path)
    await store.open()
    refs = [Ref("t", "session", f"{n}") for n in range(25)]
    answers = await asyncio.gather(*[store.append(adding(r, entry(None))) for r in refs], return_exceptions=True)
    assert answers[:20] == [Appended()] * 20
    assert all(isinstance(answer, StoreUnavailable) for answer in answers[20:])
    assert await store.append(adding(refs[24], entry(None))) == Appended()
    await store.close()


async def test_what_was_delivered_is_forgotten_without_another_write(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DELIVERED_AFTER_S", 0.01)
    store = SqliteStore(path)
    await store.open()
    first = entry(None)
    await store.append(adding(REF, first, replay=replay("k", first)))
    looking = sqlite3.connect(path)
    assert looking.execute("SELECT count(*) FROM replays").fetchone() == (1,)
    store.delivered(REF, "k")
    async with asyncio.timeout(10):
        while looking.execute("SELECT count(*) FROM replays").fetchone() == (1,):  # noqa: ASYNC110 - another thread's work
            await asyncio.sleep(0.005)
    looking.close()
    await store.close()


async def test_what_was_delivered_is_forgotten_by_closing(path: str) -> None:
    store = SqliteStore(path)
    await store.open()
    first = entry(None)
    await store.append(adding(REF, first, replay=replay("k", first)))
    store.delivered(REF, "k")
    await store.close()
    looking = sqlite3.connect(path)
    assert looking.execute("SELECT count(*) FROM replays").fetchone() == (0,)
    looking.close()


def test_a_loop_that_ends_without_closing_loses_nothing(path: str) -> None:
    first = entry(None)

    async def forget() -> SqliteStore:
        store = SqliteStore(path)
        await store.open()
        task = asyncio.ensure_future(store.append(adding(REF, first)))
        await asyncio.sleep(0)
        task.cancel()
        return store

    left = asyncio.run(forget())

    async def look() -> None:
        left._threads()[1]._thread.join(0)
        store = SqliteStore(path)
        await store.open()
        async with asyncio.timeout(10):
            while await store.load(REF, key="", reach=None) is None:  # noqa: ASYNC110 - another thread's work
                await asyncio.sleep(0.005)
        await store.close()

    asyncio.run(look())
