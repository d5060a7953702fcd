"""A store in one SQLite file, for one machine: any number of processes may share it."""

from proxy.stores.sqlite.store import SqliteStore, from_url

__all__ = ["SqliteStore", "from_url"]
