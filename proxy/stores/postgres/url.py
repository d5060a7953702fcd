"""The store that a URL names."""

from proxy.stores.postgres.address import parse
from proxy.stores.postgres.store import PostgresStore


def from_url(url: str) -> PostgresStore:
    """`postgresql://USER:PASSWORD@HOST:PORT/DATABASE` (or `postgres://`), with what the driver takes behind a `?`
    (`sslmode`, `host=/folder/of/a/socket`, `target_session_attrs`), and two options of the store's own: `schema=NAME`
    (`remora`) holds its tables, and at most `connections=N` (8) are open at once. Raises SettingsError in one line,
    without the URL: it may hold a password."""
    return PostgresStore(parse(url))
