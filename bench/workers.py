"""Two workers beside one on a SQLite file: CPU of all of their processes for a request, and requests a second."""

import asyncio
import math
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import report
from bench.house import POLICY
from bench.job import Job
from bench.machine import Machine, machine_line, versions_line
from bench.measure import MOST_S, Bench, Case, Pool, say
from bench.procs import Server, free_port
from bench.sample import Samples, Target, rate
from bench.seed import Group, seed
from bench.servers import remora, settle, worker_cpu_s
from bench.workplace import workplace

ONE, TWO = "one", "two"
WORKERS = {ONE: 1, TWO: 2}
CPU_MOST, RATE_LEAST = 1.1, 1.6
WARM = 2

SETTING = """\
{now:%Y-%m-%d %H:%M} UTC. {versions}.
{where}.

`remora serve --workers 1` and `--workers 2`, in turn, each on a copy of one SQLite file with {sessions.count} sessions
of {sessions.turns} turns; window 4,000 tokens, `trim_to` 0.5; plain replies, {rounds} rounds, medians of them and of
their own ratios. A request is one new message of about 31 tokens, a reply has about 66; each connection talks in a
session of its own, up to 22 times in a row, then takes another, which may have been with the other worker before.
CPU is that of all processes of a proxy: supervisor and workers. With two workers each turn stands in the store's line
for its session, which one worker by itself does not need. One worker may use more than one core: SQLite's work is
done in a thread beside the requests'."""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    sessions: Group
    connections: Sequence[int]
    requests: int
    """Of a run."""
    rounds: int


FULL = Scale(sessions=Group("w", 256, 90), connections=(16, 64), requests=2400, rounds=9)
QUICK = Scale(sessions=Group("w", 80, 40), connections=(64,), requests=500, rounds=3)


class Clocks(msgspec.Struct, frozen=True):
    """Readings at one moment, in seconds."""

    wall: float
    busy: float
    """All cores of the machine together."""
    proxy: float
    others: float
    """The load generator's and the stub's CPU."""
    workers: tuple[float, ...]
    """CPU of each worker."""


class Shares(msgspec.Struct, frozen=True):
    """Of the machine, over one run of one case."""

    case: str
    connections: int
    round: int
    others_us: float
    """CPU of the load generator and the stub, for each request."""
    free: float
    """Cores that nobody else used: neither the proxy nor the load generator nor the stub is somebody else."""
    busier: float
    """The busiest worker's part of all workers' CPU; NaN with one process."""


def shares(
    case: str, connections: int, round_: int, before: Clocks, after: Clocks, requests: int, cores: int
) -> Shares:
    """`requests`: all that were made between the two readings, the warm-up included."""
    wall = max(1e-9, after.wall - before.wall)
    proxy, others = after.proxy - before.proxy, after.others - before.others
    elsewhere = max(0.0, after.busy - before.busy - proxy - others) / wall
    used = [late - early for early, late in zip(before.workers, after.workers, strict=True)]
    return Shares(
        case=case,
        connections=connections,
        round=round_,
        others_us=others * 1e6 / max(1, requests),
        free=max(0.0, cores - elsewhere),
        busier=max(used) / sum(used) if used and sum(used) else math.nan,
    )


def possible(one_rate: float, two_us: float, others_us: float, free: float) -> float:
    """How many times one worker's requests a second (`one_rate`) so many free cores could answer at the most, which two
    workers share with what asks and answers them."""
    return free * 1e6 / (two_us + others_us) / one_rate


class Found(msgspec.Struct, frozen=True):
    samples: Samples
    shares: Sequence[Shares]

    def share(self, case: str, connections: int, name: str) -> float:
        """The median of one figure of `Shares` over the rounds; NaN where nothing was measured."""
        some = [getattr(s, name) for s in self.shares if (s.case, s.connections) == (case, connections)]
        return statistics.median(some) if some else math.nan

    def possible(self, connections: int) -> float:
        """See `possible`, from the medians."""
        one_rate = self.samples.median(ONE, "plain", connections, rate)
        two_us = self.samples.median(TWO, "plain", connections, lambda s: s.cpu_us)
        return possible(
            one_rate, two_us, self.share(TWO, connections, "others_us"), self.share(TWO, connections, "free")
        )


def wanted(found: Found, connections: Sequence[int]) -> list[list[str]]:
    """The rows that say what is to be reached, and whether it was."""
    rows = []
    for at in connections:
        cpu = found.samples.ratio(TWO, ONE, "plain", at, lambda s: s.cpu_us)
        rows.append(report.at_most(Target(f"CPU a request, two workers to one, at {at}", CPU_MOST, cpu)))
        faster = found.samples.ratio(TWO, ONE, "plain", at, rate)
        what = f"requests/s, two workers to one, at {at}, where cores are free"
        rows.append(report.at_least(what, RATE_LEAST, faster, possible=found.possible(at)))
    return rows


def seen_line(found: Found, connections: Sequence[int], cores: int) -> str:
    """What this machine could show at all."""
    parts = []
    for at in connections:
        cpu_us = found.samples.median(TWO, "plain", at, lambda s: s.cpu_us)
        free, others_us = (
            report.number(found.share(TWO, at, name), digits) for name, digits in (("free", 2), ("others_us", 0))
        )
        parts.append(
            f"at {at} connections others left {free} of {cores} cores while two workers ran; the load generator and "
            f"the stub took {others_us} µs of those a request, the proxy {report.number(cpu_us)}: at most "
            f"{report.number(found.possible(at), 2)} × one worker's requests/s could be seen"
        )
    return f"What could be seen here: {'; '.join(parts)}."


def load_table(found: Found, connections: Sequence[int]) -> str:
    head = ["workers", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs a request", "the busier worker's part"]
    rows = []
    for at in connections:
        for case, workers in WORKERS.items():
            busier = found.share(case, at, "busier")
            rows.append(
                [
                    str(workers),
                    str(at),
                    report.number(found.samples.median(case, "plain", at, rate)),
                    report.number(found.samples.median(case, "plain", at, lambda s: s.p50_ms), 2),
                    report.number(found.samples.median(case, "plain", at, lambda s: s.p99_ms), 2),
                    report.number(found.samples.median(case, "plain", at, lambda s: s.cpu_us)),
                    "–" if math.isnan(busier) else f"{100 * busier:.0f} %",
                ]
            )
    return report.table(head, rows)


def busy_s() -> float:
    """CPU seconds of the whole machine so far, with what was stolen from it, from /proc/stat."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def run(bench: Bench, servers: dict[str, Server], stub: Server, scale: Scale, cores: int) -> Found:
    load = Server("load", 0, bench.load.process, bench.load.log)
    pools = {case: Pool(scale.sessions.names, fresh=False) for case in WORKERS}
    found: list[Shares] = []

    def clocks(server: Server) -> Clocks:
        others = load.cpu_s() + stub.cpu_s()
        return Clocks(time.monotonic(), busy_s(), server.cpu_s(), others, tuple(worker_cpu_s(server)))

    for round_ in range(scale.rounds):
        began = time.monotonic()
        for at in scale.connections:
            for case in sorted(WORKERS, reverse=bool(round_ % 2)):
                server = servers[case]
                job = Job(port=server.port, connections=at, requests=scale.requests, warm=WARM, most_s=MOST_S)
                before = clocks(server)
                sample = bench.run(Case(case, server, pools[case]), "plain", round_, job)
                made = sample.requests + WARM * at
                found.append(shares(case, at, round_, before, clocks(server), made, cores))
        say(f"workers, round {round_ + 1} of {scale.rounds}: {time.monotonic() - began:.0f} s")
    return Found(Samples(bench.samples), found)


def render(found: Found, scale: Scale, setting: str, cores: int) -> str:
    faults = found.samples.faults()
    parts = [
        "## Workers",
        setting,
        report.wanted_table(wanted(found, scale.connections)),
        seen_line(found, scale.connections, cores),
        load_table(found, scale.connections),
        "Runs with errors:\n\n" + "\n".join(f"- {line}" for line in faults) if faults else "No run had an error.",
    ]
    return "\n\n".join(parts)


def measure_workers(*, quick: bool) -> str:
    """The section of RESULTS.md."""
    scale = QUICK if quick else FULL
    machine = Machine()
    cores = len(os.sched_getaffinity(0))
    with workplace() as (folder, processes):
        where = machine_line(folder)
        policies = folder / "policies"
        policies.mkdir()
        (policies / "default.toml").write_text(POLICY)
        seeded = folder / "seeded.db"
        asyncio.run(seed(f"sqlite:///{seeded}?synchronous=normal", [scale.sessions]))
        stub = processes.module("stub", "bench.stub", free_port())
        bench = Bench(processes.load())
        servers = {}
        for case, workers in WORKERS.items():
            for file in folder.glob("seeded.db*"):
                shutil.copy(file, folder / file.name.replace("seeded", case))
            store = f"sqlite:///{folder / f'{case}.db'}"
            servers[case] = remora(processes, case, stub.port, store, policies, workers=workers)
            settle(bench.load, servers[case], [scale.sessions])
        say("workers warmed up")
        found = run(bench, servers, stub, scale, cores)
        where = f"{where}; during the run: {machine.line()}"
    setting = SETTING.format(
        now=datetime.now(UTC), versions=versions_line(), where=where, sessions=scale.sessions, rounds=scale.rounds
    )
    return render(found, scale, setting, cores)
