"""A turn on each store: the proxy's CPU on PostgreSQL and Redis beside SQLite's, young and old sessions, and the usual
way to keep a chat in Redis, which reads and writes all of it each turn."""

import asyncio
import contextlib
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
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
from bench.sample import Samples, Target, rate
from bench.seed import Group, seed
from bench.servers import postgres_server, redis_server, remora, settle
from bench.workplace import workplace

if TYPE_CHECKING:
    from tests.support.postgres import Server as Postgres
    from tests.support.redis import Server as Redis

STORES = ("sqlite", "postgres", "redis")
MOST, FLAT = 2.0, 1.1
"""What a turn may cost beside SQLite's, and an old session's turn beside a young one's."""
WARM = 2
LINE_WORKERS = 2
REDIS_OPTIONS = ("appendonly yes", "appendfsync everysec", "auto-aof-rewrite-percentage 0")

SETTING = """\
{now:%Y-%m-%d %H:%M} UTC. {versions}, PostgreSQL {postgres}, Redis {redis}.
{where}.

One proxy process on each store ({flags}), plain replies; CPU is the proxy's own, not the store's server's, and with
SQLite it holds the database's work too. Stores: SQLite with its defaults; PostgreSQL with its own (every commit on the
disk); Redis with `appendfsync everysec`; both over a unix socket. Window 4,000 tokens, `trim_to` 0.5: at 10 turns it
is not full, later it is. A request is one new message of about 31 tokens, a reply has about 66. Each store holds
{seeded}. {rounds} rounds, the stores in turn. A session is used up to 22 times in a row (of 10 turns: 8 times, then
never again), and is mostly still held by the proxy from the time before.
Rows *in line*: the same with `--workers {workers}`, at {line:,} turns: each turn then stands in the store's line for
its session, and a session goes from one worker to the other when it goes to another connection."""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    rounds: int
    requests: Mapping[int, int]
    """Connections -> requests of one run."""
    pools: Mapping[int, int]
    """Depth -> sessions; those below FRESH_BELOW are worked out."""
    line: int
    """The depth at which two workers are measured."""
    naive: Mapping[int, int]
    """Messages -> turns a round."""
    counted: int
    """Requests whose round trips are counted."""
    most_s: float

    @property
    def depths(self) -> list[int]:
        return sorted(self.pools)


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
    counted=20,
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
    in_line: Server
    trips: Callable[[], int] | None


_STATEMENT = re.compile(rb"LOG:  (?:execute|statement)\b")


def statements(log: bytes) -> int:
    """Statements that a log of PostgreSQL with `log_statement = all` tells of; one is one round trip."""
    return len(_STATEMENT.findall(log))


def reads(info: bytes) -> int:
    """How often Redis has read from its clients, from the answer to INFO; with one request at a time, its round trips
    (the question itself is one more)."""
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


def trips_of(bench: Bench, case: Case, kept: Kept, wanted: int) -> float:
    """Round trips to the store for each turn, with one connection."""
    assert kept.trips is not None and case.pool is not None
    # the first makes sure that they are counted at all, on every connection that the proxy holds
    kept.trips()
    names = case.pool.deal(2 * wanted, 1)
    job = Job(
        port=case.server.port, connections=1, requests=wanted, warm=0, sessions=names, uses=case.pool.uses,
        recycle=case.pool.recycle,
    )  # fmt: skip
    bench.load.run(job, case.server)
    before = kept.trips()
    result, _ = bench.load.run(job, case.server)
    return (kept.trips() - before) / max(1, result.requests)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a measurement showed."""

    samples: Samples
    rounds: int
    trips: Mapping[str, float]
    """Case -> round trips a turn."""
    naive: Mapping[int, Sequence[Turn]]


def targets(samples: Samples, scale: Scale) -> list[Target]:
    """PostgreSQL and Redis beside SQLite; old sessions beside young ones, on each store."""
    found = []
    for store in STORES[1:]:
        for at in scale.requests:
            ratios = [
                samples.ratio(f"{store}-{d}", f"sqlite-{d}", "plain", at, lambda s: s.cpu_us) for d in scale.depths
            ]
            known = [ratio for ratio in ratios if ratio == ratio]
            name = f"{report.STORES[store]} to SQLite, CPU, at {at}"
            found.append(Target(f"{name}, worst depth", MOST, max(known, default=float("nan"))))
            line = samples.ratio(f"{store}-line", f"sqlite-{scale.line}", "plain", at, lambda s: s.cpu_us)
            found.append(Target(f"{name}, in line (SQLite alone)", MOST, line))
    old = scale.depths[-1]
    for store in STORES:
        for young in scale.depths[: 2 if len(scale.depths) > 2 else 1]:
            for at in scale.requests:
                ratio = samples.ratio(f"{store}-{old}", f"{store}-{young}", "plain", at, lambda s: s.cpu_us)
                found.append(Target(f"{report.STORES[store]}, {old:,} turns to {young:,}, CPU, at {at}", FLAT, ratio))
    return found


def turns_table(found: Found, scale: Scale) -> str:
    head = ["", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs a request", "× SQLite", "round trips a turn"]
    rows = []
    for at in scale.requests:
        for depth in [*scale.depths, None]:
            for store in STORES:
                case = f"{store}-{depth or 'line'}"
                base = f"sqlite-{depth or scale.line}"
                rows.append(
                    [
                        report.label(case),
                        str(at),
                        report.number(found.samples.median(case, "plain", at, rate)),
                        report.number(found.samples.median(case, "plain", at, lambda s: s.p50_ms), 2),
                        report.number(found.samples.median(case, "plain", at, lambda s: s.p99_ms), 2),
                        report.number(found.samples.median(case, "plain", at, lambda s: s.cpu_us)),
                        report.number(found.samples.ratio(case, base, "plain", at, lambda s: s.cpu_us), 2),
                        report.number(found.trips.get(case, float("nan")) if at == 1 else float("nan"), 1),
                    ]
                )
    return report.table(head, rows)


def naive_table(found: Found, scale: Scale) -> str:
    """Beside it, Remora's own turns of about so many messages."""
    head = ["messages", "CPU µs a turn", "ms a turn", "KB moved a turn", "× 10 messages, CPU", "Remora on Redis, CPU µs", "its p50 ms"]  # fmt: skip
    first = statistics.median(turn.cpu_us for turn in found.naive[min(found.naive)])
    rows = []
    for count, turns in sorted(found.naive.items()):
        cpu_us = statistics.median(turn.cpu_us for turn in turns)
        case = f"redis-{count}"
        rows.append(
            [
                f"{count:,}",
                report.number(cpu_us),
                report.number(statistics.median(turn.took_ms for turn in turns), 2),
                report.number(statistics.median(turn.moved_bytes for turn in turns) / 1000),
                report.number(cpu_us / first, 1),
                report.number(found.samples.median(case, "plain", 1, lambda s: s.cpu_us)),
                report.number(found.samples.median(case, "plain", 1, lambda s: s.p50_ms), 2),
            ]
        )
    return report.table(head, rows)


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
            for depth in [*scale.depths, None]:
                for store in order:
                    if depth is None:
                        case = Case(f"{store}-line", kept[store].in_line, lines[store])
                    else:
                        case = Case(f"{store}-{depth}", kept[store].alone, pools[store][depth])
                    job = Job(port=case.server.port, connections=at, requests=wanted, warm=WARM, most_s=MOST_S)
                    bench.run(case, "plain", round_, job)
        with Naive(socket) as client:
            for count, turns in scale.naive.items():
                client.fill(count)
                naive[count] += [client.turn() for _ in range(turns)]
        done += 1
        say(f"stores, round {done} of {scale.rounds}: {time.monotonic() - began:.0f} s")
    trips = {}
    for store in STORES[1:]:
        for name, server, pool in (
            (f"{store}-{scale.line}", kept[store].alone, pools[store][scale.line]),
            (f"{store}-line", kept[store].in_line, lines[store]),
        ):
            trips[name] = trips_of(bench, Case(name, server, pool), kept[store], scale.counted)
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
    trips = {"postgres": count_statements(postgres), "redis": lambda: reads(redis.call("INFO", "stats")) - 1}
    stub = processes.module("stub", "bench.stub", free_port())
    wanted, line = groups(scale), line_group(scale)
    kept = {}
    for store, url in urls.items():
        began = time.monotonic()
        fast = f"{url}?synchronous=normal" if store == "sqlite" else url
        asyncio.run(seed(fast, [line, *wanted.values()]))
        alone = remora(processes, f"{store}-alone", stub.port, url, policies, workers=1)
        in_line = remora(processes, f"{store}-line", stub.port, url, policies, workers=LINE_WORKERS)
        settle(bench.load, alone, wanted)
        settle(bench.load, in_line, [line])
        kept[store] = Kept(alone, in_line, trips.get(store))
        say(f"{report.STORES[store]} filled and warmed up: {time.monotonic() - began:.0f} s")
    return kept


def render(found: Found, scale: Scale, setting: str) -> str:
    cases = [f"{store}-{depth}" for depth in scale.depths for store in STORES]
    faults = found.samples.faults()
    parts = [
        "## Stores",
        setting,
        report.target_table(targets(found.samples, scale)),
        "### A turn on each store",
        turns_table(found, scale),
        report.context_line(found.samples, cases),
        "### A chat as one JSON value in Redis",
        "The usual way, by itself: `GET`, parse (orjson), append two messages, serialise, `SET`; hiredis over the same "
        "socket. No HTTP and no request to the model is in it, which would carry all messages each turn; Remora's "
        "columns, of as many *turns*, hold both, and one connection.",
        naive_table(found, scale),
        "Runs with errors:\n\n" + "\n".join(f"- {line}" for line in faults) if faults else "No run had an error.",
    ]
    return "\n\n".join(part for part in parts if part)


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
            flags="`remora serve` with nothing but its addresses",
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
