"""Starts what is compared: the stub, the bare proxy, and Remora twice, with and without sessions."""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench.job import Job
from bench.measure import Bench, Case, Pool, say
from bench.procs import BenchError, Processes, Server, free_port
from bench.seed import Group, seed

POLICY = """\
description = "The newest turns that fit 4,000 tokens"

[window]
max_tokens = 4000
"""
FRESH_BELOW = 50
"""Sessions of fewer turns would soon be longer than their case says; each is used a few times only."""
PHASES = 21
"""Seeded sessions take 1 to so many live turns before anything is measured, so that their windows do not all move
in the same run."""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    rounds: int
    requests: Mapping[int, int]
    """Connections -> requests of one run."""
    depths: Sequence[int]
    pools: Mapping[int, int]
    """Depth -> sessions; those below FRESH_BELOW are worked out."""
    first_requests: Mapping[int, int]
    extra_rounds: int
    most_s: float
    """For the load runs."""
    others: int = 1000


FULL = Scale(
    rounds=7,
    requests={1: 500, 16: 1600, 64: 1600},
    depths=(10, 100, 1000, 10_000),
    pools={100: 896, 1000: 192, 10_000: 64},
    first_requests={1: 80, 16: 320},
    extra_rounds=5,
    most_s=420,
)
QUICK = Scale(
    rounds=3,
    requests={1: 150, 16: 800},
    depths=(10, 100, 10_000),
    pools={100: 192, 10_000: 16},
    first_requests={1: 60},
    extra_rounds=2,
    most_s=90,
)


def uses_in_all(scale: Scale) -> int:
    """Live turns of all load runs of one depth, streamed and plain."""
    return 2 * scale.rounds * sum(wanted + 2 * at for at, wanted in scale.requests.items())


def groups(scale: Scale) -> dict[int, Group]:
    """The sessions of each depth, so deep that its runs pass through that depth midway."""
    found = {}
    for depth in scale.depths:
        if depth < FRESH_BELOW:
            sessions = 0
            for at, wanted in scale.requests.items():
                sessions += 2 * scale.rounds * (-(-(wanted + 2 * at) // 8) + at)
            for at, wanted in scale.first_requests.items():
                sessions += scale.extra_rounds * (-(-(wanted + at) // 8) + at)
            found[depth] = Group(f"d{depth}", sessions, max(1, depth - 5))
        else:
            before = PHASES // 2 + uses_in_all(scale) // (2 * scale.pools[depth])
            found[depth] = Group(f"d{depth}", scale.pools[depth], max(1, depth - before))
    return found


def remora(processes: Processes, name: str, upstream: int, store: str, policies: Path) -> Server:
    """Starts `python -m proxy serve`, with nothing but its own flags."""
    port, admin = free_port(), free_port()
    argv = [sys.executable, "-m", "proxy", "serve", "--upstream", f"http://127.0.0.1:{upstream}"]
    argv += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    return processes.serve(name, [*argv, "--store", store, "--policies", str(policies)], port)


class House:
    """The servers of a measurement, up and warm."""

    def __init__(self, processes: Processes, folder: Path, scale: Scale) -> None:
        self.scale = scale
        policies = folder / "policies"
        policies.mkdir()
        (policies / "default.toml").write_text(POLICY)
        store = f"sqlite:///{folder / 'sessions.db'}"
        seeded = groups(scale)
        began = time.monotonic()
        asyncio.run(seed(f"{store}?synchronous=normal", [Group("other", scale.others, 20), *seeded.values()]))
        self.seeded = (
            f"{sum(g.count for g in seeded.values()) + scale.others:,} sessions, "
            f"{sum(g.count * g.turns for g in seeded.values()) + scale.others * 20:,} turns"
        )
        say(f"seeded {self.seeded}: {time.monotonic() - began:.0f} s")
        self.other_sessions = Group("other", scale.others, 20).names
        self.stub = processes.module("stub", "bench.stub", free_port())
        self.bare = processes.module("bare", "bench.bare", free_port(), f"http://127.0.0.1:{self.stub.port}")
        self.plain = remora(processes, "pass", self.stub.port, f"sqlite:///{folder / 'pass.db'}", policies)
        self.stateful = remora(processes, "stateful", self.stub.port, store, policies)
        servers = (self.stub, self.bare, self.plain, self.stateful)
        self.bench = Bench(processes.load())
        self._settle(seeded)
        self.idle_mb = {server.name: server.rss_mb() for server in servers}
        pools = {d: Pool(g.names, fresh=d < FRESH_BELOW) for d, g in seeded.items()}
        self.stateful_cases = [Case(f"s{d}", self.stateful, pool) for d, pool in pools.items()]
        self.cases = [
            Case("stub", self.stub),
            Case("bare", self.bare),
            Case("pass", self.plain),
            *self.stateful_cases,
        ]

    def case(self, name: str) -> Case:
        return next(case for case in self.cases if case.name == name)

    def _settle(self, seeded: Mapping[int, Group]) -> None:
        """Gives every session its first live turns, so that each has an anchor."""
        began = time.monotonic()
        for depth, group in seeded.items():
            phases = 1 if depth < FRESH_BELOW else PHASES
            for phase in range(phases):
                names = tuple(group.names[phase::phases])
                if not names:
                    continue
                uses = phase + 1
                job = Job(
                    port=self.stateful.port,
                    connections=min(16, len(names)),
                    requests=uses * len(names),
                    warm=0,
                    sessions=names,
                    uses=uses,
                    expect="x-session-turn:",
                )
                result, _ = self.bench.load.run(job, self.stateful)
                if result.errors:
                    raise BenchError(f"warming up failed: {result.fault}\n{self.stateful.tail()}")
                if f"x-session-turn: {group.turns + uses}" not in result.sample.lower():
                    raise BenchError(f"a seeded session is not where it should be: {result.sample}")
        say(f"warmed up: {time.monotonic() - began:.0f} s")
