"""Whose data a request is about: the name of its proxy key, a keyed hash of its credential, a header, or one for all."""

import hmac
from hashlib import sha256

import msgspec
from multidict import CIMultiDictProxy

from proxy.errors import InvalidHeader, Unauthorized

TENANT_LENGTH = 256


class Tenant(msgspec.Struct, frozen=True):
    name: str
    digest_key: bytes
    """For the digests of this tenant's messages: equal messages of two tenants have different digests."""


class Tenants:
    """Derives the tenant of each request. Keeps no credential, only hashes of the proxy's own keys."""

    def __init__(self, mode: str, api_keys: tuple[tuple[str, str], ...], secret: bytes) -> None:
        """`mode`: `credential`, `shared` or `header:NAME`. `api_keys`: (name, key). `secret`: the store's."""
        self._mode = mode
        self._header = mode.partition(":")[2]
        self._secret = secret
        self._names = {sha256(key.encode()).digest(): name for name, key in api_keys}

    def admit(self, key: str | None) -> str | None:
        """The name of the proxy key `key`, None where the proxy has no keys. Raises Unauthorized.

        Compared by hash, so that the time it takes says nothing about a key.
        """
        if not self._names:
            return None
        name = self._names.get(sha256((key or "").encode(errors="surrogateescape")).digest())
        if name is None:
            raise Unauthorized("Wrong or missing proxy key; send one of this proxy's keys as the API key.")
        return name

    def of(self, key: str | None, headers: CIMultiDictProxy[str]) -> Tenant:
        """The tenant of a request that carries the credential `key`. Raises Unauthorized, InvalidHeader."""
        name = self.admit(key)
        if name is None:
            name = self._named(key, headers)
        return Tenant(name, hmac.digest(self._secret, b"digest\0" + name.encode(), "sha256"))

    def _named(self, key: str | None, headers: CIMultiDictProxy[str]) -> str:
        if self._mode == "shared":
            return "shared"
        if self._header:
            value = headers.get(self._header, "")
            if not (0 < len(value) <= TENANT_LENGTH and value.isascii() and value.isprintable()):
                raise InvalidHeader(f"Send the tenant in the {self._header} header: 1 to 256 printable ASCII characters.")
            return value
        if key is None:
            return "anonymous"
        return hmac.digest(self._secret, b"tenant\0" + key.encode(errors="surrogateescape"), "sha256")[:16].hex()
