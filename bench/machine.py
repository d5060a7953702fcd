"""What it was measured on: versions, processor, disk, and how much of the machine others took."""

import os
import platform
import sqlite3
import time
from importlib.metadata import version
from pathlib import Path


def machine_line(folder: Path) -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    cores = len(os.sched_getaffinity(0))
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{model}, {cores} cores, {memory_gb:.0f} GB, Linux {platform.release()}; "
        f"fsync of 4 KB {fsync_ms(folder):.2f} ms (median)"
    )


def versions_line() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "uvloop", "msgspec", "tiktoken"))
    return f"Python {platform.python_version()}, {packages}, SQLite {sqlite3.sqlite_version}"


def fsync_ms(folder: Path) -> float:
    """Of an append of one page, as a database's log does it."""
    times = []
    path = folder / "fsync.probe"
    with path.open("wb") as file:
        for _ in range(51):
            file.write(b"\0" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return sorted(times)[25] * 1000


class Machine:
    """How busy the whole machine is, from /proc/stat."""

    def __init__(self) -> None:
        self._before = self._read()

    @staticmethod
    def _read() -> tuple[int, int, int]:
        fields = [int(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4], fields[7]

    def line(self) -> str:
        """Since this object was made."""
        total, idle, steal = (now - before for now, before in zip(self._read(), self._before, strict=True))
        return f"machine busy {100 * (total - idle) / max(1, total):.0f} %, stolen {100 * steal / max(1, total):.0f} %"
