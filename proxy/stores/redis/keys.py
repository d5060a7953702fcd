"""What things are called in Redis. No name of a tenant or a session stands in a key."""

import os
from hashlib import blake2b

from proxy.stores.contract import Ref, tag


class Keys:
    """All keys of a ref have the same hash tag, so a cluster keeps them on one node."""

    def __init__(self, space: str, secret: bytes) -> None:
        self._space = space.encode()
        self._key = blake2b(secret, digest_size=32, person=b"remora keys").digest()
        self.listed = self._space + b":list"
        """A sorted set of all sessions' `rows.member`, in that order."""
        self.due = self._space + b":due"
        """A sorted set of `tag` and generation of the refs that hold something that ends, scored by when the sweep is
        to look at them (never later than the first thing ends)."""

        self.runs = self._space + b":runs"
        """A sorted set of `tag` and entry of the runs that go on, scored by a time at or before the last sign of
        life; some that have ended may still stand in it."""
        self.moved = self._space + b":moved"
        """The channel on which those who wait in lines are told."""

    def labels(self, tenant: str, kind: str) -> bytes:
        """A sorted set of the tenant's labelled refs of this kind, scored by when they were made; in a cluster each may
        lie on another node than its refs, so what stands in it is looked up there."""
        return b"%b:labels:%b" % (self._space, self._hash(f"{kind}\0{tenant}"))

    def tag(self, ref: Ref) -> bytes:
        return self.tag_of(ref.tenant, tag(ref))

    def tag_of(self, tenant: str, tag: str) -> bytes:
        """From what ids that clients hold say, so that those are found in one step. Two refs of one tenant would share
        keys if the contract's tags, of 64 bits, were the same: at ten million refs that happens three times in a
        million such tenants."""
        return self._hash(f"{tag} {tenant}")

    def _hash(self, text: str) -> bytes:
        return blake2b(text.encode(), key=self._key, digest_size=16).hexdigest().encode()

    def main(self, tag: bytes) -> bytes:
        return b"%b:{%b}" % (self._space, tag)


TAG_BYTES = 32


def secret_key(space: str) -> str:
    return f"{space}:secret"


def model_key(model: str) -> bytes:
    return blake2b(model.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest().encode()


def generation(now_ms: int) -> bytes:
    """The time, then chance; 24 hex digits."""
    return b"%012x%b" % (now_ms, os.urandom(6).hex().encode())


def born_ms(generation: bytes) -> int:
    return int(generation[:12], 16)
