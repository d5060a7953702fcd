"""A store in a PostgreSQL database, for any number of replicas."""

from proxy.stores.postgres.store import PostgresStore
from proxy.stores.postgres.url import from_url

__all__ = ["PostgresStore", "from_url"]
