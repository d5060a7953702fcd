"""Several processes on one address: they share a store, are replaced when they die, and stop together."""

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from proxy.errors import SettingsError
from proxy.supervisor import reserve
from tests.e2e.test_disconnect import delta
from tests.e2e.test_kill import answer
from tests.support.app import said
from tests.support.upstream import ScriptedUpstream, Wait, model, sse

ROOT = Path(__file__).parents[1]


class Crew:
    """A running supervisor, and an HTTP client that opens a connection for each request."""

    def __init__(self, process: asyncio.subprocess.Process, line: str, http: aiohttp.ClientSession) -> None:
        self.process = process
        self.url = line.split("listens on ")[1].split(" ", maxsplit=1)[0]
        self.admin = line.split("(admin ")[1].split(")", maxsplit=1)[0]
        self.http = http

    @property
    def workers(self) -> list[int]:
        """Their process ids."""
        return children(self.process.pid)

    async def said(self) -> str:
        """The next line on stderr."""
        assert self.process.stderr
        async with asyncio.timeout(20):
            return (await self.process.stderr.readline()).decode().strip()

    async def chat(self, session: str, text: str, **headers: str) -> tuple[int, dict[str, str], str]:
        body = {"model": "m", "messages": [said("user", text)]}
        named = {"X-Session-Id": session, **headers}
        async with self.http.post(f"{self.url}/v1/chat/completions", json=body, headers=named) as reply:
            return reply.status, dict(reply.headers), await reply.text()

    async def ready(self) -> tuple[int, str]:
        async with self.http.get(f"{self.admin}/readyz") as reply:
            return reply.status, (await reply.json())["status"]

    async def becomes(self, true: Callable[[str], bool]) -> str:
        """Asks /readyz until its reason is `true`."""
        async with asyncio.timeout(30):
            async for _ in ticks():
                if true(reason := (await self.ready())[1]):
                    return reason
        raise AssertionError

    async def stops(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            return await self.process.wait()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def launch(upstream: str, folder: Path, *more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", "--upstream", upstream, "--listen", "127.0.0.1:0",
        "--admin", "127.0.0.1:0", "--workers", "2", *more,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@asynccontextmanager
async def crew(upstream: str, folder: Path, *more: str) -> AsyncIterator[Crew]:
    async with AsyncExitStack() as stack:
        process = await launch(upstream, folder, *more)
        assert process.stderr
        line = (await process.stderr.readline()).decode()
        assert "listens on http://" in line, line + (await process.stderr.read()).decode()
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        try:
            yield Crew(process, line, http)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def ticks() -> AsyncIterator[None]:
    """For what happens in other processes, and tells nobody here."""
    while True:
        yield
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def gone(pids: list[int]) -> None:
    """Waits for the end of processes that are not ours."""
    async with asyncio.timeout(30):
        async for _ in ticks():
            if not any(alive(pid) for pid in pids):
                return


async def test_four_workers_share_one_sqlite_file_under_load(tmp_path: Path) -> None:
    sessions, turns = 12, 8
    async with ScriptedUpstream(model()) as upstream, crew(upstream.url, tmp_path, "--workers", "4") as here:
        assert len(here.workers) == 4
        assert await here.ready() == (200, "ready")
        workers = here.workers
        idle = [sockets(pid) for pid in workers]

        async def speaker(session: str) -> None:
            for turn in range(1, turns + 1):
                status, headers, text = await here.chat(session, f"{session} {turn}")
                # whoever has seen a reply's end can go on at any worker, and what was said is there
                assert (status, headers["X-Session-Turn"]) == (200, str(turn)), text
                kept = 2 * (turn - 1)
                assert f"kept={kept}," in headers["X-Session-Context"]

        async with asyncio.TaskGroup() as speakers:
            for number in range(sessions):
                speakers.create_task(speaker(f"s{number}"))
        # all took part: each keeps its connections to the upstream
        assert all(now > before for now, before in zip(map(sockets, workers), idle, strict=True))
        await stops_in_order(here, upstream)
        await gone(workers)


async def stops_in_order(here: Crew, upstream: ScriptedUpstream) -> None:
    """A running exchange ends, then everything does."""
    go_on = asyncio.Event()
    stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    upstream.queue.append(sse([delta("one"), Wait(go_on), delta(" two"), stop]))
    body = {"stream": True, "messages": [said("user", "x")]}
    async with here.http.post(f"{here.url}/v1/chat/completions", json=body, headers={"X-Session-Id": "s"}) as reply:
        first = await reply.content.readuntil(b"\n\n")
        here.process.send_signal(signal.SIGINT)
        assert await here.becomes(lambda reason: reason != "ready") == "stopping"
        go_on.set()
        assert answer((first + await reply.read()).decode()) == "one two"
    assert await here.process.wait() == 0
    assert await here.said() == "stopping: running exchanges may end"
    assert await here.said() == ""


def sockets(pid: int) -> int:
    return sum(str(entry.readlink()).startswith("socket:") for entry in Path(f"/proc/{pid}/fd").iterdir())


async def test_a_worker_that_hangs_or_dies_is_missed_and_replaced_and_none_outlives_the_supervisor(
    tmp_path: Path,
) -> None:
    async with crew("echo:", tmp_path) as here:
        before = here.workers
        assert (await here.chat("s", "one"))[0] == 200
        os.kill(before[1], signal.SIGSTOP)
        # a worker that hangs is not ready, and says so in bounded time
        assert "worker 2: does not answer" in await here.becomes(lambda reason: reason != "ready")
        os.kill(before[1], signal.SIGKILL)
        assert await here.said() == "worker 2 was ended by SIGKILL; another starts in 0.1 s"
        assert await here.ready() == (503, "worker 2: not running")
        assert (await here.chat("s", "two"))[0] == 200
        await here.becomes(lambda reason: reason == "ready")
        assert len(here.workers) == 2
        assert here.workers[0] == before[0]
        assert before[1] not in here.workers
        workers = here.workers
        here.process.kill()
        await gone(workers)


async def test_what_ends_workers_later_may_pass_and_is_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    database, away = tmp_path / "remora.db", tmp_path / "away.db"
    async with crew("echo:", tmp_path) as here:
        database.rename(away)
        database.mkdir()
        os.kill(here.workers[0], signal.SIGKILL)
        lines: list[str] = []
        while len(lines) < 3:
            if (line := await here.said()).startswith("worker 1 "):
                lines.append(line)
        assert lines == [
            "worker 1 was ended by SIGKILL; another starts in 0.1 s",
            "worker 1 ended with exit status 2; another starts in 0.2 s",
            "worker 1 ended with exit status 2; another starts in 0.4 s",
        ]
        status, reason = await here.ready()
        assert status == 503
        assert reason.startswith("worker 1: not running; worker 2: remora.db ")
        database.rmdir()
        away.rename(database)
        await here.becomes(lambda reason: reason == "ready")
        assert await here.stops() == 0


async def test_a_system_without_room_for_a_worker_is_asked_again_until_it_has(tmp_path: Path) -> None:
    async with crew("echo:", tmp_path) as here:
        pid = here.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        os.kill(here.workers[0], signal.SIGKILL)
        assert await here.said() == "worker 1 was ended by SIGKILL; another starts in 0.1 s"
        assert await here.said() == "worker 1 cannot be started (too many open files); another starts in 0.2 s"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        await here.becomes(lambda reason: reason == "ready")
        assert len(here.workers) == 2
        assert await here.stops() == 0


async def test_sighup_reloads_in_every_worker_and_later_ones_begin_with_what_was_right(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "default.toml").write_text("")
    async with crew("echo:", tmp_path) as here:
        assert (await here.chat("s", "x", **{"X-Session-Policy": "more"}))[0] == 400
        (policies / "more.toml").write_text("")
        here.process.send_signal(signal.SIGHUP)
        assert await here.said() == "policies reloaded: default, more"
        for _ in range(8):
            await settled(here)
        (policies / "more.toml").write_text("nonsense = 1")
        here.process.send_signal(signal.SIGHUP)
        assert "policies not reloaded" in await here.said()
        os.kill(here.workers[0], signal.SIGKILL)
        assert "another starts" in await here.said()
        await here.becomes(lambda reason: reason == "ready")
        for _ in range(16):
            assert (await here.chat("s", "x", **{"X-Session-Policy": "more"}))[0] == 200
        assert await here.stops() == 0
        assert await here.said() == "stopping: running exchanges may end"


async def settled(here: Crew) -> None:
    """Until the policy `more` is known to whichever worker is met."""
    async with asyncio.timeout(10):
        async for _ in ticks():
            if (await here.chat("s", "x", **{"X-Session-Policy": "more"}))[0] == 200:
                return


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--store", "memory:"), "remora: --workers: 2 workers cannot share store memory:"),
        (("--store", "sqlite:////no/such/folder/remora.db"), "remora: store"),
        (("--workers", "0"), "remora: --workers: '0' is no whole number from 1 to 256"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_exit_2(tmp_path: Path, more: tuple[str, ...], expected: str) -> None:
    process = await launch("echo:", tmp_path, *more)
    _, said = await process.communicate()
    assert said.decode().startswith(expected)
    assert said.count(b"\n") == 1
    assert process.returncode == 2


async def test_an_address_that_others_serve_is_refused_also_if_they_would_share_it(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address: tuple[str, int] = other.getsockname()
        process = await launch("echo:", tmp_path, "--listen", "{}:{}".format(*address))
        _, said = await process.communicate()
        assert process.returncode == 2
        assert said.decode() == (
            f"remora: --listen 127.0.0.1:{address[1]}: address already in use; choose another address\n"
        )


def test_a_reserved_port_is_a_number_and_takes_no_connections() -> None:
    held, (host, port) = reserve(("127.0.0.1", 0))
    with held:
        assert port > 0
        with socket.socket() as client:
            assert client.connect_ex((host, port)) != 0
        # a worker can listen there
        with (
            socket.create_server((host, port), reuse_port=True),
            socket.create_connection((host, port)),
            pytest.raises(SettingsError, match="in use"),
        ):
            reserve((host, port))
