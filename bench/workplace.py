"""A folder on this disk and the processes that work in it; both are gone afterwards."""

import contextlib
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.measure import say
from bench.procs import Processes

HERE = Path(__file__).resolve().parent


@contextlib.contextmanager
def workplace() -> Iterator[tuple[Path, Processes]]:
    """Not in the system's folder for temporary files: that may be in memory, where an fsync costs nothing."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 4096:
        say(f"only {hard} open files are allowed; a thousand streams need some 4,096")
    with (
        tempfile.TemporaryDirectory(prefix=".run-", dir=HERE, ignore_cleanup_errors=True) as name,
        Processes(Path(name)) as processes,
    ):
        yield Path(name), processes
