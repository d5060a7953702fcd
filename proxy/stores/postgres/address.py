"""Where the database is: the URL taken apart, and how it is named to people, without what is secret in it."""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from proxy.errors import SettingsError

SCHEMA = "remora"
CONNECTIONS = 8
MOST_CONNECTIONS = 100


class Address(NamedTuple):
    dsn: str
    """For the driver, credentials included."""
    shown: str
    """For messages: no user, no password, no options."""
    schema: str = SCHEMA
    connections: int = CONNECTIONS
    """At most so many are open at once."""

    def __repr__(self) -> str:
        return f"Address({self.shown})"


def parse(url: str) -> Address:
    """Raises SettingsError in one line that does not repeat the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        raise _wrong("the URL cannot be read") from None
    if parts.scheme.lower() not in ("postgresql", "postgres"):
        raise _wrong("it starts with postgresql://")
    hosts = parts.netloc.rpartition("@")[2]
    host = dict(options).get("host", "")
    if not hosts and not host:
        raise _wrong("it names no host")
    for each in hosts.split(",") if hosts else ():
        port = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d+))?", each)
        if not port or int(port[2] or 1) not in range(1, 65536):
            raise _wrong("a host has a port from 1 to 65535, or none")
    if parts.fragment or "\0" in url:
        raise _wrong("a # in a password is written %23")
    schema, connections, kept = SCHEMA, CONNECTIONS, []
    for name, value in options:
        if name == "schema":
            if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value) or value.startswith("pg_"):
                raise _wrong("schema is a name of small letters, digits and _")
            schema = value
        elif name == "connections":
            if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= MOST_CONNECTIONS:
                raise _wrong(f"connections is a number from 1 to {MOST_CONNECTIONS}")
            connections = int(value)
        else:
            kept.append((name, value))
    database = parts.path.lstrip("/") or dict(options).get("dbname") or dict(options).get("database") or ""
    where = f"{hosts or host}/{database}".rstrip("/")
    dsn = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(kept), ""))
    return Address(dsn, f"PostgreSQL at {where}", schema, connections)


def _wrong(why: str) -> SettingsError:
    return SettingsError(
        f"store: {why}; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, perhaps with ?schema=NAME&connections=N"
    )
