"""One server for all tests of the store, started when the first one asks for it."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.support.postgres import QUICK, Server, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving(*QUICK) as server:
        yield server


_numbers = count()


@pytest.fixture
def fresh(server: Server) -> Iterator[Callable[[], str]]:
    """Makes URLs, each of tables of its own that are dropped afterwards."""
    made: list[str] = []

    def make() -> str:
        made.append(f"t{next(_numbers)}")
        return server.url(schema=made[-1])

    yield make
    if made:
        # a test that failed may have left stores open: the next one shall not suffer from it
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'remora'",
            "SET client_min_messages = error",
            *[f"DROP SCHEMA IF EXISTS {name} CASCADE" for name in made],
        )
