"""What is taken out of a ref that stays is in no file any more, and the rest is whole."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from proxy.conversation.entry import Entry, Preamble
from proxy.stores.contract import Appended, End, Index, Ref
from proxy.stores.sqlite import SqliteStore
from tests.stores.laws.searching import bag
from tests.stores.laws.telling import summary
from tests.stores.making import CHAIN, REF, adding, entry, listed, redacted, replay, talk
from tests.stores.sqlite.test_store import healthy
from tests.stores.sqlite.test_write import writer_of

GONE = Preamble(b"WALRUS rules", 3)
KEPT = Preamble(b"PELICAN rules", 3)


async def told(
    store: SqliteStore, ref: Ref, parent: Entry | None, head: Entry | None, word: str, rules: Preamble
) -> Entry:
    """An entry with everything that can be made from it; all of it says the word."""
    said = word.encode()
    new = entry(parent, f"{word} " * 900, preamble=rules)
    assert await store.begin_run(ref, new.id, owner="me", state=said * 999, ttl_s=None) is True
    await store.log_run(ref, new.id, owner="me", events=[said * 99] * 9)
    kept = replay(word, new, sticky=True, body=said * 99)
    append = adding(ref, new, head.id if head else None, preamble=rules, replay=kept, note=said * 99, plan=said)
    assert await store.append(append) == Appended()
    await store.log_run(ref, new.id, owner="me", state=said, end=End(600, keep=True))
    assert await store.keep_summary(ref, summary(new, text=word), revision=0) is True
    words = bag((1, 1))._replace(terms=((f"{word}XX"[:8].encode(), 1),))
    index = Index(new.id, (words, words), "model", (said * 99, said * 99))
    assert await store.index(ref, [index], revision=0) is True
    return new


def held(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_nothing_redacted_stays_in_any_file(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    store = SqliteStore(path)
    await store.open()
    gone = await told(store, REF, None, None, "WALRUS", GONE)
    kept = await told(store, REF, gone, gone, "PELICAN", KEPT)
    assert b"WALRUS" in held(tmp_path)
    # whoever erases decides what the plan shows
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE entries SET plan = x''")
        other.commit()
    stub = redacted(gone, facts=msgspec.structs.replace(gone.facts))
    assert await store.redact(REF, [stub], preamble=(GONE.id, Preamble(b"less", 1))) is True
    await store.close()
    files = held(tmp_path)
    assert b"PELICAN" in files
    assert b"WALRUS" not in files
    assert healthy(path)
    store = SqliteStore(path)
    await store.open()
    chain = await store.load(REF, key="", reach=None)
    assert chain is not None
    assert chain.entries == (stub.entry, kept)
    await store.close()


async def test_nothing_pruned_stays_in_any_file(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    store = SqliteStore(path)
    await store.open()
    kept = await told(store, CHAIN, None, None, "PELICAN", KEPT)
    gone = await told(store, CHAIN, kept, kept, "WALRUS", GONE)
    last = await told(store, CHAIN, gone, gone, "WALRUS", GONE)
    assert await store.prune(CHAIN, gone.id) is True
    assert await store.prune(CHAIN, last.id) is True
    await store.close()
    files = held(tmp_path)
    assert b"PELICAN" in files
    assert b"WALRUS" not in files
    assert healthy(path)


async def test_nothing_dropped_or_silent_stays_in_any_file(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    (first,) = await talk(store, 1, CHAIN)
    for keep in (True, False):
        new = entry(first)
        await store.begin_run(CHAIN, new.id, owner="me", state=b"state", ttl_s=None)
        await store.log_run(CHAIN, new.id, owner="me", events=[b"WALRUS" * 99] * 9)
        await store.log_run(CHAIN, new.id, owner="me", end=End(0, keep=keep))
    dropped = entry(first)
    await store.begin_run(CHAIN, dropped.id, owner="me", state=b"WALRUS" * 999, ttl_s=None)
    assert await store.drop_run(CHAIN, dropped.id) is True
    assert await store.expire(9) == 2
    await store.close()
    assert b"WALRUS" not in held(tmp_path)


async def test_an_index_that_is_void_goes_in_steps_while_appends_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.stores.sqlite.index.BLOBS_A_STEP", 2)
    store = SqliteStore(str(tmp_path / "remora.db"), synchronous="normal")
    await store.open()
    said = await talk(store, 60)
    words = [Index(each.id, (bag((1, 1)), bag()), "m", (b"xxxx", b"yyyy")) for each in said]
    assert await store.index(REF, words, revision=0) is True
    redacting = asyncio.ensure_future(store.redact(REF, [redacted(said[0])], preamble=None))
    await asyncio.sleep(0)
    (new,) = await talk(store, 1, after=said[-1])
    assert not redacting.done()
    found = await store.unindexed(REF, new.id, model="", most=99)
    assert (found.revision, len(found.entries)) == (1, 61)
    assert await store.index(REF, [Index(said[0].id, (bag((7, 1)), bag()))], revision=1) is True
    assert await redacting is True
    assert len((await store.unindexed(REF, new.id, model="", most=99)).entries) == 60
    await store.close()


async def test_what_was_cut_short_is_finished_by_the_sweep(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    store = SqliteStore(path)
    await store.open()
    a = await told(store, CHAIN, None, None, "PELICAN", KEPT)
    b = await told(store, CHAIN, a, a, "WALRUS", GONE)
    writer = writer_of(store)
    step = writer._batch

    def broken(*arguments: object, **more: object) -> object:
        error = step(*arguments, **more)  # type: ignore[arg-type]
        writer._purging.clear()
        return error

    writer._batch = broken  # type: ignore[method-assign, assignment]
    assert await store.prune(CHAIN, b.id) is True
    await store.close()
    store = SqliteStore(path)
    await store.open()
    assert [each.entry for each in await listed(store.records(CHAIN))] == [a]
    assert await store.expire(9) == 2, "an index and a log"
    assert await store.expire(9) == 0
    await store.close()
    assert b"WALRUS" not in held(tmp_path)
    with closing(sqlite3.connect(path)) as looking:
        assert looking.execute("SELECT count(*) FROM refs").fetchone() == (1,)
        assert looking.execute(
            "SELECT count(*) FROM events WHERE n >> 32 NOT IN (SELECT n FROM responses)"
        ).fetchone() == (0,)


async def test_a_redaction_that_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    a, b = await talk(store, 2)
    assert await store.keep_summary(REF, kept := summary(a), revision=0) is True
    beyond = redacted(b)
    beyond = msgspec.structs.replace(beyond, entry=msgspec.structs.replace(beyond.entry, tokens_upto=2**70))
    with pytest.raises(OverflowError):
        await store.redact(REF, [redacted(a), beyond], preamble=None)
    chain = await store.load(REF, key="", reach=None)
    assert chain is not None
    assert (chain.entries, chain.summaries, chain.revision) == ((a, b), (kept,), 0)
    await store.close()
