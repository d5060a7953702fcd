"""What is written to the file: all that waits goes into one transaction, in the order in which it came.

If that fails, it is undone and each job is tried again in a transaction of its own that takes nothing on trust: so a
job that cannot be done does not spoil its neighbours, and so another process may have written in between.
"""

import random
import sqlite3
import time
from collections import deque
from collections.abc import Callable

import msgspec

from proxy.errors import StoreUnavailable
from proxy.stores.contract import Ref
from proxy.stores.sqlite import schema
from proxy.stores.sqlite.appends import Line
from proxy.stores.sqlite.asks import (
    Adding,
    Annotate,
    BeginRun,
    CancelRun,
    Delivered,
    DropRun,
    Erase,
    Expire,
    Indexing,
    Keep,
    LineUp,
    LogRun,
    Ping,
    Prune,
    PutLabel,
    Redact,
    StepOut,
    Write,
)
from proxy.stores.sqlite.cache import Cache
from proxy.stores.sqlite.link import Link
from proxy.stores.sqlite.thread import Job
from proxy.stores.sqlite.transaction import Transaction

AGAIN_S = 0.0005, 0.002
"""While another process writes, the next try comes so soon, by chance."""
MOST_KNOWN = 10_000
MOST_MERGING = 1_000
BATCHES_A_MERGE = 8
"""While there is work, so many batches go before one step of merging; while there is none, merging goes on."""


_PASSING = (LineUp, StepOut)


class _Purge(msgspec.Struct):
    """The numbers of what is buried and whose rows are to be removed, and who waits for it."""

    numbers: list[int]
    job: Job[Write] | None


class Writer:
    """`wrote` is told after each commit about how many bytes it has put into the log; `failed` is called when the file
    failed, so that others connect to it again; `purged` after content was removed."""

    def __init__(
        self,
        link: Link,
        now_ms: Callable[[], int],
        cache: Cache,
        *,
        wrote: Callable[[int], None],
        failed: Callable[[], None],
        purged: Callable[[], None],
    ) -> None:
        self._link = link
        self._now_ms = now_ms
        self._cache = cache
        self._wrote, self._failed, self._purged = wrote, failed, purged
        self._known: dict[Ref, Line] = {}
        self._purging: deque[_Purge] = deque()
        self._merging: dict[int, None] = {}
        """The numbers of refs whose index is to be merged. Lost with the process: the next that is indexed tells."""
        self._batches = 0
        self._unmerged: Exception | None = None
        """Why merging was given up."""
        self.ending = False
        """Set, by any thread, once the store closes: what can be done later is left."""
        self._began = False

    def serve(self, jobs: list[Job[Write]]) -> tuple[list[Job[Write]], bool]:
        if self.ending:
            self._merging.clear()
        given_up: list[Job[Write]] = []
        removed: Job[Write] | None = None
        error, removed = self._batch(jobs, self._known)
        if error and jobs and self._began:
            for job in jobs:
                # where not even a transaction begins, each further try would only take its time
                job.error = self._batch([job], {})[0] if self._began else error
        elif error:
            for job in jobs:
                job.error = error
            given_up = self._give_up(error)
        for job in jobs:
            if self._unmerged and isinstance(job.ask, Indexing):
                job.error, self._unmerged = job.error or self._unmerged, None
        waits = {id(purge.job) for purge in self._purging}
        answered = [job for job in jobs if id(job) not in waits] + given_up
        return [*answered, removed] if removed else answered, bool(self._purging or self._merging)

    def finish(self) -> None:
        self._link.drop()

    def _batch(self, jobs: list[Job[Write]], known: dict[Ref, Line]) -> tuple[Exception | None, Job[Write] | None]:
        """One transaction, all or nothing: the error that undid it, and the job whose removals it completed."""
        self._began = False
        purge = self._purging[0] if self._purging and known is self._known else None
        merge = None if purge or known is not self._known else self._due(jobs)
        purges: list[_Purge] = []
        done = merged = False
        if not jobs and not purge and merge is None:
            return None, None
        db: sqlite3.Connection | None = None
        transaction: Transaction | None = None
        try:
            db = self._link.get()
            # a place is kept for seconds: whoever had it before a power cut has ended
            self._link.durable(bool(purge) or merge is not None or not all(isinstance(j.ask, _PASSING) for j in jobs))
            _lock(db)
            self._began = True
            transaction = Transaction(db, self._now_ms(), known)
            for job in jobs:
                before = len(transaction.buried)
                job.answer = self._do(transaction, job.ask)
                if len(transaction.buried) > before:
                    waits = isinstance(job.ask, Erase | Expire | Redact | Prune | DropRun)
                    purges.append(_Purge(transaction.buried[before:], job if waits else None))
            transaction.flush()
            if purge:
                done = transaction.remove_some(purge.numbers[-1])
            elif merge is not None:
                merged = transaction.merge_some(merge)
            db.execute("COMMIT")
            self._link.check()
        except Exception as error:  # noqa: BLE001 - each job is told its own
            return self._undo(error, db, transaction), None
        self._learn(transaction)
        self._purging += purges
        if merge is not None and merged:
            self._merging.pop(merge, None)
        for ref in transaction.crowded:
            if len(self._merging) < MOST_MERGING:
                self._merging[ref] = None
        self._wrote(transaction.bytes)
        if transaction.replaced:
            self._purged()
        return None, self._removed(purge) if purge and done else None

    def _due(self, jobs: list[Job[Write]]) -> int | None:
        """The ref whose index is to be merged a step now."""
        if not self._merging:
            return None
        self._batches += 1
        if jobs and self._batches < BATCHES_A_MERGE:
            return None
        self._batches = 0
        return next(iter(self._merging))

    def _do(self, transaction: Transaction, ask: Write) -> object:
        match ask:
            case Adding():
                return transaction.append_in_line(ask) if ask.append.holder else transaction.append(ask)
            case Keep():
                return transaction.keep(ask)
            case Indexing():
                return transaction.index(ask)
            case Delivered(replays):
                for ref, key in replays:
                    transaction.deliver(ref, key)
                return None
            case Annotate():
                return transaction.annotate(ask)
            case Redact():
                return transaction.redact(ask)
            case Prune():
                return transaction.prune(ask)
            case PutLabel():
                return transaction.label(ask)
            case BeginRun():
                return transaction.begin_run(ask)
            case LogRun():
                return transaction.log_run(ask)
            case CancelRun():
                return transaction.cancel_run(ask)
            case DropRun():
                return transaction.drop_run(ask)
            case LineUp():
                return transaction.line_up(ask)
            case StepOut():
                transaction.step_out(ask)
                return None
            case Erase(ref):
                return transaction.erase(ref)
            case Expire(limit):
                return transaction.expire(limit, {n for purge in self._purging for n in purge.numbers})
            case Ping():
                transaction.ping()
                return None

    def _undo(self, error: Exception, db: sqlite3.Connection | None, transaction: Transaction | None) -> Exception:
        failure: Exception | None = schema.unavailable(error, self._link.path)
        if isinstance(error, StoreUnavailable):
            # the file is not the one that it was: no use in trying each job alone
            self._began = False
            failure = error
        elif db is not None and db.in_transaction:
            try:
                db.execute("ROLLBACK")
            except sqlite3.Error:
                # SQLite undoes it when the file is opened again
                failure = failure or error
        if self._merging:
            # whatever failed: it shall not fail each batch; what is indexed next is told, and what comes then begins it
            # again
            self._merging.clear()
            self._unmerged = failure or error
        for ref in transaction.learnt if transaction else ():
            self._known.pop(ref, None)
        if failure:
            self._link.drop()
            self._known.clear()
            self._cache.clear()
            self._failed()
        return failure or error

    def _learn(self, transaction: Transaction) -> None:
        for ref, line in transaction.learnt.items():
            if line is None:
                self._known.pop(ref, None)
                self._cache.drop(ref)
            else:
                self._known[ref] = line
        for grown in transaction.grown:
            self._cache.grown(*grown)
        for ref in transaction.changed:
            self._cache.drop(ref)
        while len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]

    def _removed(self, purge: _Purge) -> Job[Write] | None:
        """All rows under the purge's last number are gone: the job, if that was the last for it."""
        purge.numbers.pop()
        if purge.numbers:
            return None
        self._purging.popleft()
        self._purged()
        return purge.job

    def _give_up(self, error: Exception) -> list[Job[Write]]:
        """Nobody waits for removals on a disk that fails: all is buried, and the sweep finds it again."""
        waiting = [purge.job for purge in self._purging if purge.job]
        self._purging.clear()
        for job in waiting:
            job.error = error
        return waiting


def _lock(db: sqlite3.Connection) -> None:
    """Begins to write. Where another process writes, it is tried again every millisecond or so: SQLite itself would
    sleep for up to 100 ms between two tries, and whoever writes much would be first again and again."""
    until = time.monotonic() + schema.BUSY_S
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(random.uniform(*AGAIN_S))  # noqa: S311 - nobody gains by guessing it
        else:
            return
