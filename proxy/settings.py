"""Flags and REMORA_* variables -> one frozen value. A flag beats its variable, a variable beats the default."""

from typing import Literal

import msgspec


class Settings(msgspec.Struct, frozen=True):
    upstream: str
    """`http(s)://…`, the part before the request's own path, or `echo:`."""
    listen: tuple[str, int] = ("127.0.0.1", 8080)
    admin: tuple[str, int] = ("127.0.0.1", 9901)
    store: str = "sqlite:///remora.db"
    policies: str = "policies"
    upstream_api_key: str = ""
    api_keys: tuple[tuple[str, str], ...] = ()
    """(name, key); the name is the tenant."""
    tenant: Literal["credential", "shared"] | str = "credential"
    """`credential`, `shared` or `header:NAME`."""
    connect_timeout_s: float = 10.0
    first_byte_timeout_s: float = 600.0
    idle_timeout_s: float = 300.0
    stop_timeout_s: float = 30.0
    """How long running exchanges may take to end after SIGTERM."""
    max_body_bytes: int = 32 * 1024 * 1024
