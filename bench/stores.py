"""A turn on each store: the proxy's CPU on PostgreSQL and Redis beside SQLite's, young and old sessions, and the usual
way to keep a chat in Redis, which reads and writes all of it each turn."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench import report
from bench.house import FRESH_BELOW, PHASES, POLICY
from bench.job import Job
from bench.machine import Machine, machine_line, versions_line
from bench.measure import FRESH_USES, MOST_S, Bench, Case, Pool, say
from bench.naive import Naive, Turn
from bench.procs import Processes, Server, free_port
from bench.sample import Samples
from bench.seed import Group, seed
from bench.servers import postgres_server, redis_server, remora, settle
from bench.stores_tables import LINES, SETTING, STORES, Found, Scale, render
from bench.workplace import workplace

if TYPE_CHECKING:
    from tests.support.postgres import Server as Postgres
    from tests.support.redis import Server as Redis

WARM = 2
LINE_WORKERS = 2
REDIS_OPTIONS = ("appendonly yes", "appendfsync everysec", "auto-aof-rewrite-percentage 0")

FULL = Scale(
    rounds=7,
    requests={1: 200, 16: 800},
    pools={10: 0, 100: 192, 1000: 48, 10_000: 16},
    line=100,
    naive={10: 200, 100: 100, 1000: 40, 10_000: 10},
    counted=100,
    most_s=420,
)
QUICK = Scale(
    rounds=2,
    requests={1: 40, 16: 160},
    pools={10: 0, 200: 16},
    line=200,
    naive={10: 30, 100: 30, 1000: 10, 10_000: 3},
    counted=60,
    most_s=20,
)


def groups(scale: Scale) -> dict[int, Group]:
    """The sessions of each depth, so deep that its runs pass through that depth midway."""
    uses = scale.rounds * sum(wanted + WARM * at for at, wanted in scale.requests.items())
    found = {}
    for depth, pool in scale.pools.items():
        if depth < FRESH_BELOW:
            sessions = sum(-(-(wanted + WARM * at) // FRESH_USES) + at for at, wanted in scale.requests.items())
            found[depth] = Group(f"d{depth}", scale.rounds * sessions, max(1, depth - 1 - FRESH_USES // 2))
        else:
            before = PHASES // 2 + uses // (2 * pool)
            found[depth] = Group(f"d{depth}", pool, max(1, depth - before))
    return found


def line_group(scale: Scale) -> Group:
    """Sessions of their own for two workers, as deep and as many as those of that depth."""
    return msgspec.structs.replace(groups(scale)[scale.line], prefix="line")


class Kept(msgspec.Struct, frozen=True):
    """A store, the proxies on it, and how its server's round trips are counted (None: there are none)."""

    alone: Server
    in_line: Server | None
    """With two workers; None where that is not measured."""
    trips: Callable[[], int] | None


# further lines of a statement begin with a tab
_STATEMENT = re.compile(rb"^\d[^\n]*? \[\d+\] LOG:  (?:execute|statement)\b", re.MULTILINE)


def statements(log: bytes) -> int:
    """Statements that a log of PostgreSQL with `log_statement = all` tells of; one is one round trip."""
    return len(_STATEMENT.findall(log))


def reads(info: bytes) -> int:
    """How often Redis has read from its clients, from the answer to INFO: where one request comes at a time, its round
    trips, and one or two for each such question."""
    found = re.search(rb"total_reads_processed:(\d+)", info)
    if found is None:
        raise ValueError(f"Redis does not say how often it read: {info[:200]!r}")
    return int(found[1])


def count_statements(server: "Postgres") -> Callable[[], int]:
    """Makes the server write down each statement from the first call on."""
    on = False

    def trips() -> int:
        nonlocal on
        if not on:
            server.sql("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
            while server.sql("SHOW log_statement") != "all":
                time.sleep(0.05)
            on = True
        return statements((server.folder / "log").read_bytes())

    return trips


def trips_of(bench: Bench, case: Case, trips: Callable[[], int], wanted: int) -> float:
    """Round trips to the store for each turn, with one connection."""
    assert case.pool is not None
    # the first makes sure that they are counted at all, on every connection that the proxy holds
    trips()
    names = case.pool.deal(2 * wanted, 1)
    job = Job(
        port=case.server.port, connections=1, requests=wanted, warm=0, sessions=names, uses=case.pool.uses,
        recycle=case.pool.recycle,
    )  # fmt: skip
    bench.load.run(job, case.server)
    before = trips()
    result, _ = bench.load.run(job, case.server)
    return (trips() - before) / max(1, result.requests)


def run(bench: Bench, kept: Mapping[str, Kept], socket: str, scale: Scale) -> Found:
    pools = {store: {d: Pool(g.names, fresh=d < FRESH_BELOW) for d, g in groups(scale).items()} for store in STORES}
    lines = {store: Pool(line_group(scale).names, fresh=False) for store in STORES}
    naive: dict[int, list[Turn]] = {count: [] for count in scale.naive}
    start, done = time.monotonic(), 0
    for round_ in range(scale.rounds):
        began = time.monotonic()
        if round_ >= 3 and (began - start) * (round_ + 1) / round_ > scale.most_s:
            break
        order = [*STORES[round_ % 3 :], *STORES[: round_ % 3]]
        for at, wanted in scale.requests.items():
            cases = [
                Case(f"{store}-{depth}", kept[store].alone, pools[store][depth])
                for depth in scale.depths
                for store in order
            ]
            cases += [Case(f"{s}-line", server, lines[s]) for s in order if (server := kept[s].in_line)]
            for case in cases:
                job = Job(port=case.server.port, connections=at, requests=wanted, warm=WARM, most_s=MOST_S)
                bench.run(case, "plain", round_, job)
        with Naive(socket) as client:
            for count, turns in scale.naive.items():
                client.fill(count)
                naive[count] += [client.turn() for _ in range(turns)]
        done += 1
        say(f"stores, round {done} of {scale.rounds}: {time.monotonic() - began:.0f} s")
    trips: dict[str, float] = {}
    for store, each in kept.items():
        counted = [Case(f"{store}-{scale.line}", each.alone, pools[store][scale.line])]
        if each.in_line:
            counted.append(Case(f"{store}-line", each.in_line, lines[store]))
        trips |= {case.name: trips_of(bench, case, each.trips, scale.counted) for case in counted if each.trips}
    say("round trips counted")
    return Found(samples=Samples(bench.samples), rounds=done, trips=trips, naive=naive)


def start(
    processes: Processes, bench: Bench, folder: Path, postgres: "Postgres", redis: "Redis", scale: Scale
) -> dict[str, Kept]:
    """Fills the stores, and starts two proxies on each: alone, and in line."""
    policies = folder / "policies"
    policies.mkdir()
    (policies / "default.toml").write_text(POLICY)
    database = f"sqlite:///{folder / 'sessions.db'}"
    urls = {"sqlite": database, "postgres": postgres.url(), "redis": redis.url}
    trips = {"postgres": count_statements(postgres), "redis": lambda: reads(redis.call("INFO", "stats"))}
    stub = processes.module("stub", "bench.stub", free_port())
    wanted, line = groups(scale), line_group(scale)
    for store, url in urls.items():
        began = time.monotonic()
        fast = f"{url}?synchronous=normal" if store == "sqlite" else url
        asyncio.run(seed(fast, [*([line] if store in LINES else []), *wanted.values()]))
        say(f"{report.STORES[store]} filled: {time.monotonic() - began:.0f} s")

    def serve(store: str, workers: int) -> Server:
        return remora(processes, f"{store}-{workers}", stub.port, urls[store], policies, workers=workers)

    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        alone = dict(zip(STORES, pool.map(lambda store: serve(store, 1), STORES), strict=True))
        in_line = dict(zip(LINES, pool.map(lambda store: serve(store, LINE_WORKERS), LINES), strict=True))
    for store in STORES:
        settle(bench.load, alone[store], list(wanted.values()))
        if store in LINES:
            settle(bench.load, in_line[store], [line])
    say(f"proxies up and warm: {time.monotonic() - began:.0f} s")
    return {store: Kept(alone[store], in_line.get(store), trips.get(store)) for store in STORES}


def measure_stores(*, quick: bool) -> str:
    """The section of RESULTS.md. Raises BenchError where a server is not installed."""
    scale = QUICK if quick else FULL
    machine = Machine()
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(postgres_server())
        redis = stack.enter_context(redis_server(*REDIS_OPTIONS))
        folder, processes = stack.enter_context(workplace())
        where = machine_line(folder)
        bench = Bench(processes.load())
        kept = start(processes, bench, folder, postgres, redis, scale)
        found = run(bench, kept, redis.socket, scale)
        seeded = [line_group(scale), *groups(scale).values()]
        setting = SETTING.format(
            now=datetime.now(UTC),
            versions=versions_line(),
            postgres=postgres.sql("SHOW server_version").split(" ")[0],
            redis=version_of(redis.call("INFO", "server")),
            where=f"{where}; during the run: {machine.line()}",
            seeded=f"{sum(g.count for g in seeded):,} sessions, {sum(g.count * g.turns for g in seeded):,} turns",
            rounds=found.rounds,
            workers=LINE_WORKERS,
            line=scale.line,
        )
    return render(found, scale, setting)


def version_of(info: bytes) -> str:
    """From the answer to INFO."""
    found = re.search(rb"redis_version:(\S+)", info)
    return found[1].decode() if found else "?"
