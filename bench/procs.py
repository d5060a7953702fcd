"""Real processes: started, waited for, weighed, and always ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bench.job import Job, Result

_decode = msgspec.json.Decoder(Result).decode


ROOT = Path(__file__).resolve().parent.parent


class BenchError(Exception):
    """The measurement cannot go on; the message says why."""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _family(pid: int) -> Iterator[int]:
    """The process and what it started."""
    yield pid
    try:
        children = [c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


class Server:
    """A running server."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.port = port
        self.process = process
        self.log = log

    def cpu_s(self) -> float:
        """CPU seconds that the process, its threads (ended ones too) and its children have used so far.

        The process's own CPU clock, clock_getcpuclockid(3): user and system time as in /proc/PID/stat, but in
        nanoseconds where that counts hundredths of a second."""
        total = 0.0
        for pid in _family(self.process.pid):
            try:
                total += time.clock_gettime((~pid << 3) | 2)
            except OSError:
                if pid == self.process.pid:
                    raise BenchError(f"{self.name} has ended:\n{self.tail()}") from None
        return total

    def rss_mb(self) -> float:
        """Resident memory of the process and its children, in MB."""
        total = 0
        for pid in _family(self.process.pid):
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
        return total / 1024

    def tail(self) -> str:
        """The end of what it printed."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 3000))
            return log.read().decode(errors="replace")


class Processes:
    """All processes of a measurement. A context manager: whatever happens, they end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._running):
            stop(process)

    def serve(
        self, name: str, argv: Sequence[str], port: int, *, env: Mapping[str, str] | None = None, wait_s: float = 30
    ) -> Server:
        """Starts a server and waits until `port` takes connections. Raises BenchError when it does not come up."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=clean_env(env),
                cwd=ROOT,
                start_new_session=True,
            )
        self._running.append(process)
        server = Server(name, port, process, log)
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            if process.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return server
            time.sleep(0.05)
        raise BenchError(f"{name} did not come up on port {port}:\n{server.tail()}")

    def module(self, name: str, module: str, port: int, *args: str) -> Server:
        """Starts `python -m MODULE PORT ARGS…`."""
        return self.serve(name, [sys.executable, "-m", module, str(port), *args], port)

    def stop(self, server: Server) -> None:
        """Ends one server and waits for it."""
        stop(server.process)
        self._running.remove(server.process)

    def load(self) -> "Load":
        """Starts a load generator."""
        with (self.folder / "load.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.load"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=clean_env(None),
                cwd=ROOT,
                start_new_session=True,
            )
        self._running.append(process)
        return Load(process, self.folder / "load.log")


class Load:
    """The load generator's process, spoken to over its pipes."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def run(self, job: Job, server: Server) -> tuple[Result, float]:
        """Runs a job; returns its result and the CPU seconds that `server` used for it (the warm-up aside)."""
        assert self.process.stdin
        self.process.stdin.write(msgspec.json.encode(job) + b"\n")
        self.process.stdin.flush()
        if self._line() != b"ready\n":
            raise BenchError(f"The load generator failed:\n{self.log.read_text()[-3000:]}")
        before = server.cpu_s()
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()
        line = self._line()
        cpu_s = server.cpu_s() - before
        if not line:
            raise BenchError(f"The load generator failed:\n{self.log.read_text()[-3000:]}")
        return _decode(line), cpu_s

    def _line(self) -> bytes:
        assert self.process.stdout
        return self.process.stdout.readline()


def clean_env(extra: Mapping[str, str] | None) -> dict[str, str]:
    """This process's environment without settings that would steer a server, plus `extra`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("REMORA_", "LITELLM_", "OPENAI_"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **(extra or {})}


def stop(process: subprocess.Popen[bytes], wait_s: float = 10) -> None:
    """SIGTERM to the process's own group, then SIGKILL to what is left of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
