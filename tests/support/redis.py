"""A real `redis-server` for tests: in a temporary folder, on a private unix socket, gone when the tests are."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

START_S = 20.0


def binary() -> str:
    """Where the server is. Where there is none the test is skipped, but it fails with CI=true."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        reason = "no redis-server: install Debian's redis-server (or valkey) to run the tests of the Redis store"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


class Server:
    """`options` are lines of its configuration. What it wrote is in `log`."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self.folder = folder
        self.socket = str(folder / "s")
        self.port = port
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"unixsocket {self.socket}",
            "unixsocketperm 700",
            f"dir {self.folder}",
            f"logfile {self.folder / 'log'}",
            'save ""',
            *self.options,
        ]
        conf = self.folder / "redis.conf"
        conf.write_text("\n".join(lines) + "\n")
        Path(self.socket).unlink(missing_ok=True)
        # should the tests be killed, nobody else stops it
        leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self.process = subprocess.Popen(
            [*leash, binary(), str(conf)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                raise RuntimeError(f"redis-server did not start:\n{self.log if conf.with_name('log').exists() else ''}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            # asking for a password is an answer too; loading is none
            return self.call("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def call(self, *words: str) -> bytes:
        """The raw answer to one command, over the socket; for answers that are short."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(self.socket)
            sent = b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words)
            link.sendall(b"*%d\r\n%b" % (len(words), sent))
            return link.recv(1_000_000)

    def kill(self) -> None:
        """SIGKILL, and waits until it is dead."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def until(self, true: Callable[[], bool]) -> None:
        """Waits for what the server does by itself."""
        deadline = time.monotonic() + START_S
        while not true():
            if time.monotonic() > deadline:
                raise RuntimeError(f"it did not come true:\n{self.log}")
            time.sleep(0.01)

    def pause(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        self.process = None


def serve(*options: str, port: int = 0) -> Iterator[Server]:
    """For a fixture: a server that is stopped and removed at the end, whatever happens in between."""
    binary()
    # a socket's path must be short
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = Server(folder, *options, port=port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """One whose cluster bus (10,000 above) is free too."""
    for port in range(21_000, 29_000, 7):
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """Shared by all tests, each with its own prefix."""
    yield from serve("appendonly no", "databases 4")
