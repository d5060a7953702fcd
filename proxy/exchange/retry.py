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


class Retries:
    """The recognisable requests that run now, so that a retry waits for the first instead of running beside it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: dict[tuple[Ref, str], asyncio.Future[None]] = {}

    async def recorded(self, ref: Ref, attempt: Attempt, timeout_s: float) -> Replay | None:
        """The reply to answer with, after waiting for the first request while it runs, `timeout_s` at most; None if
        this is a request of its own.

        Raises IdempotencyKeyReused, TimeoutError, StoreUnavailable.
        """
        running = self._running.get((ref, attempt.key))
        if running is not None:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(running)
        replay = await self._store.find_replay(ref, attempt.key)
        if replay is not None and replay.request != attempt.request:
            raise IdempotencyKeyReused(
                f"This {IDEMPOTENCY_HEADER} was used for another request; send a new key with a new body."
            )
        return replay

    def begin(self, ref: Ref, attempt: Attempt) -> "asyncio.Future[None]":
        """The request runs from now on, until `end`."""
        done = asyncio.get_running_loop().create_future()
        self._running[ref, attempt.key] = done
        return done

    def end(self, ref: Ref, attempt: Attempt, done: "asyncio.Future[None]") -> None:
        if self._running.get((ref, attempt.key)) is done:
            del self._running[ref, attempt.key]
        if not done.done():
            done.set_result(None)
