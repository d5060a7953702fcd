"""What the driver's and the server's errors mean to who reads a log. No text of theirs is repeated:
it may quote values."""

import asyncpg

from proxy.errors import StoreUnavailable

MISTAKE = "RM001"
"""The SQLSTATE by which a function tells of a caller's mistake."""

_BY_STATE = {
    "25006": "is read-only; it may be a standby: name the primary, or add target_session_attrs=read-write",
    "42501": "does not allow this user to write; grant it the rights on the schema",
    "53100": "has a full disk; free some space on it",
    "53300": "has too many connections; raise max_connections, or lower connections=N in the store's URL",
    "55P03": "waits too long for a lock; look for a long transaction in pg_stat_activity",
    "40P01": "waits too long for a lock; look for a long transaction in pg_stat_activity",
    "57014": "takes too long to answer; look at its load and disk",
    "3D000": "has no such database; create it",
    "3F000": "has lost its tables; put a backup in their place",
    "42P01": "has lost its tables; put a backup in their place",
    "42883": "has lost its functions; put a backup in their place",
}
_BY_CLASS = {
    "08": "closed the connection; the next request connects again",
    "28": "refuses the user or password; check the store's URL",
    "40": "undid the transaction; send the request again",
    "53": "is out of memory, disk or another resource; look at its log",
    "57": "is starting or stopping; send the request again",
    "58": "has a disk that fails; look at its log",
    "XX": "has an internal error or damaged data; look at its log",
}
_STALE = frozenset({"25006"})
"""Found on a connection that is of no use any more, though it is open: the primary has moved."""


class Elsewhere(Exception):
    """Connected to, but not the database that was opened."""


def same(found: bytes | None, secret: bytes) -> None:
    """Raises Elsewhere if the secret that was found is not the store's."""
    if found != secret:
        raise Elsewhere


def meaning(error: BaseException) -> str | None:
    """What befell the server, as the end of a sentence that begins with its name; None: a mistake in this program."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return _BY_STATE.get(state) or _BY_CLASS.get(state[:2])
    if isinstance(error, Elsewhere):
        return "is not the database that was opened; restart Remora if that is meant"
    if isinstance(error, TimeoutError):
        return "does not answer in time; look at its load and the network"
    if isinstance(error, asyncpg.InternalClientError | asyncpg.InterfaceError) and not isinstance(error, ValueError):
        return "closed the connection; the next request connects again"
    if isinstance(error, ConnectionError | OSError):
        return "cannot be reached; check that it runs and that its address is right"
    return None


def unavailable(error: Exception, shown: str) -> StoreUnavailable | None:
    """The failure of the server that `error` tells of; None if it tells of a mistake in this program."""
    found = meaning(error)
    return StoreUnavailable(f"{shown} {found}.") if found else None


def of_one(error: BaseException | None) -> bool:
    """It befell one call of several, and would not befall the others: it waited for a lock."""
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in ("40", "55")


def stale(error: Exception) -> bool:
    """The connection is to be given up, though it works."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _STALE
