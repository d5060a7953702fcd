"""A real PostgreSQL server for tests: in a folder of its own, on a socket that nobody else sees."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

START_S = 60.0


def binaries() -> Path | None:
    """The folder of the newest server that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return Path(path).resolve().parent if path else None


def need() -> Path:
    """Skips the test where no server is installed; fails it in CI."""
    found = binaries()
    if found is None:
        why = "no PostgreSQL server: install the package `postgresql` (its initdb is looked for)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found


def _user() -> str | None:
    """Whom the server runs as: it refuses root."""
    return "nobody" if os.getuid() == 0 else None


class Server:
    """`options` are lines of its configuration."""

    def __init__(self, folder: Path, bin: Path, *options: str) -> None:
        self.folder = folder
        self._bin = bin
        self._process: subprocess.Popen[bytes] | None = None
        self.data = folder / "data"
        if user := _user():
            shutil.chown(folder, user)
        command: list[str | Path] = [
            bin / "initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]
        done = subprocess.run(command, user=user, cwd=folder, env=self._env(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        lines = ["listen_addresses = ''", f"unix_socket_directories = '{folder}'", "max_connections = 200", *options]
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}

    def url(self, database: str = "postgres", **options: object) -> str:
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"postgresql://postgres@/{database}?host={quote(str(self.folder))}{more}"

    def start(self) -> None:
        """Returns when it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.data],
                user=_user(),
                cwd=self.folder,
                env=self._env(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while "ready" not in self._status():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def _status(self) -> str:
        """The last line of the file that the postmaster keeps."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()[-1]
        except (OSError, IndexError):
            return ""

    def sql(self, *statements: str, database: str = "postgres") -> str:
        """What psql prints."""
        command: list[str | Path] = [
            self._bin / "psql",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            self.folder,
            "-U",
            "postgres",
        ]
        for each in statements:
            command += ["-c", each]
        done = subprocess.run([*command, database], env=self._env(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def kill(self) -> None:
        """As a power cut does, all of its processes at once."""
        if self._process:
            children = self._children()
            self._process.kill()
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _children(self) -> list[str]:
        """Each of its processes leads a session of its own."""
        assert self._process
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            return path.read_text().split()
        except OSError:
            return []

    def signal(self, which: signal.Signals) -> None:
        """To the server and all of its processes."""
        assert self._process
        for pid in [str(self._process.pid), *self._children()]:
            os.kill(int(pid), which)

    def stop(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    """A server that is stopped and removed afterwards, whatever happens."""
    bin = need()
    folder = Path(tempfile.mkdtemp(prefix="remora-pg-"))
    server: Server | None = None
    try:
        server = Server(folder, bin, *options)
        server.start()
        yield server
    finally:
        if server:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


QUICK = ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "autovacuum = off")
"""For tests that do not cut the power."""
