"""One thread's connection: made when it is needed, and made again after the file failed."""

import os
import sqlite3

from proxy.errors import StoreUnavailable
from proxy.stores.sqlite import schema


class Link:
    """Only `stale` may be set from another thread."""

    def __init__(self, path: str, secret: bytes, *, synchronous: str = "full", reads: bool = False) -> None:
        self.path = path
        self.stale = False
        """Connect again before the next use."""
        self._secret = secret
        self._synchronous = self._level = synchronous
        self._reads = reads
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)

    def get(self) -> sqlite3.Connection:
        """Raises StoreUnavailable or sqlite3.Error if there is no such file, or if it is not the one from the start."""
        if self.stale:
            self.drop()
            self.stale = False
        if self._connection is None:
            connection = schema.connect(self.path, synchronous=self._synchronous)
            try:
                self._check_secret(connection)
                self._file = self._seen()
                if self._reads:
                    connection.execute("PRAGMA query_only = ON")
                    connection.text_factory = bytes
                else:
                    # who writes waits for others in its own way
                    connection.execute("PRAGMA busy_timeout = 0")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._level = self._synchronous
        return self._connection

    def durable(self, durable: bool) -> None:
        """Whether what the transaction that begins next commits shall survive a power cut, as far as `synchronous`
        says; whatever is committed durably makes what went before it durable."""
        level = self._synchronous if durable else "normal"
        if level != self._level and self._connection is not None:
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._level = level

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def check(self) -> None:
        """Raises StoreUnavailable if the path no longer leads to the open file: what is written there is lost."""
        try:
            same = self._seen() == self._file
        except OSError:
            same = False
        if not same:
            self.drop()
            raise StoreUnavailable(f"{self.path} was removed or replaced while in use; put it back, or restart Remora.")

    def _seen(self) -> tuple[int, int]:
        found = os.stat(self.path)  # noqa: PTH116 - once a commit; pathlib takes twice as long
        return found.st_dev, found.st_ino

    def _check_secret(self, connection: sqlite3.Connection) -> None:
        try:
            same = schema.read_secret(connection) == self._secret
        except (sqlite3.OperationalError, TypeError) as error:
            if schema.unavailable(error, self.path):
                raise
            same = False
        if not same:
            raise StoreUnavailable(f"{self.path} is another database than before; put it back, or restart Remora.")
