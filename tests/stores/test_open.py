"""The URL's scheme picks the store."""

import pytest

from proxy.errors import SettingsError
from proxy.stores import FACTORIES, is_shared, open_store
from proxy.stores.memory import MemoryStore
from proxy.stores.postgres.store import PostgresStore
from proxy.stores.redis.store import RedisStore
from proxy.stores.sqlite import SqliteStore


def test_the_scheme_picks_the_store() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    assert isinstance(open_store("sqlite:///remora.db"), SqliteStore)
    assert isinstance(open_store("SQLite:///remora.db"), SqliteStore)
    assert isinstance(open_store("postgresql://localhost/db"), PostgresStore)
    assert isinstance(open_store("redis://localhost"), RedisStore)


def test_no_error_shows_a_password() -> None:
    with pytest.raises(SettingsError) as error:
        open_store("mysql://user:hunter2@host/db")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("url", ["", "remora.db", "mysql://x", "sqlite", "/x/y", "C:\\remora.db"])
def test_an_unknown_scheme_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(SettingsError) as error:
        open_store(url)
    said = str(error.value)
    assert repr(url.partition(":")[0]) in said
    assert all(f"{scheme}:" in said for scheme in FACTORIES)
    assert "\n" not in said


def test_servers_are_shared() -> None:
    shared = {scheme for scheme in FACTORIES if is_shared(f"{scheme}://x")}
    assert shared == {"postgresql", "postgres", "redis", "rediss", "unix"}
