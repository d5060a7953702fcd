"""What was measured of stores -> Markdown: what a turn costs on each, and what the usual way costs. Pure."""

import math
import statistics
from collections.abc import Mapping, Sequence

import msgspec

from bench import report
from bench.naive import Turn
from bench.sample import Samples, Target, rate

STORES = ("sqlite", "postgres", "redis")
LINES = STORES[1:]
"""Where two workers are measured too; for SQLite see bench/workers.py."""
MOST, FLAT = 2.0, 1.1
"""What a turn may cost beside SQLite's, and an old session's turn beside a young one's."""

SETTING = """\
{now:%Y-%m-%d %H:%M} UTC. {versions}, PostgreSQL {postgres}, Redis {redis}.
{where}.

One `remora serve` on each store, one process, nothing set; plain replies. CPU is the proxy's own, not that of the
store's server; with SQLite it holds the database's work too. Stores: SQLite with its defaults; PostgreSQL with its own
(every commit on the disk); Redis with `appendfsync everysec`; both over a unix socket. Window 4,000 tokens, `trim_to`
0.5: at 10 turns it is not full, later it is. A request is one new message of about 31 tokens, a reply has about 66.
PostgreSQL and Redis each hold {seeded}, SQLite those but for *in line*. {rounds} rounds, the stores in turn. A session
is used up to 22 times in a row (one of 10 turns: 8 times, then never again); most are still held by the proxy from the
time before.
Rows *in line*: the same with `--workers {workers}`, at {line:,} turns: each turn then stands in the store's line for
its session, and a session goes from one worker to the other when it goes to another connection. Round trips are what
the store's server counts, with one connection: statements of PostgreSQL, reads of Redis."""

NAIVE = """\
The usual way, by itself: `GET`, parse (orjson), append two messages, serialise, `SET`; hiredis over the same socket.
No HTTP is in it, and no request to the model, which would carry all messages each turn. Remora's columns, at as many
*turns*, hold both; one connection."""


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
            known = [ratio for ratio in ratios if not math.isnan(ratio)]
            name = f"{report.STORES[store]} to SQLite, CPU, at {at}"
            found.append(Target(f"{name}, worst depth", MOST, max(known, default=math.nan)))
            line = samples.ratio(f"{store}-line", f"sqlite-{scale.line}", "plain", at, lambda s: s.cpu_us)
            found.append(Target(f"{name}, in line (SQLite alone)", MOST, line))
    old = scale.depths[-1]
    least = min(scale.requests)
    for store in STORES:
        for young in scale.depths[: 2 if len(scale.depths) > 2 else 1]:
            name, base = f"{report.STORES[store]}, {old:,} turns to {young:,}", f"{store}-{young}"
            for at in scale.requests:
                cpu = samples.ratio(f"{store}-{old}", base, "plain", at, lambda s: s.cpu_us)
                found.append(Target(f"{name}, CPU, at {at}", FLAT, cpu))
            p50 = samples.ratio(f"{store}-{old}", base, "plain", least, lambda s: s.p50_ms)
            found.append(Target(f"{name}, p50, at {least}", FLAT, p50))
    return found


def turns_table(found: Found, scale: Scale) -> str:
    head = ["", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs a request", "× SQLite", "round trips a turn"]
    rows = []
    for at in scale.requests:
        cases = [(f"{store}-{depth}", f"sqlite-{depth}") for depth in scale.depths for store in STORES]
        for case, base in [*cases, *((f"{store}-line", f"sqlite-{scale.line}") for store in LINES)]:
            rows.append(
                [
                    report.label(case),
                    str(at),
                    report.number(found.samples.median(case, "plain", at, rate)),
                    report.number(found.samples.median(case, "plain", at, lambda s: s.p50_ms), 2),
                    report.number(found.samples.median(case, "plain", at, lambda s: s.p99_ms), 2),
                    report.number(found.samples.median(case, "plain", at, lambda s: s.cpu_us)),
                    report.number(found.samples.ratio(case, base, "plain", at, lambda s: s.cpu_us), 2),
                    report.number(found.trips.get(case, math.nan) if at == 1 else math.nan, 1),
                ]
            )
    return report.table(head, rows)


def naive_table(found: Found) -> str:
    """Beside it, Remora's own turns of about so many messages."""
    head = ["messages", "CPU µs a turn", "ms a turn", "KB moved a turn", "× the first row, CPU"]
    head += ["Remora on Redis, CPU µs", "its p50 ms"]
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
        NAIVE,
        naive_table(found),
        "Runs with errors:\n\n" + "\n".join(f"- {line}" for line in faults) if faults else "No run had an error.",
    ]
    return "\n\n".join(part for part in parts if part)
