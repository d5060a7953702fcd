"""Where it is kept: the URL's scheme picks the file."""

from collections.abc import Callable

from proxy.errors import SettingsError
from proxy.stores import memory, postgres, redis, sqlite
from proxy.stores.contract import Store

FACTORIES: dict[str, Callable[[str], Store]] = {
    "memory": memory.from_url,
    "sqlite": sqlite.from_url,
    "postgresql": postgres.from_url,
    "postgres": postgres.from_url,
    "redis": redis.from_url,
    "rediss": redis.from_url,
    "unix": redis.from_url,
}


def open_store(url: str) -> Store:
    """The store that `url` names, not opened yet: `memory:`, `sqlite:///FILE`, `postgresql://…`, `redis://…`; see the
    `from_url` of each. Raises SettingsError in one line for a URL that names none."""
    scheme, colon, _ = url.partition(":")
    factory = FACTORIES.get(scheme.lower()) if colon else None
    if factory is None:
        known = ", ".join(f"{name}:" for name in FACTORIES)
        # not the URL itself: it may hold a password
        raise SettingsError(
            f"store: {scheme[:20]!r} names no store; it starts with one of {known} (sqlite:///remora.db)"
        )
    return factory(url)


def is_shared(url: str) -> bool:
    """Other processes work on the same store, as a rule: it is a server."""
    return url.partition(":")[0].lower() not in ("memory", "sqlite")
