"""Real processes that serve the same sessions, a supervisor's workers or replicas of one: to be killed and paused."""

import asyncio
import os
import random
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

START_S = 60.0
KEPT_LINES = 2000


class Process:
    """One `serve` command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: deque[str] = deque(maxlen=KEPT_LINES)
        """Its lines on stderr."""
        self.url = ""
        """"" until it listens."""
        self.admin = ""
        self._listening = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr
        async for raw in self._process.stderr:
            line = raw.decode(errors="replace").rstrip()
            self.said.append(line)
            if "listens on http://" in line:
                self.url = line.split("listens on ")[1].split(" ", maxsplit=1)[0]
                self.admin = line.split("(admin ")[1].split(")", maxsplit=1)[0]
                self._listening.set()
        self._listening.set()

    async def listens(self) -> bool:
        """False: it has ended."""
        await self._listening.wait()
        if self.url:
            # who is told to stop in the moment between its line and its first request ends by the signal
            host, port = self.admin.removeprefix("http://").split(":")
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                writer.close()
        return bool(self.url)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """The supervisor's, as many as there are now."""
        try:
            return [int(child) for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except OSError:
            return []

    def send(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def ended(self) -> int:
        status = await self._process.wait()
        self.url = ""
        await self._reading
        return status


class Fleet:
    """`replicas` commands, each with the same arguments."""

    def __init__(self, replicas: int, upstream: str, store: str, *more: str, **variables: str) -> None:
        self._command = [
            sys.executable, "-m", "proxy", "serve", "--upstream", upstream, "--store", store,
            "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *more,
        ]  # fmt: skip
        self._environ = {**os.environ, **variables}
        self._count = replicas
        self.processes: list[Process] = []
        self.refusals: list[str] = []
        """What processes said that did not begin."""
        self._burials: list[asyncio.Task[int]] = []
        self.complaints: list[str] = []
        """Lines of processes that are gone which tell of a bug."""

    @property
    def urls(self) -> list[str]:
        """Of those that listen."""
        return [process.url for process in self.processes if process.url]

    async def start(self) -> None:
        """All at once, as pods are."""
        self.processes += [await self._one() for _ in range(self._count)]
        await self._started()

    async def _one(self) -> Process:
        return Process(
            await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        )

    async def kill(self, chance: random.Random) -> None:
        """One command, with SIGKILL; another takes its place."""
        await self._started()
        gone = self.processes.pop(chance.randrange(len(self.processes)))
        gone.send(signal.SIGKILL)
        gone.url = ""
        # its workers may live a little longer
        self._burials.append(asyncio.create_task(self._bury(gone)))
        self.processes.append(await self._one())

    async def kill_worker(self, chance: random.Random) -> None:
        """The supervisor is to notice, and to replace it."""
        await self._started()
        workers = chance.choice(self.processes).workers
        if workers:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)

    async def _started(self) -> None:
        """Until all listen. What ends instead, because the store is away just then, is begun again."""
        async with asyncio.timeout(START_S):
            while True:
                listen = await asyncio.gather(*(process.listens() for process in self.processes))
                if all(listen):
                    return
                for process, good in zip(tuple(self.processes), listen, strict=True):
                    if not good:
                        assert all("store: " in line for line in process.said), "\n".join(process.said)
                        self.refusals.append("\n".join(process.said))
                        self.processes.remove(process)
                        self._burials.append(asyncio.create_task(self._bury(process)))
                        self.processes.append(await self._one())

    async def pause(self, chance: random.Random, seconds: float) -> None:
        """One that answers requests stands still for so long."""
        process = chance.choice(self.processes)
        pid = chance.choice(process.workers or [process.pid])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(pid, signal.SIGCONT)

    async def stop(self) -> list[int]:
        """In an orderly way: running exchanges end. Returns the exit statuses."""
        await self._started()
        for process in self.processes:
            process.send(signal.SIGTERM)
        gone, self.processes = self.processes, []
        async with asyncio.timeout(START_S):
            await asyncio.gather(*self._burials)
            self._burials.clear()
            return await asyncio.gather(*(self._bury(process) for process in gone))

    async def _bury(self, process: Process) -> int:
        status = await process.ended()
        lines = list(process.said)
        for at, line in enumerate(lines):
            if "Traceback" in line or "database is locked" in line or "internal" in line:
                self.complaints.append("\n".join(lines[max(0, at - 2) : at + 30]))
                break
        return status

    async def end(self) -> None:
        """Whatever is left is killed."""
        for process in self.processes:
            process.send(signal.SIGKILL)
        for process in self.processes:
            await process.ended()
        await asyncio.gather(*self._burials)


@asynccontextmanager
async def fleet(replicas: int, upstream: str, store: str, *more: str, **variables: str) -> AsyncIterator[Fleet]:
    made = Fleet(replicas, upstream, store, *more, **variables)
    try:
        await made.start()
        yield made
    finally:
        await made.end()
