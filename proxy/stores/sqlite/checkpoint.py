"""Moves what the log (WAL) holds into the file, off the path of requests, in a thread and a connection of its own."""

import sqlite3
import threading
from pathlib import Path

from proxy.errors import StoreUnavailable
from proxy.stores.sqlite.link import Link

EVERY_BYTES = 8 * 1024 * 1024
LARGE_BYTES = 64 * 1024 * 1024
IDLE_S = 5.0
RETRY_S = 0.2
RETRIES = 25


class Checkpointer:
    """Any thread may call `wrote`, `scrub` and `stop`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._wake = threading.Event()
        self._bytes = 0
        self._scrub = 0
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="remora-store-checkpoint", daemon=True)
        self._thread.start()

    def wrote(self, bytes: int) -> None:
        self._bytes += bytes
        if self._bytes > EVERY_BYTES:
            self._bytes = 0
            self._wake.set()

    def scrub(self) -> None:
        """Content was removed: empty the log soon, which still holds it."""
        self._scrub = RETRIES
        self._wake.set()

    def stop(self) -> None:
        """Empties the log if it can, and ends. Returns when that is done."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop:
            pause = RETRY_S if self._scrub else IDLE_S if self._log_bytes() > LARGE_BYTES else None
            woken = self._wake.wait(pause)
            self._wake.clear()
            if self._stop:
                break
            if self._scrub:
                self._scrub -= 1
                if self._checkpoint("TRUNCATE"):
                    self._scrub = 0
            elif not woken:
                self._checkpoint("TRUNCATE")
            elif not self._checkpoint("PASSIVE") and self._log_bytes() > LARGE_BYTES:
                # the log begins anew only when all of it was moved, and under a steady load there is always more
                self._checkpoint("RESTART")
        self._checkpoint("TRUNCATE")
        self._link.drop()

    def _checkpoint(self, mode: str) -> bool:
        """True if the log was moved to its end."""
        try:
            db = self._link.get()
            db.execute("PRAGMA busy_timeout = 200")
            busy, pages, moved = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except (sqlite3.Error, StoreUnavailable):
            # nothing is lost by a checkpoint that fails; the writer tells of a disk that does
            self._link.drop()
            return False
        return not busy and pages == moved

    def _log_bytes(self) -> int:
        try:
            return Path(self._link.path + "-wal").stat().st_size
        except OSError:
            return 0
