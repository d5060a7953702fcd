"""Runs cases against servers, in interleaved rounds, and keeps what they showed."""

import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from bench.job import Job
from bench.procs import Load, Server
from bench.report import LONG, SHORT, SLOW, SSE_CONNECTIONS
from bench.sample import Sample

USES = 22
"""Requests on one session in a row: about one walk of the window's steps (2,000 tokens of some 100 a turn)."""
FRESH_USES = 8
"""The same for sessions that must stay about as short as they are; then a fresh one is taken."""
FIRST_CHUNKS = 5
MOST_S = 8.0
"""A run of a slow server is cut short, so that the whole stays within its time."""
GAP_MS = 2


class Pool:
    """The sessions of one depth, dealt out so that all are used about equally."""

    def __init__(self, names: Sequence[str], *, fresh: bool) -> None:
        self._names = deque(names)
        self._fresh = fresh
        self.uses = FRESH_USES if fresh else USES

    def deal(self, requests: int, connections: int) -> tuple[str, ...]:
        """Names enough for so many requests over so many connections."""
        wanted = -(-requests // self.uses) + connections
        if self._fresh:
            return tuple(self._names.popleft() for _ in range(min(wanted, len(self._names))))
        dealt = tuple(self._names)
        self._names.rotate(-wanted)
        return dealt

    @property
    def recycle(self) -> bool:
        return not self._fresh


class Case(msgspec.Struct, frozen=True):
    """A server, and how it is asked."""

    name: str
    server: Server
    pool: Pool | None = None


class Bench:
    """Collects the samples of a measurement."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.samples: list[Sample] = []

    def run(self, case: Case, kind: str, round_: int, job: Job) -> Sample:
        """One run; for a case with a pool, with sessions from it."""
        if case.pool:
            sessions = case.pool.deal(job.requests + job.warm * job.connections, job.connections)
            job = msgspec.structs.replace(
                job,
                sessions=job.sessions or sessions,
                uses=case.pool.uses,
                recycle=case.pool.recycle,
                expect="x-session-turn:",
            )
        result, cpu_s = self.load.run(job, case.server)
        sample = Sample(
            case=case.name,
            kind=kind,
            connections=job.connections,
            round=round_,
            requests=result.requests,
            errors=result.errors,
            seconds=result.seconds,
            p50_ms=result.p50_ms,
            p99_ms=result.p99_ms,
            first_ms=result.first_ms,
            cpu_us=cpu_s * 1e6 / max(1, result.requests),
            rss_mb=case.server.rss_mb(),
            pieces=result.pieces,
            at_once=result.at_once,
            sample=result.sample,
            fault=result.fault,
        )
        self.samples.append(sample)
        if sample.errors:
            say(f"  ! {case.name} {kind} at {job.connections}: {sample.errors} errors: {sample.fault}")
        return sample

    def load_runs(self, cases: Sequence[Case], requests: Mapping[int, int], rounds: int, most_s: float) -> int:
        """Plain and streamed, `requests[c]` requests over c connections, every case in every round. Returns how many
        rounds that were: at least three (if asked for), then no more than fit into `most_s`."""
        start = time.monotonic()
        for round_ in range(rounds):
            began = time.monotonic()
            if round_ >= 3 and (began - start) * (round_ + 1) / round_ > most_s:
                return round_
            for connections, wanted in requests.items():
                for stream in (False, True):
                    for case in cases:
                        job = Job(
                            port=case.server.port,
                            connections=connections,
                            requests=wanted,
                            stream=stream,
                            most_s=MOST_S,
                        )
                        self.run(case, "stream" if stream else "plain", round_, job)
            say(f"round {round_ + 1} of {rounds}: {time.monotonic() - began:.0f} s")
        return rounds

    def chunk_runs(self, cases: Sequence[Case], rounds: int) -> None:
        """Long and short streams whose events come one by one."""
        for round_ in range(rounds):
            for kind, chunks in (("short", SHORT), ("long", LONG)):
                for case in cases:
                    self.run(case, kind, round_, paced(case, SSE_CONNECTIONS, SSE_CONNECTIONS, chunks, GAP_MS))

    def first_runs(self, cases: Sequence[Case], requests: Mapping[int, int], rounds: int) -> None:
        """Time to the first chunk, of streams that leave the servers mostly idle."""
        for round_ in range(rounds):
            for connections, wanted in requests.items():
                for case in cases:
                    self.run(case, "first", round_, paced(case, connections, wanted, FIRST_CHUNKS, GAP_MS))

    def slow_runs(self, cases: Sequence[Case], sessions: Sequence[str]) -> None:
        """A thousand streams at once, slow to come and slow to be read."""
        for case in cases:
            job = paced(case, SLOW, SLOW, 20, 250)
            named = tuple(sessions[:SLOW]) if case.pool else ()
            self.run(case, "slow", 0, msgspec.structs.replace(job, warm=0, pause_ms=150, sessions=named))


def paced(case: Case, connections: int, requests: int, chunks: int, gap_ms: int) -> Job:
    headers = (f"X-Stub-Chunks: {chunks}", f"X-Stub-Gap-Ms: {gap_ms}")
    return Job(port=case.server.port, connections=connections, requests=requests, stream=True, headers=headers, warm=1)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
