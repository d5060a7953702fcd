"""A store in plain dicts: for tests and for trying things. All is gone when the process ends."""

from proxy.stores.memory.store import MemoryStore, from_url

__all__ = ["MemoryStore", "from_url"]
