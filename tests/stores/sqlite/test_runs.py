"""Runs in a file: small writes, seen by every process, and true after one dies."""

import asyncio
from pathlib import Path

from proxy.conversation.entry import new_id
from proxy.stores.contract import End, Ref, tag
from proxy.stores.sqlite import SqliteStore, runs
from proxy.stores.sqlite.removal import LOG
from proxy.stores.sqlite.schema import connect
from tests.stores.making import CHAIN, Clock, talk
from tests.stores.sqlite.test_store import child, healthy, lines
from tests.stores.sqlite.test_write import writer_of


async def test_a_heartbeat_is_one_small_write(tmp_path: Path) -> None:
    log = tmp_path / "remora.db-wal"
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    id = new_id()
    await store.begin_run(CHAIN, id, owner="me", state=b"s" * 200_000, ttl_s=None)
    await store.log_run(CHAIN, id, owner="me", events=[b"x" * 1000])
    size = log.stat().st_size
    statements: list[str] = []
    db = writer_of(store)._link.get()
    before = db.total_changes
    db.set_trace_callback(statements.append)
    await store.log_run(CHAIN, id, owner="me")
    db.set_trace_callback(None)
    assert [statement.split()[0] for statement in statements] == ["BEGIN", "SELECT", "SELECT", "UPDATE", "COMMIT"]
    assert db.total_changes == before + 1
    assert log.stat().st_size - size <= 3 * 4200, "pages of the log"
    await store.close()


async def test_what_comes_together_is_one_row(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    store = SqliteStore(path)
    await store.open()
    ids = [new_id() for _ in range(3)]
    for id in ids:
        await store.begin_run(CHAIN, id, owner="me", state=b"", ttl_s=None)
        for at in range(4):
            await store.log_run(CHAIN, id, owner="me", events=[b"%d" % n for n in range(at * 50, at * 50 + 50)])
    assert list(await store.run_events(CHAIN, ids[1], 97, 5)) == [b"98", b"99", b"100", b"101", b"102"]
    await store.close()
    db = connect(path)
    places = [(n >> LOG, n & (1 << LOG) - 1) for (n,) in db.execute("SELECT n FROM events")]
    assert places == [(run, at * 50) for run in (1, 2, 3) for at in range(4)]
    db.close()


async def test_runs_that_nobody_makes_are_looked_for_among_those_that_go_on(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    store = SqliteStore(path)
    await store.open()
    await store.close()
    db = connect(path)
    plan = [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + runs._STALE, (1, 1, 9))]
    assert plan[0] == "SCAN s USING INDEX responses_going"
    db.close()


async def test_another_process_reads_and_cancels(tmp_path: Path) -> None:
    clock = Clock()
    mine, other = (SqliteStore(str(tmp_path / "remora.db"), now=clock) for _ in range(2))
    await mine.open()
    await other.open()
    id = new_id()
    await mine.begin_run(CHAIN, id, owner="mine", state=b"s", ttl_s=None)
    await mine.log_run(CHAIN, id, owner="mine", events=[b"a", b"b"])
    assert list(await other.run_events(CHAIN, id, 0, 9)) == [b"b"]
    assert await other.begin_run(CHAIN, id, owner="other", state=b"", ttl_s=None) is False
    assert await other.cancel_run(CHAIN, id) is not None
    told = await mine.log_run(CHAIN, id, owner="mine", events=[b"c"])
    assert told is not None
    assert told.cancelled
    clock.seconds += 60
    (stale,) = await other.stale_runs(60_000, 9)
    assert stale == await other.find_run(CHAIN.tenant, tag(CHAIN), id)
    assert await other.log_run(CHAIN, id, owner=stale.owner, end=End(9, keep=True)) is not None
    assert await mine.log_run(CHAIN, id, owner="mine", events=[b"late"]) is None
    assert list(await mine.run_events(CHAIN, id, -1, 9)) == [b"a", b"b", b"c"]
    await mine.close()
    await other.close()


def test_killed_in_the_middle_every_event_that_was_acknowledged_is_there_once(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    seen: dict[str, int] = {}
    with child("stream", path, "5") as process:
        for number, line in enumerate(lines(process)):
            id, events = line.split()
            seen[id] = int(events)
            if number == 150:
                process.kill()
    assert len(seen) == 5
    assert healthy(path)

    async def look() -> None:
        store = SqliteStore(path)
        await store.open()
        stale = await store.stale_runs(0, 99)
        assert {run.entry for run in stale} == set(seen)
        for run in stale:
            assert run.events >= seen[run.entry]
            events = list(await store.run_events(run.ref, run.entry, -1, 10_000))
            assert events == [b"%d" % n for n in range(run.events)]
            assert run.state == b"%d" % run.events
            assert await store.log_run(run.ref, run.entry, owner=run.owner, end=End(0, keep=True))
        assert list(await store.stale_runs(0, 99)) == []
        await talk(store, 1, Ref("t", "chain", "after"))
        await store.close()

    asyncio.run(look())
