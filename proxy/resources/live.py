"""A response that this process makes: its events so far, and those who wait for more."""

import asyncio
import time

from proxy.exchange.turnstile import Reason, Visit
from proxy.stores.contract import Ref


class Live:
    """A response that this process makes."""

    __slots__ = (
        "_waiting",
        "begun",
        "cancelled",
        "ended",
        "entry",
        "events",
        "first",
        "keep",
        "lost",
        "recorded",
        "recording",
        "ref",
        "state",
        "ttl_s",
        "visit",
        "writing",
        "written",
    )

    def __init__(self, ref: Ref, entry: str, ttl_s: int | None, state: bytes) -> None:
        self.ref, self.entry, self.ttl_s = ref, entry, ttl_s
        self.state = state
        """A note: what readers are told."""
        self.events: list[bytes] = []
        self.first = 0
        """The number of the first of `events`: those before are in the store alone."""
        self.begun = False
        """The store knows of it."""
        self.ended = False
        self.keep = False
        """It did not become an entry: what is known of it stays as a run."""
        self.lost = False
        """Somebody took it for dead, or erased it: it must not be recorded any more."""
        self.recording = False
        """Its entry is being appended, or was."""
        self.recorded = False
        """Its entry was appended."""
        self.cancelled = False
        self.visit: Visit | None = None
        self.written = time.monotonic()
        self.writing = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def upto(self) -> int:
        return self.first + len(self.events)

    def log(self, data: bytes) -> None:
        """Adds whole events."""
        if data:
            self.events += [event + b"\n\n" for event in data.split(b"\n\n") if event]
            self._changed()

    def end(self, state: bytes, *, keep: bool) -> None:
        if not self.ended:
            self.state, self.keep, self.ended = state, keep, True
            self._changed()

    def made_by(self, visit: Visit) -> None:
        """Who ends it, ends this."""
        self.visit = visit
        if self.cancelled:
            self.cancel()

    def cancel(self) -> None:
        self.cancelled = True
        if self.visit is not None:
            self.visit.interrupt(Reason.CANCELLED)

    async def changed(self) -> None:
        """Until there are more events, or it has ended."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    async def over(self) -> None:
        while not self.ended:
            await self.changed()

    def _changed(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
