"""A store that goes away, comes back, refuses to write, or stands still: what clients and probes are told.

It is used again without a restart.
"""

import asyncio
import resource
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.test_kill import start
from tests.support import postgres, redis
from tests.support.app import Answer, Remora, remora, said, sent
from tests.support.upstream import ScriptedUpstream, model

GONE_S = 5.0
"""A server that is gone is told at once; so long at most."""
HANGS_S = 13.0
"""One that stands still: as long as connecting (3 s), a place among connections (5 s) or an answer (10 s) may take."""
READY_S = 3.0
BACK_S = 10.0
STATELESS = 'policy="stateless", stateless'


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(model()) as server:
        yield server


@pytest.fixture(scope="module")
def pg() -> Iterator[postgres.Server]:
    with postgres.serving("autovacuum = off") as server:
        yield server


@pytest.fixture(scope="module")
def cache() -> Iterator[redis.Server]:
    with contextmanager(redis.serve)("appendonly yes", "appendfsync always") as server:
        yield server


@asynccontextmanager
async def served(upstream: ScriptedUpstream, folder: Path, store: str) -> AsyncIterator[Remora]:
    """With one session of one turn, and a policy that would rather forget than refuse."""
    (folder / "policies").mkdir()
    (folder / "policies" / "stateless.toml").write_text('[session]\non_store_failure = "stateless"\n')
    async with remora(upstream.url, folder, store=store, watched=False) as proxy:
        assert (await proxy.chat("s", "first")).status == 200
        assert await ready(proxy) == (200, "ready")
        yield proxy


async def ready(proxy: Remora) -> tuple[int, str]:
    """Answers in time, whatever the store does."""
    async with asyncio.timeout(READY_S), proxy.http.get(proxy.admin + "/readyz") as reply:
        return reply.status, (await reply.json())["status"]


async def timed(asking: Awaitable[Answer]) -> tuple[Answer, float]:
    began = time.monotonic()
    return await asking, time.monotonic() - began


async def refused(
    proxy: Remora, upstream: ScriptedUpstream, name: str, within_s: float, *, writes: bool = False
) -> None:
    """Everything is asked at once, known sessions and new ones, plain and streamed, and is told no in time.

    `writes`: reading is possible, so the model may be asked before it is known that its reply cannot be kept."""
    asked = len(upstream.requests)
    # a client that gives no session needs no store
    assert (await proxy.chat(None, "x")).status == 200
    # each on a session of its own: requests of one wait for one another
    asking = [proxy.chat(session, "lost", stream=session == "b") for session in ("s", "a", "b")]
    stateless = [proxy.chat(session, "x", headers={"X-Session-Policy": "stateless"}) for session in ("c", "d")]
    told = await asyncio.gather(ready(proxy), *(timed(each) for each in (*asking, *stateless)), return_exceptions=True)
    probe, answers = told[0], told[1:]
    assert isinstance(probe, tuple), probe
    assert probe[0] == 503, probe
    assert probe[1]
    slowest = 0.0
    for at, each in enumerate(answers):
        if isinstance(each, aiohttp.ClientPayloadError):
            # a stream that had begun: it breaks before its end
            assert writes
            continue
        assert isinstance(each, tuple), each
        answer, took_s = each
        assert isinstance(answer, Answer)
        assert isinstance(took_s, float)
        slowest = max(slowest, took_s)
        if at >= len(asking) and (answer.status == 200 or not writes):
            assert (answer.status, answer.headers["X-Session-Context"]) == (200, STATELESS)
            continue
        assert (answer.status, answer.code) == (503, "store_unavailable"), answer
        assert answer.json()["error"]["message"].endswith(".")
        if len(upstream.requests) > asked + 1 + len(stateless) and not writes:
            raise AssertionError("the model was asked for a reply that cannot be kept")
    assert slowest < within_s
    print(f"{name}: 503 within {slowest:.2f} s; /readyz: {probe[1]}")  # noqa: T201


async def back(proxy: Remora, upstream: ScriptedUpstream, name: str) -> None:
    """It is used again, holds what it held, and nothing of what was refused."""
    began = time.monotonic()
    async with asyncio.timeout(BACK_S):
        while (await ready(proxy))[0] != 200:  # noqa: ASYNC110 - it tells nobody when it is back
            await asyncio.sleep(0.02)
        while (answer := await proxy.chat("s", "second")).status != 200:
            assert answer.code == "store_unavailable"
            await asyncio.sleep(0.02)
    assert sent(upstream.requests[-1]) == [("user", "first"), ("assistant", "reply 1"), ("user", "second")]
    print(f"{name}: back after {time.monotonic() - began:.2f} s")  # noqa: T201


async def test_postgres_that_is_killed_and_gone_for_a_while(
    pg: postgres.Server, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with served(upstream, tmp_path, pg.url(schema="gone")) as proxy:
        pg.kill()
        try:
            await refused(proxy, upstream, "PostgreSQL gone", GONE_S)
            # a failover takes a while, and whoever comes meanwhile is told at once
            await asyncio.sleep(2)
            await refused(proxy, upstream, "PostgreSQL gone for longer", GONE_S)
        finally:
            await asyncio.to_thread(pg.start)
        await back(proxy, upstream, "PostgreSQL")


async def test_postgres_whose_connections_are_cut(
    pg: postgres.Server, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A restart of a connection pooler: at most what is under way is told no."""
    async with served(upstream, tmp_path, pg.url(schema="cut")) as proxy:
        for _ in range(3):
            pg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'remora'")
            answers = [await proxy.chat("other", "x") for _ in range(3)]
            assert answers[-1].status == 200
            assert all(each.status == 200 or each.code == "store_unavailable" for each in answers)
        await back(proxy, upstream, "PostgreSQL, connections cut")


async def test_postgres_that_is_read_only(pg: postgres.Server, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with served(upstream, tmp_path, pg.url(schema="only")) as proxy:
        pg.sql("ALTER DATABASE postgres SET default_transaction_read_only = on")
        pg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'remora'")
        try:
            await refused(proxy, upstream, "PostgreSQL read-only", GONE_S, writes=True)
        finally:
            pg.sql(
                "SET default_transaction_read_only = off",
                "ALTER DATABASE postgres RESET default_transaction_read_only",
            )
        await back(proxy, upstream, "PostgreSQL read-only")


async def test_postgres_that_stands_still(pg: postgres.Server, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with served(upstream, tmp_path, pg.url(schema="still")) as proxy:
        pg.signal(signal.SIGSTOP)
        try:
            await refused(proxy, upstream, "PostgreSQL still", HANGS_S)
        finally:
            pg.signal(signal.SIGCONT)
        await back(proxy, upstream, "PostgreSQL still")


async def test_redis_that_is_killed_and_gone_for_a_while(
    cache: redis.Server, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with served(upstream, tmp_path, f"{cache.url}?prefix=gone") as proxy:
        cache.kill()
        try:
            await refused(proxy, upstream, "Redis gone", GONE_S)
            await asyncio.sleep(2)
            await refused(proxy, upstream, "Redis gone for longer", GONE_S)
        finally:
            # not in a thread: the server would be killed with it
            cache.start()
        await back(proxy, upstream, "Redis")


@pytest.mark.parametrize(
    ("name", "value", "normal"),
    [("min-replicas-to-write", "1", "0"), ("maxmemory", "1", "0")],
    ids=["replicas", "full"],
)
async def test_redis_that_takes_no_writes(
    cache: redis.Server, upstream: ScriptedUpstream, tmp_path: Path, name: str, value: str, normal: str
) -> None:
    async with served(upstream, tmp_path, f"{cache.url}?prefix={name}") as proxy:
        assert cache.call("CONFIG", "SET", name, value) == b"+OK\r\n"
        try:
            await refused(proxy, upstream, f"Redis, {name}", GONE_S, writes=True)
        finally:
            assert cache.call("CONFIG", "SET", name, normal) == b"+OK\r\n"
        await back(proxy, upstream, f"Redis, {name}")


async def test_redis_that_stands_still(cache: redis.Server, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with served(upstream, tmp_path, f"{cache.url}?prefix=still&timeout=1") as proxy:
        cache.pause()
        try:
            await refused(proxy, upstream, "Redis still", 2 + GONE_S)
        finally:
            cache.resume()
        await back(proxy, upstream, "Redis still")


async def test_a_full_disk_under_sqlite(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """The process may make no file longer than the longest is now; afterwards it may again."""
    process, url = await start(upstream.url, tmp_path)
    body = {"model": "m", "messages": [said("user", "x" * 2000)]}
    headers = {"X-Session-Id": "s"}
    async with aiohttp.ClientSession() as http:

        async def until(true: Callable[[int, str], bool]) -> int:
            """How many turns went well before."""
            for count in range(400):
                async with http.post(f"{url}/v1/chat/completions", json=body, headers=headers) as reply:
                    if true(reply.status, reply.headers.get("X-Remora-Error", "")):
                        return count
                    assert reply.status in (200, 503)
            raise AssertionError

        await until(lambda status, _: status == 200)
        longest = max(each.stat().st_size for each in list(tmp_path.glob("remora.db*")))  # noqa: ASYNC240 - small
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (longest + 4096, hard))
        began = time.monotonic()
        count = 1 + await until(lambda status, code: (status, code) == (503, "store_unavailable"))
        print(f"SQLite full: 503 after {count} turns, {time.monotonic() - began:.2f} s")  # noqa: T201
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        await until(lambda status, _: status == 200)
        kept = upstream.requests[-1].json()["messages"]
        assert [message["role"] for message in kept[:-1]] == ["user", "assistant"] * count
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


async def test_a_sqlite_file_that_another_program_locks(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """It is waited for, and nobody is told."""

    async with served(upstream, tmp_path, f"sqlite:///{tmp_path / 'remora.db'}") as proxy:
        other = sqlite3.connect(tmp_path / "remora.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asking = asyncio.create_task(proxy.chat("s", "second"))
        await upstream.until(lambda u: len(u.requests) == 2)
        done, _ = await asyncio.wait({asking}, timeout=0.5)
        assert not done
        other.execute("ROLLBACK")
        other.close()
        assert (await asking).status == 200
