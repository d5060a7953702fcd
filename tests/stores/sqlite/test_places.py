"""Lines in a file that several processes share."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from proxy.errors import StoreUnavailable
from proxy.stores.contract import Appended, Conflict, Place, Ref
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite import waiting as waiting_module
from tests.stores.laws.lining import EXAMPLES, FIRST, SHORT, Step, crowd, in_line, line_up, play, settled, soon, steps
from tests.stores.making import REF, Clock, adding, entry, talk
from tests.stores.sqlite.test_store import child, healthy, lines
from tests.stores.sqlite.test_write import writer_of

Two = tuple[SqliteStore, SqliteStore, Clock, str]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    """Two stores on one file, as two processes would have them."""
    clock, path = Clock(), str(tmp_path / "remora.db")
    one, other = (SqliteStore(path, now=clock) for _ in range(2))
    await one.open()
    await other.open()
    yield one, other, clock, path
    await one.close()
    await other.close()


def rows(path: str) -> int:
    with closing(sqlite3.connect(path)) as looking:
        (count,) = looking.execute("SELECT count(*) FROM places").fetchone()
        return int(count)


@pytest.mark.parametrize("seed", range(2))
async def test_everybody_gets_a_turn_alone_over_two_stores(two: Two, seed: int) -> None:
    await crowd(two[:2], two[2], 40, seed)
    two[0].step_out(REF, "last")
    two[1].step_out(REF, "last")
    await two[0].ping()
    await two[1].ping()
    assert rows(two[3]) == 0


@given(script=steps)
@settings(
    max_examples=EXAMPLES // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_two_answer_as_one(tmp_path_factory: pytest.TempPathFactory, script: list[Step]) -> None:
    path = str(tmp_path_factory.mktemp("lines") / "remora.db")

    async def run() -> None:
        clock = Clock()
        both = [SqliteStore(path, synchronous="normal", now=clock) for _ in range(2)]
        for store in both:
            await store.open()
        try:
            await play(both, clock, script)
        finally:
            for store in both:
                await store.close()

    asyncio.run(run())


async def test_those_who_wait_in_another_process_are_told(two: Two) -> None:
    """By stepping out, by an append, and by not coming again."""
    one, other, clock, _ = two
    first = entry(None)
    for n in range(3):
        assert await line_up(one, "a", keep_ms=SHORT if n == 2 else 60_000) == FIRST
        assert await line_up(other, "b") == Place(1, kept=True)
        waiting = asyncio.ensure_future(other.moved(REF, 30))
        await asyncio.sleep(0.02)
        if n == 0:
            one.step_out(REF, "a")
        elif n == 1:
            assert await one.append(adding(REF, first, holder="a")) == Appended()
        else:
            clock.seconds += SHORT / 1000
        began = time.monotonic()
        await soon(waiting)
        assert time.monotonic() - began < 1.5
        assert await line_up(other, "b") == FIRST
        other.step_out(REF, "b")
        await settled(other)
        await other.ping()


async def test_those_who_wait_are_told_at_once_in_one_process(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a look at the file: by stepping out, by an append, and by closing."""
    monkeypatch.setattr(waiting_module, "FIRST_S", 30)
    await in_line(two[0], "a", "b")
    last = None
    for turn in range(20):
        waiting = asyncio.ensure_future(two[0].moved(REF, 30))
        await asyncio.sleep(0)
        if turn % 2:
            two[0].step_out(REF, "a")
        else:
            last = entry(last)
            assert await two[0].append(adding(REF, last, holder="a")) == Appended()
        await soon(waiting)
        await in_line(two[0], "b", "a")
        two[0].step_out(REF, "b")
        await in_line(two[0], "a", "b")
    waiting = asyncio.ensure_future(two[0].moved(REF, 30))
    await asyncio.sleep(0)
    await two[0].close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await soon(waiting)


async def test_no_place_is_left_behind(two: Two) -> None:
    one, other, clock, path = two
    refs = [Ref("tenant", "session", f"{n}") for n in range(30)]
    for ref in refs:
        await line_up(one, "a", ref, keep_ms=SHORT)
        await line_up(other, "b", ref, keep_ms=SHORT)
    assert rows(path) == 60
    clock.seconds += SHORT / 1000
    # by the next that uses the line
    await line_up(other, "c", refs[0])
    assert rows(path) == 59
    other.step_out(refs[0], "c")
    assert await one.append(adding(refs[1], entry(None), holder="a")) == Appended()
    await other.ping()
    assert rows(path) == 57
    # by the sweep
    assert await other.expire(5) == 0
    assert rows(path) == 0
    assert one._waiting._waits == other._waiting._waits == {}


async def test_an_append_that_names_no_holder_does_not_look_at_lines(two: Two) -> None:
    store = two[0]
    said = await talk(store, 2)
    db = writer_of(store)._link.get()
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    (last,) = await talk(store, 1, after=said[-1])
    assert len(statements) == 5, statements
    assert "places" not in "".join(statements)
    statements.clear()
    assert await store.append(adding(REF, entry(last), holder="a")) == Appended()
    assert "places" in "".join(statements)
    db.set_trace_callback(None)


async def test_a_place_does_not_wait_for_the_disk(two: Two) -> None:
    """But what comes after it does, and what comes with it."""
    store = two[0]
    level = "PRAGMA synchronous"
    seen: list[tuple[str, int]] = []
    link = writer_of(store)._link

    def commit(sql: str) -> None:
        if sql == "COMMIT":
            seen.append((link._level, link.get().in_transaction))

    link.get().set_trace_callback(commit)
    await line_up(store, "a")
    store.step_out(REF, "b")
    await line_up(store, "a")
    await store.append(adding(REF, entry(None), holder="a"))
    await line_up(store, "a")
    assert [each for each, _ in seen] == ["normal", "normal", "full", "normal"]
    await asyncio.gather(line_up(store, "a"), store.ping(), line_up(store, "b"))
    assert seen[-1][0] == "full"
    link.get().set_trace_callback(None)
    assert link.get().execute(level).fetchone() == (2,)


async def test_closing_writes_that_one_stepped_out(two: Two) -> None:
    await in_line(two[0], "a", "b")
    two[0].step_out(REF, "a")
    await two[0].close()
    two[0].step_out(REF, "b")
    assert await line_up(two[1], "b") == FIRST
    assert rows(two[3]) == 1
    with pytest.raises(StoreUnavailable):
        await two[0].moved(REF, 1)


async def test_a_neighbour_that_was_overtaken_does_not_hurt_the_batch(two: Two) -> None:
    """Nor does one that knows of no turn that another process made."""
    refs = [Ref("t", "session", f"{n}") for n in range(5)]
    heads = [(await talk(two[0], 1, ref))[0] for ref in refs]
    for ref in refs:
        await in_line(two[0], "a", "b", ref=ref)
    (newer,) = await talk(two[1], 1, refs[0], after=heads[0])
    two[1].step_out(refs[1], "a")
    await two[1].ping()
    answers = await asyncio.gather(
        *[two[0].append(adding(ref, entry(head), holder="a")) for ref, head in zip(refs, heads, strict=True)]
    )
    assert answers == [Conflict(newer.id), Conflict(heads[1].id), *[Appended()] * 3]
    await in_line(two[1], "a", "b", ref=refs[0])
    await in_line(two[1], "b", "a", ref=refs[1])
    for ref in refs[2:]:
        await in_line(two[1], "b", ref=ref)


async def test_a_file_that_fails_is_told_to_those_who_wait(two: Two) -> None:
    await in_line(two[0], "a", "b")
    waiting = asyncio.ensure_future(two[0].moved(REF, 30))
    await asyncio.sleep(0.01)
    for name in Path(two[3]).parent.iterdir():
        name.rename(f"{name}.away")
    opened = two[0]._opened
    assert opened
    opened[2]._serve.__self__._link.stale = True  # type: ignore[attr-defined]
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        await soon(waiting)
    for name in Path(two[3]).parent.iterdir():
        name.rename(str(name).removesuffix(".away"))
    two[0].step_out(REF, "a")
    assert await line_up(two[0], "b") == FIRST


def test_processes_take_turns(tmp_path: Path) -> None:
    """Each turn is made from the one before, and none is in vain."""
    path = str(tmp_path / "remora.db")
    processes = [child("visitor", path, f"{n}", "15") for n in range(3)]
    said = [process.communicate(timeout=50) for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, said
    assert [error for _, error in said] == [""] * 3
    assert healthy(path)
    assert rows(path) == 0


def test_who_died_in_the_line_is_passed_over(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")

    async def run(pid_kept: float) -> None:
        store = SqliteStore(path)
        await store.open()
        assert (await line_up(store, "me")).ahead == 1
        async with asyncio.timeout(20):
            while (await line_up(store, "me")).ahead:
                await store.moved(REF, 1)
        assert time.time() >= pid_kept
        await store.close()

    with child("dies_in_line", path) as process:
        kept = float(next(lines(process)))
        process.kill()
        asyncio.run(run(kept))
