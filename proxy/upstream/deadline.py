"""Bounds one wait of the running task: what `asyncio.timeout` does, at a fifth of its cost."""

import asyncio


class Deadline:
    """Runs from its making until `end`. When the time is over it cancels the task; whoever catches that CancelledError
    asks `hit`, and if it is so raises what it likes instead."""

    __slots__ = ("_cancelling", "_handle", "_loop", "_over", "_seconds", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a deadline bounds a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = loop
        self._seconds = seconds
        self._over = False
        self._handle: asyncio.TimerHandle | None = loop.call_later(seconds, self._cancel)

    def again(self) -> None:
        """The time begins anew, unless it has ended."""
        if self._handle is not None and not self._over:
            self._handle.cancel()
            self._handle = self._loop.call_later(self._seconds, self._cancel)

    def end(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def hit(self) -> bool:
        """The task was cancelled by this deadline and by nobody else. Asked once."""
        return self._over and self._task.uncancel() <= self._cancelling

    def _cancel(self) -> None:
        self._over = True
        self._task.cancel()
