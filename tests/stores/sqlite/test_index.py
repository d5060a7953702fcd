"""What is written to the index goes for good with its session."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.conversation.summary import Summary
from proxy.stores.contract import Index, Ref
from proxy.stores.sqlite import SqliteStore, index
from tests.stores.laws.searching import bag
from tests.stores.laws.telling import summary
from tests.stores.making import Clock, entry, talk
from tests.stores.sqlite.test_merge import idle

TABLES = ("summaries", "indexed", "runs", "bags", "parts", "vectors")


async def test_nothing_erased_stays_in_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "BLOBS_A_STEP", 7)
    monkeypatch.setattr(index, "ROWS_A_STEP", 11)
    path = tmp_path / "remora.db"
    clock = Clock()
    store = SqliteStore(str(path), synchronous="normal", now=clock)
    await store.open()
    kept, gone, old = (Ref("t", "session", name) for name in ("kept", "gone", "old"))
    for ref, word in ((kept, b"PELICAN"), (gone, b"WALRUS!"), (old, b"WALRUS!")):
        for each in await talk(store, 150, ref, ttl_s=9 if ref == old else None):
            words = bag((1, 1))._replace(terms=((word + b"x", 1), (word + b"y", 2)))
            await store.index(
                ref, [Index(each.id, (words, words), "model " + word.decode(), (word * 9, word * 9))], revision=0
            )
            told: Summary = summary(each, text=word.decode())
            assert await store.keep_summary(ref, told, revision=0)
    await idle(store)
    await store.erase(gone)
    clock.seconds += 10
    assert await store.expire(9) == 1
    await store.close()
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())  # noqa: ASYNC240 - a test
    assert b"PELICANx" in held
    assert b"model PELICAN" in held
    assert b"WALRUS" not in held
    with closing(sqlite3.connect(path)) as looking:
        (n,) = looking.execute("SELECT n FROM refs").fetchone()
        for table in TABLES:
            rows = looking.execute(f"SELECT count(*), min(ref), max(ref) FROM {table}").fetchone()
            assert rows[0] > 0
            assert rows[1:] == (n, n), table
        stray = "SELECT count(*) FROM buckets WHERE n >> 24 NOT IN (SELECT n FROM parts)"
        assert looking.execute(stray).fetchone() == (0,)
        # the words are in all messages, so parts hold them in rows of their own
        strays = "SELECT count(*) > 0, sum(part NOT IN (SELECT n FROM parts)) FROM common"
        assert looking.execute(strays).fetchone() == (1, 0)


async def test_a_term_has_its_size_and_a_vector_its_model(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    each = entry(None)
    words = bag((1, 1))._replace(terms=((b"short", 1),))
    with pytest.raises(ValueError, match="8 bytes"):
        await store.index(Ref("t", "session", "x"), [Index(each.id, (words, words))], revision=0)
    with pytest.raises(ValueError, match="model"):
        await store.index(Ref("t", "session", "x"), [Index(each.id, (), "", (b"x", b"y"))], revision=0)
    await store.close()
