"""Bags become parts, and parts larger ones; what is found stays the same after every step, in whichever process."""

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.conversation.entry import Entry
from proxy.conversation.words import Found
from proxy.stores.contract import Index, Store
from proxy.stores.sqlite import SqliteStore, merge, schema
from tests.stores.laws.searching import bag, expected, term
from tests.stores.making import REF, talk


async def idle(store: SqliteStore) -> None:
    """Until nothing is left to merge."""
    assert store._writer
    async with asyncio.timeout(20):
        await store.ping()
        while store._writer._merging:
            await store.ping()


def indexed(said: list[Entry], start: int = 0) -> dict[str, Index]:
    return {e.id: Index(e.id, (bag((n % 7, 1), (n, 2)), bag((0, 1)))) for n, e in enumerate(said, start)}


async def agree(store: Store, said: list[Entry], known: dict[str, Index]) -> None:
    terms = [*range(9), len(said) - 1, 10**6]
    found = await store.postings(REF, said[-1].id, [term(n) for n in terms])
    assert found == expected(said, known, terms)


async def test_many_bags_become_few_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "BAGS", 4)
    monkeypatch.setattr(merge, "PARTS", 3)
    monkeypatch.setattr(merge, "POSTINGS_A_STEP", 10)
    monkeypatch.setattr(merge, "POSTINGS_A_BUCKET", 2)
    monkeypatch.setattr(merge, "COMMON", 4)
    path = tmp_path / "remora.db"
    store = SqliteStore(str(path), synchronous="normal")
    await store.open()
    said = await talk(store, 130)
    known = indexed(said)
    for n in range(0, 130, 5):
        await store.index(REF, [known[each.id] for each in said[n : n + 5]], revision=0)
        await agree(store, said[: n + 5], known)
    await idle(store)
    await agree(store, said, known)
    with closing(sqlite3.connect(path)) as looking:
        levels = dict(looking.execute("SELECT level, count(*) FROM parts WHERE done IS NULL GROUP BY level"))
        assert max(levels) == 4
        assert max(levels.values()) < 3
        assert looking.execute("SELECT count(*) < 4 FROM bags").fetchone() == (1,)
        assert looking.execute("SELECT count(*) FROM parts WHERE done IS NOT NULL").fetchone() == (0,)
        stray = "SELECT count(*) FROM buckets WHERE n >> 24 NOT IN (SELECT n FROM parts)"
        assert looking.execute(stray).fetchone() == (0,)
        parts = looking.execute("SELECT n, level FROM parts").fetchall()
        common = "SELECT term FROM common WHERE part = ?"
        kept = {part: looking.execute(common, (part,)).fetchall() for part, _ in parts}
        assert all((term(0),) in terms for terms in kept.values())
        assert looking.execute("SELECT count(*) FROM common").fetchone() == (sum(map(len, kept.values())),)
        # of the others those that a large part holds often
        assert all((len(kept[part]) > 1) == (level > 2) for part, level in parts)
    await store.close()


async def test_the_postings_of_a_common_word_are_read_where_they_are_wanted_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "BAGS", 8)
    monkeypatch.setattr(merge, "COMMON", 4)
    store = SqliteStore(str(tmp_path / "remora.db"), synchronous="normal")
    await store.open()
    said = await talk(store, 50)
    known = indexed(said)
    await store.index(REF, list(known.values()), revision=0)
    await idle(store)
    asked: list[str] = []

    def listen(reader: object) -> None:
        reader._connect()  # type: ignore[attr-defined]
        reader._db.set_trace_callback(asked.append)  # type: ignore[attr-defined]

    await store._read(listen)
    right = expected(said, known, [0, 30]).found
    for want in (True, False):
        told: list[Found] = []

        def choose(found: Found) -> list[int]:
            told.append(found)  # noqa: B023 - it is called in this turn of the loop
            return []

        asked.clear()
        await store.seek(REF, said[-1].id, [term(0), term(30)], lambda _, counts: [counts[0] < 1 or want, True], choose)  # noqa: B023
        assert told[0].found == (right[0] if want else len(right[0]) // 8, right[1])
        assert sum("common" in each for each in asked) == want
    await store.close()


async def test_any_process_goes_on_where_another_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "BAGS", 2)
    monkeypatch.setattr(merge, "PARTS", 2)
    monkeypatch.setattr(merge, "POSTINGS_A_STEP", 1)
    monkeypatch.setattr(merge, "COMMON", 2)
    monkeypatch.setattr(merge, "POSTINGS_A_BUCKET", 1)
    path = str(tmp_path / "remora.db")
    said: list[Entry] = []
    known: dict[str, Index] = {}
    for _ in range(12):
        stores = [SqliteStore(path, synchronous="normal") for _ in range(2)]
        for store in stores:
            await store.open()
        new = await talk(stores[0], 6, after=said[-1] if said else None)
        known |= indexed(new, len(said))
        said += new
        for n, each in enumerate(new):
            await stores[n % 2].index(REF, [known[each.id]], revision=0)
        await agree(stores[1], said, known)
        # in the middle of it
        for store in stores:
            await store.close()
    store = SqliteStore(path)
    await store.open()
    await store.index(REF, list(known.values()), revision=0)
    await idle(store)
    await agree(store, said, known)
    await store.close()


@given(
    bags=st.lists(
        st.lists(
            st.tuples(
                st.one_of(st.binary(min_size=8, max_size=8), st.integers(0, 3).map(term)), st.integers(0, 2**56 - 1)
            ),
            max_size=9,
        ),
        min_size=1,
        max_size=9,
    ),
    steps=st.integers(0, 30),
)
@example(bags=[[], [], [], []], steps=4)
@settings(deadline=None, max_examples=40)
def test_no_pair_is_lost_at_any_step(bags: list[list[tuple[bytes, int]]], steps: int) -> None:
    pairs = [b"".join(t + n.to_bytes(8, "little") for t, n in some) for some in bags]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db, pytest.MonkeyPatch.context() as patch:
        for name in ("BAGS", "PARTS", "POSTINGS_A_STEP", "POSTINGS_A_BUCKET", "COMMON"):
            patch.setattr(merge, name, 2)
        for step in schema.MIGRATIONS:
            db.executescript(step)
        db.execute(
            "INSERT INTO refs (tenant, kind, name, whole, created, updated) VALUES ('t', 'session', 's', 0, 0, 0)"
        )
        db.executemany("INSERT INTO bags (ref, start, pairs) VALUES (1, ?, ?)", list(enumerate(pairs)))
        for _ in range(steps):
            merge.merge_some(db, 1)
        rows = [row for (row,) in db.execute("SELECT pairs FROM bags UNION ALL SELECT pairs FROM buckets")]
        held = [row[n : n + 16] for row in rows for n in range(0, len(row), 16)]
        marks = [each for each in held if each[15] == 0xFF]
        common = db.execute("SELECT part, term, docs FROM common").fetchall()
        # each of its own mark, which says how many there are
        assert sorted(marks) == sorted(
            each + (len(docs) // 8).to_bytes(7, "little") + b"\xff" for _, each, docs in common
        )
        held = [each for each in held if each[15] != 0xFF]
        held += [each + docs[n : n + 8] for _, each, docs in common for n in range(0, len(docs), 8)]
        assert sorted(held) == sorted(p[n : n + 16] for p in pairs for n in range(0, len(p), 16))
        assert all(len(docs) >= 8 * merge.COMMON for _, _, docs in common)
        assert {part for part, _, _ in common} <= {part for (part,) in db.execute("SELECT n FROM parts")}
        # each is where it is looked for
        for part, bits in db.execute("SELECT n, bits FROM parts").fetchall():
            for n, row in db.execute("SELECT n, pairs FROM buckets WHERE n >> 24 = ?", (part,)):
                assert {int.from_bytes(row[at : at + 4], "big") >> (32 - bits) for at in range(0, len(row), 16)} == {
                    n - (part << 24)
                }


async def test_what_fails_is_told(tmp_path: Path) -> None:
    path = tmp_path / "remora.db"
    store = SqliteStore(str(path), synchronous="normal")
    await store.open()
    said = await talk(store, merge.BAGS + 2)
    known = list(indexed(said).values())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("ALTER TABLE buckets RENAME TO lost")
        # as a rule the next one is told; where the merge began before the answer, this one
        with pytest.raises(sqlite3.OperationalError, match="buckets"):
            await store.index(REF, known[:-1], revision=0)
            await idle(store)
            await store.index(REF, known[-1:], revision=0)
        await idle(store)
        other.execute("ALTER TABLE lost RENAME TO buckets")
    with suppress(sqlite3.OperationalError):  # a second try may have failed before the table was back
        await store.index(REF, known, revision=0)
    await store.index(REF, known, revision=0)
    await idle(store)
    await agree(store, said, {each.entry: each for each in known})
    await store.close()
