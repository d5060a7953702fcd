"""The same request again: recognised, made to wait for the first one, and answered by the recorded reply.

A request is the same again when it carries the same `Idempotency-Key`, or when its SDK says that it is a retry
(`x-stainless-retry-count` above 0: the openai and anthropic SDKs) and its body is that of the head entry, whose reply
was never fully delivered.
"""

import asyncio
from hashlib import blake2b, sha256

import msgspec
from multidict import CIMultiDictProxy

from proxy.errors import IdempotencyKeyReused
from proxy.stores.contract import Ref, Replay, Store

IDEMPOTENCY_HEADER = "Idempotency-Key"
RETRY_HEADER = "x-stainless-retry-count"


class Attempt(msgspec.Struct, frozen=True):
    """What recognises a request."""

    key: str
    request: bytes
    """Hash of the body."""
    sticky: bool
    """By an idempotency key: the reply is kept for a day."""
    again: bool
    """It may be the same request again."""


def attempt(headers: CIMultiDictProxy[str], body: bytes) -> Attempt | None:
    """None for a client that never says whether it tries again."""
    idempotency = headers.get(IDEMPOTENCY_HEADER)
    count = headers.get(RETRY_HEADER)
    if idempotency is None and count is None:
        return None
    request = blake2b(body, digest_size=16).digest()
    if idempotency is not None:
        return Attempt(
            "k:" + sha256(idempotency.encode(errors="surrogateescape")).hexdigest()[:32], request, True, True
        )
    return Attempt("b:" + request.hex(), request, False, count != "0")


class Claim:
    """A recognisable request that runs now; others that are the same wait for its end."""

    __slots__ = ("_future", "_key", "_running")

    def __init__(self, running: "dict[tuple[Ref, str], Claim]", key: tuple[Ref, str]) -> None:
        self._running = running
        self._key = key
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        """Until it has ended. Cancelling the wait does not end it."""
        await asyncio.shield(self._future)

    def end(self) -> None:
        """What it recorded can be read now. May be called twice."""
        if self._running.get(self._key) is self:
            del self._running[self._key]
        if not self._future.done():
            self._future.set_result(None)


class Retries:
    """The recognisable requests that run now, so that a retry waits for the first instead of running beside it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: dict[tuple[Ref, str], Claim] = {}

    async def claim(self, ref: Ref, attempt: Attempt, timeout_s: float) -> Claim | Replay:
        """The reply to answer with, if this is the same request again and the first one was recorded; else a claim,
        to be ended when this request has run. Waits for the first one while it runs, `timeout_s` at most.

        Raises IdempotencyKeyReused, TimeoutError, StoreUnavailable.
        """
        key = ref, attempt.key
        if attempt.again:
            async with asyncio.timeout(timeout_s):
                # whoever wakes first claims the key, and the others wait for that one
                while (running := self._running.get(key)) is not None:
                    await running.wait()
        claim = self._running[key] = Claim(self._running, key)
        if not attempt.again:
            return claim
        try:
            replay = await self._store.find_replay(ref, attempt.key)
        except BaseException:
            claim.end()
            raise
        if replay is None:
            return claim
        claim.end()
        same(replay, attempt)
        return replay


def same(replay: Replay, attempt: Attempt) -> None:
    """Raises IdempotencyKeyReused where another request was recorded under the key."""
    if replay.request != attempt.request:
        raise IdempotencyKeyReused(
            f"This {IDEMPOTENCY_HEADER} was used for another request; send a new key with a new body."
        )
