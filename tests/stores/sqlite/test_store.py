"""The store in a SQLite file keeps the laws."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from proxy.stores.sqlite import SqliteStore
from tests.stores.contract import Factory, Laws


class TestSqlite(Laws):
    @pytest.fixture
    def factory(self, tmp_path: Path) -> Factory:
        numbers = count()

        def make(now: Callable[[], float]) -> SqliteStore:
            return SqliteStore(str(tmp_path / f"{next(numbers)}.db"), synchronous="normal", now=now)

        return make
