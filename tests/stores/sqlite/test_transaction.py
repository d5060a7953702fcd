"""What one process believes of a session, and another changes."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.conversation.entry import Anchor, Entry, Preamble
from proxy.stores.contract import Appended, Conflict
from proxy.stores.sqlite import SqliteStore
from tests.stores.contract import EXAMPLES
from tests.stores.laws.telling import summary
from tests.stores.making import CHAIN, REF, RULES, Clock, adding, entry, listed, redacted, replay, talk
from tests.stores.model import Model, Step, compare, steps


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[SqliteStore, SqliteStore, Clock]]:
    """Two stores on one file, as two processes would have them."""
    clock = Clock()
    stores = [SqliteStore(str(tmp_path / "remora.db"), synchronous="normal", now=clock) for _ in range(2)]
    for store in stores:
        await store.open()
    yield stores[0], stores[1], clock
    for store in stores:
        await store.close()


Two = tuple[SqliteStore, SqliteStore, Clock]


async def test_turns_may_come_from_either(two: Two) -> None:
    last: Entry | None = None
    for turn in range(12):
        new = entry(last, f"{turn}", anchor=Anchor("k", 0, turn // 3 * 2), preamble=RULES if turn % 5 else None)
        kept = replay(f"{turn}", new)
        append = adding(REF, new, preamble=RULES if turn % 5 else None, replay=kept)
        this, other = (two[0], two[1]) if turn % 2 else (two[1], two[0])
        assert await this.append(append) == Appended()
        assert await this.append(append) == Appended(again=True)
        assert await other.append(append) == Appended(again=True)
        if last:
            assert await other.append(adding(REF, entry(last))) == Conflict(new.id)
        for store in (this, other):
            chain = await store.load(REF, key="", reach=None)
            assert chain is not None
            assert chain.head == new
            assert await store.find_replay(REF, f"{turn}") == kept
            assert await store.find_replay(REF, f"{turn - 1}") is None
        last = new


async def test_a_neighbour_that_knows_better_does_not_hurt_the_batch(two: Two) -> None:
    refs = [REF, *[type(REF)("t", "session", f"{n}") for n in range(5)]]
    heads = [(await talk(two[0], 1, ref))[0] for ref in refs]
    other = entry(heads[0], "from the other process")
    assert await two[1].append(adding(REF, other)) == Appended()
    answers = await asyncio.gather(
        *[two[0].append(adding(ref, entry(head))) for ref, head in zip(refs, heads, strict=True)]
    )
    assert answers == [Conflict(other.id)] + [Appended()] * 5


async def test_what_the_other_erased_is_not_brought_back(two: Two) -> None:
    (first,) = await talk(two[0], 1)
    await two[1].erase(REF)
    assert await two[0].append(adding(REF, entry(first))) == Conflict(None)
    (anew,) = await talk(two[1], 1)
    assert await two[0].append(adding(REF, entry(first))) == Conflict(anew.id)
    two[0].delivered(REF, "k")
    assert [record.entry for record in await listed(two[0].records(REF))] == [anew]


async def test_a_time_that_the_other_set_is_known(two: Two) -> None:
    """A failed exchange leaves the head where it is, but moves the end of the session's time."""
    (first,) = await talk(two[0], 1, ttl_s=60)
    failed = entry(first, state="failed")
    assert await two[1].append(adding(REF, failed, moves=False)) == Appended()
    (second,) = await talk(two[0], 1, after=first, ttl_s=60)
    two[2].seconds += 61
    assert await two[0].load(REF, key="", reach=None) is None
    assert await two[0].append(adding(REF, entry(second))) == Conflict(None)
    assert await two[0].expire(9) == 0, "it was buried by the append"


async def test_a_session_that_expired_meanwhile_is_swept_by_its_last_time(two: Two) -> None:
    (first,) = await talk(two[0], 1, ttl_s=60)
    assert await two[1].append(adding(REF, entry(first, state="failed"), moves=False, ttl_s=None)) == Appended()
    await talk(two[0], 1, after=first, ttl_s=60)
    two[2].seconds += 61
    assert await two[1].expire(9) == 1


async def test_whole_histories_that_the_other_saw_are_known(two: Two) -> None:
    (first,) = await talk(two[0], 1)
    failed = entry(first, state="failed")
    assert await two[1].append(adding(REF, failed, moves=False, whole=True)) == Appended()
    (second,) = await talk(two[0], 1, after=first)
    found = await two[0].find_digests(REF, [first.digest, second.digest])
    assert found == {first.digest: first.id, second.digest: second.id}


async def test_what_the_other_redacted_is_held_no_more(two: Two) -> None:
    said = await talk(two[0], 3)
    for store in two[:2]:
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert list(chain.entries) == said
    stub = redacted(said[1])
    assert await two[1].redact(REF, [stub], preamble=None) is True
    for _ in range(2):
        chain = await two[0].load(REF, key="", reach=None)
        assert chain is not None
        assert (list(chain.entries), chain.revision) == ([said[0], stub.entry, said[2]], 1)
    assert await two[0].keep_summary(REF, summary(said[2]), revision=0) is False
    (on,) = await talk(two[0], 1, after=said[2])
    chain = await two[1].load(REF, key="", reach=None)
    assert chain is not None
    assert list(chain.entries) == [said[0], stub.entry, said[2], on]


async def test_a_preamble_that_the_other_redacted_is_not_taken_for_the_old_one(two: Two) -> None:
    first = entry(None, preamble=RULES)
    await two[0].append(adding(REF, first, preamble=RULES))
    less = Preamble(b"", 0)
    assert await two[1].redact(REF, [], preamble=(RULES.id, less)) is True
    second = entry(first, preamble=RULES)
    assert await two[0].append(adding(REF, second, preamble=RULES)) == Appended()
    for store in two[:2]:
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert chain.preamble == RULES


async def test_what_the_other_pruned_is_not_gone_on_from(two: Two) -> None:
    """Also where the number of the entry that went was given to another."""
    first = entry(None)
    await two[0].append(adding(CHAIN, first, note=b"n"))
    second = entry(first)
    await two[0].append(adding(CHAIN, second, note=b"n"))
    assert await two[1].prune(CHAIN, second.id) is True
    other = entry(first, "other")
    assert await two[1].append(adding(CHAIN, other, note=b"n")) == Appended()
    assert await two[0].append(adding(CHAIN, entry(second))) == Conflict(other.id)
    third = entry(other)
    assert await two[0].append(adding(CHAIN, third, note=b"n")) == Appended()
    for store in two[:2]:
        chain = await store.load(CHAIN, key="", reach=None)
        assert chain is not None
        assert chain.entries == (first, other, third)


class Either:
    """A store that is now the one, now the other."""

    def __init__(self, stores: list[SqliteStore], choices: list[bool]) -> None:
        self._stores = stores
        self._choices = choices
        self._at = count()

    def __getattr__(self, name: str) -> object:
        choice = self._choices[next(self._at) % len(self._choices)]
        return getattr(self._stores[choice], name)


@given(script=steps, choices=st.lists(st.booleans(), min_size=1, max_size=20))
@settings(
    max_examples=EXAMPLES // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_two_answer_as_one(tmp_path_factory: pytest.TempPathFactory, script: list[Step], choices: list[bool]) -> None:
    path = tmp_path_factory.mktemp("two") / "remora.db"

    async def run() -> None:
        clock = Clock()
        stores = [SqliteStore(str(path), synchronous="normal", now=clock) for _ in range(2)]
        for store in stores:
            await store.open()
        try:
            either, model = Either(stores, choices), Model(clock)
            for step in script:
                await step(either, model)  # type: ignore[arg-type]
                for store in stores:
                    store._flush_delivered()
                    await store.ping()
            await compare(either, model)  # type: ignore[arg-type]
        finally:
            for store in stores:
                await store.close()

    asyncio.run(run())
    with closing(sqlite3.connect(path)) as looking:
        assert looking.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        # each row belongs to a ref that is there
        for table in (
            "entries",
            "digests",
            "preambles",
            "replays",
            "notes",
            "summaries",
            "indexed",
            "runs",
            "responses",
        ):
            stray = f"SELECT count(*) FROM {table} WHERE ref NOT IN (SELECT n FROM refs)"
            assert looking.execute(stray).fetchone() == (0,)
        assert looking.execute("SELECT count(*) FROM branches WHERE n NOT IN (SELECT n FROM entries)").fetchone() == (
            0,
        )
        for table in ("replays", "notes"):
            stray = f"SELECT count(*) FROM {table} WHERE n NOT IN (SELECT n FROM entries)"
            assert looking.execute(stray).fetchone() == (0,)
        for stray in (
            "SELECT count(*) FROM labels WHERE n NOT IN (SELECT n FROM refs)",
            "SELECT count(*) FROM digests WHERE n NOT IN (SELECT n FROM entries)",
            "SELECT count(*) FROM branches WHERE parent NOT IN (SELECT n FROM entries)",
            "SELECT count(*) FROM refs WHERE head IS NOT NULL AND head NOT IN (SELECT n FROM entries WHERE branch > 0)",
            "SELECT count(*) FROM refs WHERE preamble IS NOT NULL AND preamble NOT IN (SELECT n FROM preambles)",
        ):
            assert looking.execute(stray).fetchone() == (0,), stray
        plain = "SELECT count(*) FROM replays WHERE NOT sticky AND n NOT IN (SELECT head FROM refs WHERE head > 0)"
        assert looking.execute(plain).fetchone() == (0,)
