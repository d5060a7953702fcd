"""What is read of the index costs about the same however long the chain is, and what another process wrote is seen."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.conversation.entry import Anchor, Entry
from proxy.conversation.summary import Summary
from proxy.conversation.words import Words
from proxy.stores.contract import Appended, Index
from proxy.stores.picking import posting
from proxy.stores.sqlite import SqliteStore, schema
from proxy.stores.sqlite.rows import pack
from tests.stores.laws.searching import bag, expected, term
from tests.stores.laws.telling import summary
from tests.stores.making import REF, adding, entry, talk


async def test_what_another_process_kept_and_indexed_is_seen(tmp_path: Path) -> None:
    stores = [SqliteStore(str(tmp_path / "remora.db"), synchronous="normal") for _ in range(2)]
    for store in stores:
        await store.open()
    said: list[Entry] = []
    kept: list[Summary] = []
    known: dict[str, Index] = {}
    for turn in range(24):
        this, other = stores[turn % 2], stores[1 - turn % 2]
        anchor = Anchor("k", 0, 0, kept[-1].id) if kept and turn % 5 else None
        said.append(entry(said[-1] if said else None, f"{turn}", anchor=anchor))
        assert await this.append(adding(REF, said[-1])) == Appended()
        known[said[-1].id] = Index(said[-1].id, (bag((turn % 3, 1)), bag((9, 1))))
        await other.index(REF, [known[said[-1].id]], revision=0)
        if turn % 3 == 0:
            kept.append(summary(said[-1], turn))
            assert await other.keep_summary(REF, kept[-1], revision=0) is True
        named = anchor.summary if anchor else kept[0].id
        since = [each.id for each in kept].index(named)
        for store in (this, other, this):
            chain = await store.load(REF, key="k", reach=None)
            assert chain
            assert list(chain.summaries) == kept[since:]
            assert list(await store.summaries(REF)) == kept
            assert await store.postings(REF, said[-1].id, [term(1), term(9)]) == expected(said, known, [1, 9])
    for store in stores:
        await store.close()


@pytest.mark.parametrize("bits", [4, 9])
async def test_terms_that_look_alike_are_told_apart(tmp_path: Path, bits: int) -> None:
    """In each pair of bytes some of them are equal, or there are more of them than are told apart at once."""
    terms = [
        b"".join((0x1234 + (n if bits == 9 else n >> at & 1)).to_bytes(2, "big") for at in range(4))
        for n in range(1 << bits)
    ]
    store = SqliteStore(str(tmp_path / "remora.db"), synchronous="normal")
    await store.open()
    said = await talk(store, 4)
    held = [[term for n, term in enumerate(terms) if n % 7 != at] for at in range(2 * len(said))]
    found = [Words(len(each), tuple((term, 1 + n % 3) for n, term in enumerate(each))) for each in held]
    await store.index(REF, [Index(e.id, tuple(found[e.first : e.upto])) for e in said], revision=0)
    wanted = terms[:: 10 - bits]
    answer = await store.postings(REF, said[-1].id, wanted)
    assert answer
    for term_, numbers in zip(wanted, answer.found, strict=True):
        hits = [(at, dict(each.terms)[term_]) for at, each in enumerate(found) if term_ in dict(each.terms)]
        assert numbers == b"".join(posting(at, found[at].length, n).to_bytes(8, "little") for at, n in hits)
    await store.close()


async def test_a_file_of_the_first_schema_is_searched_too(tmp_path: Path) -> None:
    path = tmp_path / "remora.db"
    a = entry(None, "from before")
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(schema.MIGRATIONS[0])
        old.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        old.execute("PRAGMA user_version = 1")
        old.execute(
            "INSERT INTO refs VALUES (1, ?, ?, ?, 1, NULL, NULL, NULL, 0, 5, 5, NULL, NULL)",
            (REF.tenant, REF.kind, REF.name),
        )
        row = (a.upto, a.tokens_upto, a.turn, bytes.fromhex(a.id), a.digest, pack(a))
        old.execute("INSERT INTO entries VALUES (1, 1, 1, ?, ?, ?, ?, ?, ?, x'')", row)
    store = SqliteStore(str(path))
    await store.open()
    chain = await store.load(REF, key="", reach=None)
    assert chain
    assert (chain.entries, chain.summaries) == ((a,), ())
    assert list((await store.unindexed(REF, a.id, model="", most=9)).entries) == [a]
    (b,) = await talk(store, 1, after=a)
    known = {each.id: Index(each.id, (bag((1, 1)), bag((1, 2)))) for each in (a, b)}
    await store.index(REF, list(known.values()), revision=0)
    assert await store.postings(REF, b.id, [term(1)]) == expected([a, b], known, [1])
    assert await store.keep_summary(REF, kept := summary(a), revision=0) is True
    chain = await store.load(REF, key="", reach=None)
    assert chain
    assert chain.summaries == (kept,)
    await store.close()
    with closing(sqlite3.connect(path)) as looking:
        assert looking.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
        assert looking.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_summaries_that_are_not_there_cost_nothing(tmp_path: Path) -> None:
    """A session without summaries is loaded by as many statements as ever: one."""
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    await talk(store, 1)
    asked: list[str] = []

    def count(reader: object) -> None:
        reader._connect()  # type: ignore[attr-defined]
        reader._db.set_trace_callback(asked.append)  # type: ignore[attr-defined]

    await store._read(count)
    for _ in range(2):
        assert await store.load(REF, key="", reach=None)
    assert len(asked) == 2
    await store.close()
