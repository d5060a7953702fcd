"""The store that a URL names."""

from proxy.stores.postgres import PostgresStore
from proxy.stores.postgres.url import from_url


def test_both_schemes_name_a_store_that_shows_no_password() -> None:
    for scheme in ("postgresql", "postgres", "PostgreSQL"):
        store = from_url(f"{scheme}://me:hunter2@db:5432/chats?connections=2")
        assert isinstance(store, PostgresStore)
        assert store.searches == {"keywords", "embeddings"}
        assert "hunter2" not in repr(store._address)
