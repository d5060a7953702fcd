"""Where it is kept: the URL's scheme picks the file."""

from collections.abc import Callable

from proxy.errors import SettingsError
from proxy.stores import memory, sqlite
from proxy.stores.contract import Store

FACTORIES: dict[str, Callable[[str], Store]] = {
    "memory": memory.from_url,
    "sqlite": sqlite.from_url,
}


def open_store(url: str) -> Store:
    """The store that `url` names, not opened yet: `memory:` or `sqlite:///FILE` (see `sqlite.from_url`).
    Raises SettingsError in one line for a URL that names none."""
    scheme, colon, _ = url.partition(":")
    factory = FACTORIES.get(scheme.lower()) if colon else None
    if factory is None:
        known = ", ".join(f"{name}:" for name in FACTORIES)
        raise SettingsError(f"store: {url!r} names no store; it starts with one of {known} (sqlite:///remora.db)")
    return factory(url)
