"""What the parts on stores and workers start: PostgreSQL, Redis, and Remora with N workers in front of a store."""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.house import FRESH_BELOW, PHASES
from bench.job import Job
from bench.procs import BenchError, Load, Processes, Server, free_port
from bench.seed import Group

if TYPE_CHECKING:
    from tests.support.postgres import Server as Postgres
    from tests.support.redis import Server as Redis

UP = "remora listens on"
"""What Remora says when all of its workers listen."""
UP_S = 30.0


def missing() -> str:
    """Which server is not installed here; "" if none is missing."""
    from tests.support import postgres

    wanted = []
    if postgres.binaries() is None:
        wanted.append("PostgreSQL (Debian: postgresql)")
    if not shutil.which("redis-server") and not shutil.which("valkey-server"):
        wanted.append("Redis or Valkey (Debian: redis-server)")
    return " and ".join(wanted)


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """A folder of its own on a disk, its path short enough for a socket; PostgreSQL's user may own it and get to it."""
    folder = Path(tempfile.mkdtemp(prefix="remora-bench-", dir="/var/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def postgres_server() -> Iterator["Postgres"]:
    """With its defaults: a commit is on the disk before it is answered. Raises BenchError where there is none."""
    from tests.support import postgres

    bin = postgres.binaries()
    if bin is None:
        raise BenchError(f"not installed: {missing()}")
    with data_folder() as folder:
        server = postgres.Server(folder, bin)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator["Redis"]:
    """`options` are lines of its configuration. Raises BenchError where there is none."""
    from tests.support import redis

    if missing():
        raise BenchError(f"not installed: {missing()}")
    with data_folder() as folder:
        server = redis.Server(folder, *options)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def remora(processes: Processes, name: str, upstream: int, store: str, policies: Path, *, workers: int) -> Server:
    """Starts `python -m proxy serve --workers N`; returns when every worker listens."""
    port, admin = free_port(), free_port()
    argv = [sys.executable, "-m", "proxy", "serve", "--upstream", f"http://127.0.0.1:{upstream}"]
    argv += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--workers", str(workers)]
    server = processes.serve(name, [*argv, "--store", store, "--policies", str(policies)], port)
    until = time.monotonic() + UP_S
    while UP not in server.tail():
        if time.monotonic() > until or server.process.poll() is not None:
            raise BenchError(f"{name}: not all workers listen:\n{server.tail()}")
        time.sleep(0.02)
    return server


def worker_cpu_s(server: Server) -> list[float]:
    """CPU seconds so far of each process that the server started; none where it serves by itself."""
    pid = server.process.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    # the process's own CPU clock, clock_getcpuclockid(3)
    return [time.clock_gettime((~int(child) << 3) | 2) for child in found]


def settle(load: Load, server: Server, groups: Sequence[Group]) -> None:
    """Gives every session its first live turns, one to `phases` of them: each then has an anchor, and not all windows
    move in the same run. Raises BenchError unless the proxy's turns go on from the seeded ones."""
    for group in groups:
        steps = 1 if group.turns < FRESH_BELOW else PHASES
        for phase in range(steps):
            names = tuple(group.names[phase::steps])
            if not names:
                continue
            uses = phase + 1
            job = Job(
                port=server.port,
                connections=min(16, len(names)),
                requests=uses * len(names),
                warm=0,
                sessions=names,
                uses=uses,
                expect="x-session-turn:",
            )
            result, _ = load.run(job, server)
            if result.errors:
                raise BenchError(f"warming up failed: {result.fault}\n{server.tail()}")
            if f"x-session-turn: {group.turns + uses}" not in result.sample.lower():
                raise BenchError(f"a seeded session is not where it should be: {result.sample}")
