"""What a server's refusals mean to who reads a log: one clear line, without content and without credentials."""

import ssl
from typing import Final

from proxy.errors import StoreUnavailable
from proxy.stores.redis.address import Address

LOADING: Final = "is loading its data"

MEANINGS: Final = {
    "OOM": "is out of memory; give it more (maxmemory), or let sessions expire",
    "READONLY": "is a read-only replica; name the primary in the store's URL, or wait for the failover",
    "LOADING": f"{LOADING} after a start; wait until it has",
    "MISCONF": "cannot write its data to disk; look at its log and free some space",
    "MASTERDOWN": "is a replica that lost its primary; check the primary",
    "CLUSTERDOWN": "is a cluster that is down; check its nodes",
    "TRYAGAIN": "is moving these keys to another node; try again",
    "NOREPLICAS": "has too few replicas in reach to write (min-replicas-to-write); check them",
    "BUSY": "is busy with another program's script; end it with SCRIPT KILL",
    "NOAUTH": "wants a password; put it into the store's URL",
    "WRONGPASS": "does not take the user and password of the store's URL; correct them",
    "NOPERM": "does not let this user do what the store needs; see its ACL rules",
}
WRONG_PASSWORD: Final = ("ERR AUTH", "ERR invalid password")
ELSEWHERE: Final = frozenset({"READONLY", "MASTERDOWN"})


class Refusal(StoreUnavailable):
    """The server answered, but did not do it; nothing of it was done."""

    def __init__(self, text: str, address: Address) -> None:
        super().__init__(meaning(text, address))
        self.text = text
        self.kind = text.partition(" ")[0]
        """The first word of what the server said."""

    @property
    def elsewhere(self) -> bool:
        """Another server must do it."""
        return self.kind in ELSEWHERE


def meaning(text: str, address: Address) -> str:
    kind = text.partition(" ")[0]
    if kind in MEANINGS:
        return f"Redis at {address} {MEANINGS[kind]}."
    if text.startswith(WRONG_PASSWORD):
        return f"Redis at {address} {MEANINGS['WRONGPASS']}."
    if "max number of clients" in text:
        return f"Redis at {address} takes no more clients (maxclients); raise it, or close some."
    # the rest of the text may quote what was sent
    return f"Redis at {address} refused a command ({kind}); it must be Redis or Valkey 7 or newer."


def unreachable(failure: OSError) -> str:
    """Why no connection came about."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        why = failure.verify_message.rstrip(".")
        return f"shows a certificate that is not trusted ({why}); check ssl_ca_certs and the host in the store's URL"
    if isinstance(failure, ssl.SSLError):
        why = (failure.reason or type(failure).__name__).replace("_", " ").lower()
        return f"does not speak TLS as it should ({why}); check the port and its settings"
    return f"cannot be reached ({failure.strerror or type(failure).__name__}); check the server"
