"""Where the server is: what a `redis:`, `rediss:` or `unix:` URL says."""

import ssl
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from proxy.errors import SettingsError

PORT = 6379
TIMEOUT_S = 5.0
SPACE = "remora"
OPTIONS = "prefix, timeout, db, ssl_ca_certs"


class Address(msgspec.Struct, frozen=True):
    host: str
    """"" for a unix socket."""
    port: int
    path: str
    """Of a unix socket, else ""."""
    user: str = ""
    password: str = ""
    db: int = 0
    tls: bool = False
    ca: str = ""
    """A file of certificates that are trusted instead of the system's."""
    space: str = SPACE
    """All keys start with it, so that several stores can share a server."""
    timeout_s: float = TIMEOUT_S
    """How long connecting, and any one answer, may take."""

    def __str__(self) -> str:
        """For errors: without credentials."""
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")

    def at(self, host: str, port: int) -> "Address":
        """Another node of the same cluster."""
        return msgspec.structs.replace(self, host=host, port=port, path="")

    def context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=self.ca or None) if self.tls else None


def parse(url: str) -> Address:
    """`redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…` (TLS), `unix://[USER:PASSWORD@]/PATH`; options behind
    `?`: `prefix=remora`, `timeout=5` (seconds), `db=0`, `ssl_ca_certs=FILE`. Raises SettingsError in one line, in which
    no credentials stand."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORT
    except ValueError as error:
        raise SettingsError(f"store: the redis URL cannot be read: {error}") from None
    scheme = parts.scheme.lower()
    shown = f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    path, db = "", 0
    if scheme == "unix":
        path, host, port = unquote(parts.path), "", 0
        if not path or parts.netloc.rpartition("@")[2] or "\0" in path:
            raise SettingsError(f"store: {shown!r}: write unix:///PATH/TO/SOCKET")
    else:
        number = parts.path.strip("/")
        if not host or not (number == "" or number.isdecimal()):
            raise SettingsError(f"store: {shown!r}: write {scheme}://HOST:PORT/0, or unix:///PATH/TO/SOCKET")
        db = int(number or 0)
    if parts.fragment:
        raise SettingsError(f"store: {shown!r}: write %23 for a # in it")
    address = Address(
        host,
        port,
        path,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        db,
        scheme == "rediss",
    )
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        address = _with(address, name, value, shown)
    return address


def _with(address: Address, name: str, value: str, shown: str) -> Address:
    if name == "prefix" and value and not set(value) & set("{}"):
        return msgspec.structs.replace(address, space=value)
    if name == "timeout":
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if 0 < seconds <= 600:
            return msgspec.structs.replace(address, timeout_s=seconds)
        raise SettingsError(f"store: {shown!r}: timeout is a number of seconds up to 600, not {value!r}")
    if name == "db" and value.isdecimal():
        return msgspec.structs.replace(address, db=int(value))
    if name == "ssl_ca_certs" and value and address.tls:
        return msgspec.structs.replace(address, ca=value)
    raise SettingsError(f"store: {shown!r}: the option {name!r} is unknown or has no such value; there are {OPTIONS}")
