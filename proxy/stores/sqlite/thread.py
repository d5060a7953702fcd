"""A thread of its own for a database connection: it takes everything that waits at once, and answers it all at once.

A hop to a thread and back costs more than the statements themselves, so it is shared: what the tasks of one turn of
the event loop ask for travels together, what is asked meanwhile travels next, and the answers come back in one call.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from proxy.errors import StoreUnavailable

T = TypeVar("T")
MOST_WAITING = 10_000
MOST_AT_ONCE = 500
"""So that the first of many does not wait for all of them."""
STUCK_S = 30.0
"""A disk that has not done one batch by then does not answer. Longer than waiting twice for other writers takes."""


class Job(Generic[T]):
    """Something asked for, and, once `answer` or `error` is set, its answer."""

    __slots__ = ("answer", "ask", "error", "future")

    def __init__(self, ask: T, future: "asyncio.Future[object] | None") -> None:
        self.ask = ask
        self.future = future
        """None: nobody waits."""
        self.answer: object = None
        self.error: Exception | None = None


class Worker(Generic[T]):
    """`serve` is called in the thread with all jobs that wait (perhaps none) and returns those that are answered now
    and whether it has work left of its own, for which it is called again without waiting for jobs. `finish` is called
    last, in the thread."""

    def __init__(
        self,
        name: str,
        serve: Callable[[list[Job[T]]], tuple[list[Job[T]], bool]],
        finish: Callable[[], None],
    ) -> None:
        self._serve = serve
        self._finish = finish
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Job[T]] = []
        self._queue: SimpleQueue[list[Job[T]] | None] = SimpleQueue()
        self._waiting = 0
        self._asked: set[asyncio.Future[object]] = set()
        self._since: float | None = None
        """When the thread began with what it does; None: it does nothing."""
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        # a daemon, so that a process that forgets to close still ends; a store survives being killed anyway
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self, ask: T) -> "asyncio.Future[object]":
        """The answer to come. Cancelling it does not stop the work. StoreUnavailable at once if too much waits, and for
        all that wait if the thread comes to a stand for `STUCK_S`; what they asked for may still be done."""
        if self._closed:
            raise StoreUnavailable("The store is closed; the proxy is stopping, send the request again.")
        if self._waiting >= MOST_WAITING:
            raise StoreUnavailable("Too many requests wait for the disk; send fewer at once.", retry_after_s=1)
        self._waiting += 1
        future: asyncio.Future[object] = self._loop.create_future()
        self._asked.add(future)
        if self._watch is None:
            self._watch = self._loop.call_later(STUCK_S / 4, self._look)
        self._gather(Job(ask, future))
        return future

    def tell(self, ask: T) -> None:
        """The same, with nobody waiting for the answer; nothing happens after closing, or if too much waits."""
        if not self._closed and self._waiting < MOST_WAITING:
            self._waiting += 1
            self._gather(Job(ask, None))

    def _gather(self, job: Job[T]) -> None:
        if not self._gathered:
            self._loop.call_soon(self._send)
        self._gathered.append(job)

    def _look(self) -> None:
        self._watch = None
        since = self._since
        if since is not None and time.monotonic() - since >= STUCK_S:
            asked, self._asked = self._asked, set()
            for future in asked:
                if not future.done():
                    future.set_exception(StoreUnavailable("The store's disk does not answer; look at it."))
        elif self._asked:
            self._watch = self._loop.call_later(STUCK_S / 4, self._look)

    def _send(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    async def close(self) -> None:
        """Serves what waits, then ends the thread."""
        if not self._closed:
            self._closed = True
            self._send()
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        stop = more = False
        while not stop or more:
            jobs: list[Job[T]] = []
            try:
                taken = self._queue.get(block=not more)
                while taken is not None:
                    jobs += taken
                    if len(jobs) >= MOST_AT_ONCE:
                        break
                    taken = self._queue.get_nowait()
                else:
                    stop = True
            except Empty:
                pass
            self._since = time.monotonic()
            try:
                answered, more = self._serve(jobs)
            except Exception as error:  # noqa: BLE001 - it shall surface where it was asked, not as a thread that is gone
                for job in jobs:
                    job.error = error
                answered, more = jobs, False
            self._since = None
            if answered:
                self._answer(answered)
        self._finish()

    def _answer(self, jobs: list[Job[T]]) -> None:
        # a loop that was closed without closing the store: nobody waits any more, but what was asked is still done
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, jobs)

    def _settle(self, jobs: list[Job[T]]) -> None:
        self._waiting -= len(jobs)
        for job in jobs:
            future = job.future
            if future is None:
                continue
            self._asked.discard(future)
            if future.done():
                continue
            if isinstance(job.error, StoreUnavailable):
                # each its own: who catches one may mark it
                own = StoreUnavailable(job.error.message, retry_after_s=job.error.retry_after_s)
                own.__cause__ = job.error.__cause__
                future.set_exception(own)
            elif job.error is not None:
                future.set_exception(job.error)
            else:
                future.set_result(job.answer)
