"""One process per worker on one address, restarted when it dies; the admin listener for all of them.

Each worker listens for itself (SO_REUSEPORT), so no request passes through here. Until the first has begun to listen, a
worker that ends is the end of everything, with its exit status: a wrong setting is told once. Afterwards the settings
are known to be right, and whatever ends a worker may pass.
"""

import asyncio
import signal
import socket
import sys
from contextlib import AsyncExitStack

import msgspec

from proxy.app import STOPPING, load, not_reloaded, reloaded, say, start_line
from proxy.errors import SettingsError
from proxy.policy import Policies
from proxy.server.admin import STORE_ANSWERS_S, Admin
from proxy.server.handler import CLOSE_S
from proxy.server.listen import listen, unusable
from proxy.server.routes import admin_app
from proxy.settings import Settings
from proxy.stores import open_store
from proxy.worker import packed

PAUSE_S = 0.1
"""Before a worker that died gets a successor; twice as long each time when it dies soon, at most ..."""
PAUSE_AT_MOST_S = 5.0
SOON_S = 10.0
ANSWERS_S = STORE_ANSWERS_S + 1.0
STOP_SLACK_S = 5.0
"""What a worker gets beyond the bounds that it knows itself, to close its store, before it is killed."""


async def supervise(settings: Settings, policies: Policies) -> int:
    """Serves with `settings.workers` processes until SIGTERM or SIGINT; returns the exit status. Raises SettingsError
    before anything is served."""
    async with AsyncExitStack() as stack:
        held, bound = reserve(settings.listen)
        stack.callback(held.close)
        crew = Crew(msgspec.structs.replace(settings, listen=(settings.listen[0], bound[1])), policies)
        admin = await listen(admin_app(Admin(crew.hindrance)), settings.admin, "--admin", stack, stop_timeout_s=1.0)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, crew.stop)
        loop.add_signal_handler(signal.SIGINT, crew.stop)
        loop.add_signal_handler(signal.SIGHUP, crew.reload)
        return await crew.run(start_line(settings, policies, bound, admin))


def reserve(address: tuple[str, int]) -> tuple[socket.socket, tuple[str, int]]:
    """A socket that holds `address` for processes of ours and takes no connections itself; and what was bound, where a
    port 0 has become a number. Raises SettingsError when somebody listens there, or the system cannot share ports."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise SettingsError("--workers: this system cannot share a port among processes; use one worker")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        # workers of another supervisor would share theirs with ours, and two stores would answer in turns
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(place)
    except OSError as error:
        raise unusable("--listen", address, error) from None
    bound: tuple[str, int] = held.getsockname()[:2]
    return held, bound


class Crew:
    """The workers, and what is true of all of them."""

    def __init__(self, settings: Settings, policies: Policies) -> None:
        self._settings = settings
        self._policies = policies
        self._places: list[Worker | None] = [None] * settings.workers
        """Who listens at each place."""
        self._alive: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()

    async def run(self, start_line: str) -> int:
        """Keeps every place filled until `stop`; says `start_line` when all listen."""
        keepers: list[asyncio.Task[None]] = []
        try:
            # the first alone: it makes the store's tables, and tells what is wrong with the settings
            numbers = range(len(self._places))
            for group in (numbers[:1], numbers[1:]):
                begun = await asyncio.gather(*(self._begin(number) for number in group))
                for number, worker in zip(group, begun, strict=True):
                    if isinstance(worker, Worker):
                        keepers.append(asyncio.create_task(self._keep(number, worker)))
                    elif not self._stopping.is_set():
                        return max(worker, 1)
            if not self._stopping.is_set():
                say(start_line)
            await self._stopping.wait()
        finally:
            clean = await self._end(keepers)
        return 0 if clean else 1

    def stop(self) -> None:
        """No worker gets a successor; those that run end as on SIGTERM."""
        if self._stopping.is_set():
            return
        say(STOPPING)
        self._stopping.set()
        for process in self._alive:
            _send(process, signal.SIGTERM)

    def reload(self) -> None:
        """Policies are read and checked here once; wrong ones never reach a worker, nor a later one."""
        try:
            self._policies = load(self._settings, open_store(self._settings.store))
        except SettingsError as error:
            say(not_reloaded(error))
            return
        say(reloaded(self._policies))
        for worker in self._places:
            if worker is not None:
                worker.told(self._policies)

    async def hindrance(self) -> str:
        """Why not every worker can serve, "" while all can."""
        if self._stopping.is_set():
            return "stopping"
        reasons = await asyncio.gather(*(self._hindrance(place) for place in self._places))
        return "; ".join(f"worker {number}: {reason}" for number, reason in enumerate(reasons, 1) if reason)

    async def _hindrance(self, worker: "Worker | None") -> str:
        return "not running" if worker is None else await worker.hindrance()

    async def _begin(self, number: int) -> "Worker | int":
        """Starts a worker; returns it when it listens, or its exit status. Raises OSError when the system has no room
        for one more."""
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=ours)
            descriptor = theirs.fileno()
            command = (sys.executable, "-m", "proxy.worker", str(descriptor))
            try:
                # a session of its own: what a terminal signals to all of its group, the supervisor alone passes on
                process = await asyncio.create_subprocess_exec(
                    *command, pass_fds=(descriptor,), stdin=asyncio.subprocess.DEVNULL, start_new_session=True
                )
            except OSError:
                writer.close()
                raise
        self._alive.add(process)
        if self._stopping.is_set():
            _send(process, signal.SIGTERM)
        policies = self._policies
        try:
            writer.write(packed(self._settings, policies))
            listens = await reader.readline()
        except ConnectionError:
            listens = b""
        if not listens:
            writer.close()
            status = await process.wait()
            self._alive.discard(process)
            return status
        worker = self._places[number] = Worker(process, reader, writer, policies)
        worker.told(self._policies)
        return worker

    async def _keep(self, number: int, worker: "Worker | int | OSError") -> None:
        """Fills a place again and again, until the end of everything."""
        loop = asyncio.get_running_loop()
        pause_s = PAUSE_S
        while True:
            began = loop.time()
            if isinstance(worker, Worker):
                end: int | OSError = await worker.ended()
                self._places[number] = None
                self._alive.discard(worker.process)
            else:
                end = worker
            if self._stopping.is_set():
                return
            pause_s = PAUSE_S if loop.time() - began > SOON_S else pause_s
            say(f"worker {number + 1} {_how(end)}; another starts in {pause_s:g} s")
            try:
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
                return
            except TimeoutError:
                pause_s = min(2 * pause_s, PAUSE_AT_MOST_S)
            try:
                worker = await self._begin(number)
            except OSError as error:
                worker = error

    async def _end(self, keepers: "list[asyncio.Task[None]]") -> bool:
        """Waits for all workers, within their bounds; False if one had to be killed."""
        self._stopping.set()
        for process in self._alive:
            _send(process, signal.SIGTERM)
        left = set(keepers) | {asyncio.ensure_future(process.wait()) for process in self._alive}
        if left:
            _, left = await asyncio.wait(left, timeout=self._settings.stop_timeout_s + CLOSE_S + STOP_SLACK_S)
        for process in self._alive if left else ():
            say(f"worker process {process.pid} did not stop and is killed")
            _send(process, signal.SIGKILL)
        await asyncio.gather(*keepers, *left)
        return not left


class Worker:
    """A process that listens."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        policies: Policies,
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer
        self._policies = policies
        self._asked: asyncio.Task[bytes] | None = None

    def told(self, policies: Policies) -> None:
        """Makes it read the policy files again, unless it has begun with `policies`."""
        if policies is not self._policies:
            self._policies = policies
            _send(self.process, signal.SIGHUP)

    async def hindrance(self) -> str:
        """Why it cannot serve, "" if it can. Who asks while it is being asked gets the same answer."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._ask())
        answered, _ = await asyncio.wait((self._asked,), timeout=ANSWERS_S)
        if not answered:
            return "does not answer"
        line = self._asked.result() if not self._asked.cancelled() else b""
        return line.decode().strip() if line else "not running"

    async def _ask(self) -> bytes:
        try:
            self._writer.write(b"?")
            return await self._reader.readline()
        except ConnectionError:
            return b""

    async def ended(self) -> int:
        """Waits for its end; returns its exit status."""
        status = await self.process.wait()
        self._writer.close()
        if self._asked is not None:
            self._asked.cancel()
        return status


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(number)


def _how(end: int | OSError) -> str:
    if isinstance(end, OSError):
        return f"cannot be started ({(end.strerror or type(end).__name__).lower()})"
    status = end
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
