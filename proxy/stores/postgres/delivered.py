"""Replays that may be forgotten, gathered until some can be forgotten together."""

import asyncio
from collections.abc import Callable

from proxy.stores.contract import Ref

AFTER_S = 1.0
MOST = 10_000


class Delivered:
    """A pair is in it until the database knows of it, or it means nothing any more."""

    def __init__(self) -> None:
        self._waiting: dict[Ref, dict[str, float]] = {}
        """When each was delivered."""
        self._sent: dict[Ref, dict[str, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, pair: tuple[Ref, str]) -> bool:
        ref, key = pair
        return key in self._waiting.get(ref, ()) or key in self._sent.get(ref, ())

    def add(self, ref: Ref, key: str, now: float, flush: Callable[[], None]) -> None:
        """`flush` is called some time later. What is too much is passed over: it stays until its ref moves on."""
        if len(self._waiting) < MOST:
            self._waiting.setdefault(ref, {})[key] = now
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(AFTER_S, self._fire, flush)

    def _fire(self, flush: Callable[[], None]) -> None:
        self._timer = None
        flush()

    def forget(self, ref: Ref) -> None:
        """The ref has moved on."""
        self._waiting.pop(ref, None)
        self._sent.pop(ref, None)

    def take(self, now: float) -> tuple[list[int], list[Ref], list[str]] | None:
        """All that waits: for each pair how many milliseconds ago it was delivered. Then call `done`. None: nothing
        waits, or what was taken before is not done."""
        if not self._waiting or self._sent:
            return None
        self._sent, self._waiting = self._waiting, {}
        all = [(ref, key, int((now - at) * 1000)) for ref, keys in self._sent.items() for key, at in keys.items()]
        return [age for _, _, age in all], [ref for ref, _, _ in all], [key for _, key, _ in all]

    def done(self) -> None:
        self._sent = {}

    def cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
