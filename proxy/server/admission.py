"""How many requests may be under way at once; one more is refused at once, before anything is read of its body."""

import asyncio

from proxy.errors import Overloaded

RETRY_AFTER_S = 1


class Admission:
    """`with admission:` around a request. Everything counts that holds memory and a connection to the upstream:
    exchanges, pass-through, WebSockets, and exchanges that are finished for a client who has gone (`keep`)."""

    __slots__ = ("_at_most", "running")

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self.running = 0

    def __enter__(self) -> None:
        """Raises Overloaded."""
        if self.running >= self._at_most:
            raise Overloaded(
                f"{self._at_most} requests are under way; send it again soon, or raise REMORA_MAX_EXCHANGES.",
                retry_after_s=RETRY_AFTER_S,
            )
        self.running += 1

    def __exit__(self, *_: object) -> None:
        self.running -= 1

    def keep(self, task: "asyncio.Task[None]") -> None:
        """Counts what goes on when its request has ended, until it ends too."""
        self.running += 1
        task.add_done_callback(self._kept)

    def _kept(self, _: "asyncio.Task[None]") -> None:
        self.running -= 1
