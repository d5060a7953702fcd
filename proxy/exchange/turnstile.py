"""One exchange at a time on a session: queue in arrival order, reject, or parallel; and who may end one early.

The rule of this file: an exchange is interrupted only while it waits or while the model speaks, never while its entry
is being committed. Interrupting cancels its task; `Visit.reason` then says why.
"""

import asyncio
from collections import deque
from enum import Enum

from proxy.conversation.entry import new_id
from proxy.errors import QueueFull, QueueTimeout, SessionBusy, SessionConflict, Stopping
from proxy.exchange.lines import Lines
from proxy.policy import Policy
from proxy.stores.contract import Ref

QUEUE_AT_MOST = 100
"""Requests that wait on one session, where the settings say nothing else."""


class Reason(Enum):
    """Why an exchange was ended early."""

    GONE = "the client hung up"
    SUPERSEDED = "the client hung up, and a new request came on the session"
    STOPPING = "the proxy is stopping"
    CANCELLED = "a request said so"


class Visit:
    """One exchange under way, as seen from outside. Lives as long as its task."""

    __slots__ = (
        "_interruptible",
        "_task",
        "again",
        "appended",
        "client_gone",
        "holder",
        "key",
        "on_disconnect",
        "reason",
        "ref",
        "waiting",
    )

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._interruptible = True
        self.ref: Ref | None = None
        """The session that it holds."""
        self.client_gone = False
        self.waiting = True
        """The upstream has not been asked yet: when the client goes now, nobody misses the reply."""
        self.on_disconnect = "discard"
        self.reason: Reason | None = None
        self.holder = ""
        """Its place in the line that processes stand in, "" for none."""
        self.appended = False
        """The place was given up with the append."""
        self.key = ""
        """What recognises its request when it is sent again, "" for nothing."""
        self.again = ""
        """Its place in the line of those that carry the same key, "" for none."""

    def interrupt(self, reason: Reason) -> None:
        """Ends the exchange early, unless its entry is being committed or it was interrupted before."""
        if self._interruptible and self.reason is None:
            self.reason = reason
            # not at once: it may be this very task that finds the client gone, and go on to what is not interruptible
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        if self._interruptible and self._task is not None:
            self._task.cancel()

    def asking(self) -> None:
        """The upstream is asked now: from here on the policy says what becomes of the reply when the client goes."""
        self.waiting = False

    def calm(self) -> None:
        """From here on it runs to its end: the reply is complete, or what was read is about to be kept."""
        self._interruptible = False
        if self.reason is not None and self._task is not None and self._task.cancelling():
            self._task.uncancel()


class Turnstile:
    """Who holds which session, and who waits for it. Empty when nothing runs."""

    def __init__(self, queue_at_most: int = QUEUE_AT_MOST, lines: Lines | None = None) -> None:
        """`queue_at_most`: requests that may wait on one session; 0: none, who finds it held is refused at once.
        `lines`: where other processes serve the same sessions."""
        self._queue_at_most = queue_at_most
        self._lines = lines
        self._holders: dict[Ref, Visit] = {}
        self._queues: dict[Ref, deque[tuple[asyncio.Future[None], Visit]]] = {}
        self._visits: set[Visit] = set()
        self.stopping = False

    def begin(self) -> Visit:
        """Registers the running task as an exchange, until `end`. Raises Stopping."""
        if self.stopping:
            raise Stopping("The proxy is stopping; send the request again.", retry_after_s=1)
        visit = Visit()
        self._visits.add(visit)
        return visit

    def end(self, visit: Visit) -> None:
        """What its task goes on with is no exchange any more, and is not interrupted."""
        visit.calm()
        self._visits.discard(visit)
        self.leave(visit)

    async def first(self, visit: Visit, ref: Ref, policy: Policy) -> None:
        """`before` and `enter` at the same time."""
        if self._lines is None or not visit.key:
            await self.enter(visit, ref, policy)
            return
        standing = asyncio.create_task(self.before(visit, ref))
        try:
            await self.enter(visit, ref, policy)
        except BaseException:
            standing.cancel()
            await asyncio.gather(standing, return_exceptions=True)
            raise
        await standing

    async def enter(self, visit: Visit, ref: Ref, policy: Policy) -> None:
        """Takes the session for `visit`, until it leaves or ends.

        A reply that is still being finished for a client who left is ended by a new request; the same one again waits
        for it before it comes here. Policy `parallel`: takes nothing. Raises SessionBusy (policy `reject`), QueueFull,
        QueueTimeout.
        """
        if policy.session.concurrency == "parallel":
            return
        until = asyncio.get_running_loop().time() + policy.queue_timeout_s
        await self._enter_here(visit, ref, policy)
        if self._lines is None:
            return
        holder = new_id()
        try:
            await self._lines.enter(ref, holder, wait=policy.session.concurrency == "queue", until=until)
        except BaseException:
            self.leave(visit)
            raise
        visit.holder = holder

    @property
    def shared(self) -> bool:
        """Other processes may hold sessions too."""
        return self._lines is not None

    async def before(self, visit: Visit, ref: Ref) -> None:
        """Where processes share `ref`: takes a place that the same request again (`visit.key`) waits behind."""
        if self._lines is not None and visit.key:
            holder = new_id()
            await self._lines.stand(_again(visit, ref), holder)
            visit.again = holder

    async def behind(self, visit: Visit, ref: Ref, policy: Policy) -> None:
        """For the same request again: waits until the first one, in whichever process it runs, is over, no matter
        who else stands in line for `ref`. Raises QueueTimeout."""
        if self._lines is not None and visit.key:
            until, holder = asyncio.get_running_loop().time() + policy.queue_timeout_s, new_id()
            await self._lines.enter(_again(visit, ref), holder, wait=True, until=until)
            visit.again = holder

    def check_place(self, visit: Visit) -> None:
        """Raises SessionConflict for one that paused for so long that the same request may have been let through
        elsewhere. One that holds the session is checked by the store."""
        if visit.again and not visit.holder and self._lines is not None and not self._lines.holds(visit.again):
            raise SessionConflict(
                "The proxy paused for so long that this request may have been recorded elsewhere; send it again."
            )

    async def _enter_here(self, visit: Visit, ref: Ref, policy: Policy) -> None:
        mode = policy.session.concurrency
        holder = self._holders.get(ref)
        if holder is None:
            self._holders[ref] = visit
            visit.ref = ref
            return
        if holder.client_gone:
            holder.interrupt(Reason.SUPERSEDED)
        elif mode == "reject":
            raise SessionBusy(
                'Another request on this session is running; wait for its end, or set concurrency = "queue".'
            )
        if len(self._queues.get(ref, ())) >= self._queue_at_most:
            raise QueueFull(
                f"{self._queue_at_most} requests wait on this session already; send fewer at once, or raise "
                "REMORA_MAX_QUEUE.",
                retry_after_s=1,
            )
        queue = self._queues.setdefault(ref, deque())
        turn = asyncio.get_running_loop().create_future()
        queue.append((turn, visit))
        try:
            async with asyncio.timeout(policy.queue_timeout_s):
                await turn
        except TimeoutError:
            if visit.ref is None:
                raise QueueTimeout(
                    f"The session was busy for {policy.queue_timeout_s:g} s; send the request again.", retry_after_s=1
                ) from None
        finally:
            if visit.ref is None:
                queue.remove((turn, visit))
                if not queue:
                    del self._queues[ref]

    def client_left(self, visit: Visit) -> None:
        """The client of `visit` hung up: by its policy the exchange ends, or is finished for the record."""
        visit.client_gone = True
        if visit.waiting or visit.on_disconnect != "finish":
            visit.interrupt(Reason.GONE)
        elif visit.ref is not None and self._queues.get(visit.ref):
            visit.interrupt(Reason.SUPERSEDED)

    def stop(self) -> None:
        """No more visits."""
        self.stopping = True

    def interrupt_all(self) -> None:
        for visit in tuple(self._visits):
            visit.interrupt(Reason.STOPPING)

    @property
    def running(self) -> int:
        return len(self._visits)

    def leave(self, visit: Visit) -> None:
        """Gives the session to the next in line. May be called twice."""
        if self._lines is not None and visit.again:
            self._lines.leave(visit.again, appended=False)
            visit.again = ""
        ref, visit.ref = visit.ref, None
        if ref is None:
            return
        if self._lines is not None and visit.holder:
            self._lines.leave(visit.holder, appended=visit.appended)
        queue = self._queues.get(ref)
        if not queue:
            del self._holders[ref]
            return
        turn, following = queue.popleft()
        if not queue:
            del self._queues[ref]
        # handed over at once: between now and the moment its task wakes the session must not look free
        self._holders[ref] = following
        following.ref = ref
        if not turn.done():
            turn.set_result(None)


def _again(visit: Visit, ref: Ref) -> Ref:
    """The line of those that carry the same key."""
    return Ref(ref.tenant, "again", f"{ref.kind} {ref.name} {visit.key}")
