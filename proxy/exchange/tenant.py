"""Whose data a request is about: its proxy key's name, a keyed hash of its credential, a header, or one for all."""

from functools import lru_cache
from hashlib import blake2b, sha256

import msgspec
from multidict import CIMultiDictProxy

from proxy.errors import InvalidHeader, Unauthorized

TENANT_LENGTH = 256


class Tenant(msgspec.Struct, frozen=True):
    name: str
    shown: str
    """The name for logs: "" where it is the hash of a credential, which never leaves the store."""
    digest_key: bytes
    """For the digests of this tenant's messages: equal messages of two tenants have different digests."""


class Tenants:
    """Derives the tenant of each request. Keeps no credential, only hashes of the proxy's own keys."""

    def __init__(self, mode: str, api_keys: tuple[tuple[str, str], ...], secret: bytes) -> None:
        """`mode`: `credential`, `shared` or `header:NAME`. `api_keys`: (name, key). `secret`: the store's."""
        self._mode = mode
        self._header = mode.partition(":")[2]
        self._secret = secret
        # what is asked for on every request; remembered in memory only, for the busiest
        self._hashed = lru_cache(maxsize=1024)(lambda key: self._keyed(b"tenant\0", key)[:16].hex())
        self._tenant = lru_cache(maxsize=1024)(lambda name, shown: Tenant(name, shown, self._keyed(b"digest\0", name)))
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
        if name is not None:
            return self._tenant(name, name)
        if self._mode == "shared":
            return self._tenant("shared", "shared")
        if self._header:
            value = headers.get(self._header, "")
            if not (0 < len(value) <= TENANT_LENGTH and value.isascii() and value.isprintable()):
                raise InvalidHeader(
                    f"Send the tenant in the {self._header} header: 1 to 256 printable ASCII characters."
                )
            return self._tenant(value, value)
        return self._tenant("anonymous", "anonymous") if key is None else self._tenant(self._hashed(key), "")

    def _keyed(self, what: bytes, value: str) -> bytes:
        return blake2b(what + value.encode(errors="surrogateescape"), key=self._secret, digest_size=32).digest()
