"""Responses that are still being made: their event logs, followers, heartbeats and ends; in this process and in others.

What this process makes is `Live`, in memory, and written to the store every `TICK_S`; a response that another process
makes is read from the store. An event's number is its place in the log.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine

import msgspec

from proxy.conversation.entry import new_id
from proxy.errors import Overloaded, StoreUnavailable
from proxy.resources import notes
from proxy.resources.live import Live
from proxy.stores.contract import End, Ref, Run, Store, tag

TICK_S = 0.5
"""How often logs are written, and signs of a cancellation read."""
BEAT_S = 1.0
"""How often the owner of a run that has nothing to write says that it is alive."""
SILENT_MS = 10_000
"""An owner who was silent for so long is dead: its run has failed."""
UNWRITTEN_TICKS = 4
"""A run of another process of which nothing is written after so many ticks has no events to tell."""
UNWRITTEN_S = 60.0
"""A run that has ended is kept in memory for so long where the store cannot be written."""
SWEEP_EVERY_S = 2.0
SWEPT_AT_ONCE = 20
READ_AT_ONCE = 256
"""Events in one read of a log."""
AT_ONCE = 32
"""Writes to the store at the same time."""
BACKGROUND_AT_MOST = 1000
"""Responses that nobody waits for."""


class Runs:
    """The runs of this process, and a look at those of others."""

    def __init__(
        self,
        store: Store,
        *,
        log_s: float,
        shared: bool = False,
        silent_ms: int = SILENT_MS,
        failed: Callable[[bytes], bytes],
        say: Callable[[str], None],
        broke: Callable[[Exception], None],
    ) -> None:
        """`log_s`: how long the log of an ended run is kept. `shared`: other processes serve the same responses.
        `silent_ms`: who is silent for so long is dead. `failed`: the state of a run whose owner died -> its state as a
        failed one. `say` is told in a line that the store cannot be written, `broke` of bugs."""
        self._store = store
        self._log_s = log_s
        self._shared = shared
        self._silent_ms = silent_ms
        self._failed = failed
        self._say = say
        self._broke = broke
        self._owner = new_id()
        self._lives: dict[tuple[str, str], Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Task[None]] = set()
        self._followers: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._swept = 0.0
        self._silent = False

    def open(self) -> None:
        self._ticking = asyncio.create_task(self._tick())

    async def close(self) -> None:
        """Writes what has ended; called when nothing runs any more."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait((self._ticking,))
        if self._writing:
            await asyncio.wait(tuple(self._writing))
        try:
            await self._write_all()
        except StoreUnavailable as error:
            self._say(f"the logs of responses could not be written: {error.message}")

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """Responses in the making that nobody waits for."""
        return tuple(self._tasks)

    def spawn(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Runs `work` in a task of its own. Raises Overloaded."""
        if self.full:
            raise Overloaded("Too many responses are being made in the background; send it again later.")
        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def begin(self, ref: Ref, entry: str, ttl_s: int | None, state: bytes, *, announced: bool = False) -> Live:
        """From now on it is found. The store is told of it later, or, if it is `announced`, by `announce`. One before
        it under the same id has ended."""
        live = Live(ref, entry, ttl_s, state)
        if (before := self.live(ref.tenant, entry)) is not None:
            # what is being written of that one must not come behind what is written of this one
            live.writing = before.writing
        self._lives[ref.tenant, entry] = live
        if self._shared and not announced:
            # others are asked for it as soon as its client knows the id
            task = asyncio.create_task(self._written_soon(live))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        return live

    async def _written_soon(self, live: Live) -> None:
        try:
            await self._write(live)
        except StoreUnavailable:
            pass  # told, and tried again, by the next tick
        except Exception as error:  # noqa: BLE001 - as there
            self._broke(error)

    @property
    def full(self) -> bool:
        return len(self._tasks) >= BACKGROUND_AT_MOST

    def following(self) -> None:
        """This task gives out events; it is ended when its client leaves, or the process stops."""
        task = asyncio.current_task()
        assert task is not None
        self._followers.add(task)
        task.add_done_callback(self._followers.discard)

    def stop(self) -> None:
        """Nobody is given events any more."""
        for task in self._followers:
            task.cancel()

    async def announce(self, live: Live) -> bool:
        """The store knows of it when this returns, so that it is not forgotten whatever happens to this process.
        False, and it is forgotten, if there is one under its id already, or its conversation was erased meanwhile.
        Raises StoreUnavailable."""
        async with live.writing:
            try:
                live.begun = await self._begin(live, recorded=False)
            finally:
                if not live.begun:
                    self.forget(live)
        return live.begun

    def forget(self, live: Live) -> None:
        if self.live(live.ref.tenant, live.entry) is live:
            del self._lives[live.ref.tenant, live.entry]

    def live(self, tenant: str, entry: str) -> Live | None:
        return self._lives.get((tenant, entry))

    async def find(self, tenant: str, tag: str, entry: str) -> Live | Run | None:
        """Raises StoreUnavailable."""
        return self.live(tenant, entry) or await self._store.find_run(tenant, tag, entry)

    async def over(self, run: Live | Run) -> None:
        """Waits until it has ended; for ever if need be."""
        while True:
            if isinstance(run, Live):
                await run.over()
                return
            if run.ended:
                return
            await asyncio.sleep(TICK_S)
            found = await self.find(run.ref.tenant, tag(run.ref), run.entry)
            if found is None:
                return
            run = found

    async def cancel(self, run: Live | Run, wait_s: float) -> Live | Run:
        """Ends it, wherever it is made; returns it as it is then. Raises StoreUnavailable."""
        if isinstance(run, Live):
            run.cancel()
        else:
            run = await self._store.cancel_run(run.ref, run.entry) or run
        try:
            async with asyncio.timeout(wait_s):
                await self.over(run)
        except TimeoutError:
            pass  # its owner has not noticed yet: the answer tells how far it is
        return await self.find(run.ref.tenant, tag(run.ref), run.entry) or run

    async def follow(self, run: Live | Run, after: int) -> AsyncIterator[bytes]:
        """The events with numbers above `after`, as they come, until the run has ended. Raises StoreUnavailable."""
        ended = False
        while True:
            if isinstance(run, Live) and after + 1 >= run.first:
                events = tuple(run.events[after + 1 - run.first :])
                if not events:
                    if run.ended:
                        return
                    await run.changed()
                    continue
            else:
                most = min(READ_AT_ONCE, run.first - after - 1) if isinstance(run, Live) else READ_AT_ONCE
                events = tuple(await self._store.run_events(run.ref, run.entry, after, most))
                if not events:
                    if ended or isinstance(run, Live):
                        break
                    found = await self.find(run.ref.tenant, tag(run.ref), run.entry)
                    # what was written between the two reads is read once more
                    ended = found is None or (isinstance(found, Run) and found.ended)
                    run = found or run
                    if not ended:
                        await asyncio.sleep(TICK_S)
                    continue
            for event in events:
                yield event
            after += len(events)
        if isinstance(run, Run) and after >= run.events > 0:
            # its owner gave out more than it could write before it died: how it ended is told all the same
            for event in await self._store.run_events(run.ref, run.entry, run.events - 2, 1):
                yield event

    async def kept(self, run: Live | Run) -> bool:
        """Its events can be read. Raises StoreUnavailable."""
        if isinstance(run, Live):
            return run.upto > 0
        return bool(await self._store.run_events(run.ref, run.entry, -1, 1))

    async def streamed(self, tenant: str, tag: str, entry: str) -> Live | Run | None:
        """One whose events can be read; others, which may be made elsewhere, are given some time to be written of.
        Raises StoreUnavailable."""
        for left in reversed(range(UNWRITTEN_TICKS if self._shared else 1)):
            run = await self.find(tenant, tag, entry)
            if run is not None and await self.kept(run):
                return run
            if not left or isinstance(run, Live) or (run is not None and run.ended):
                break
            await asyncio.sleep(TICK_S)
        return None

    def erased(self, ref: Ref) -> None:
        """Nothing that is made there now may be recorded."""
        for live in self._lives.values():
            if live.ref == ref:
                live.lost = True
                live.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._write_all()
                if time.monotonic() - self._swept >= SWEEP_EVERY_S:
                    self._swept = time.monotonic()
                    await self._sweep()
                self._silent = False
            except StoreUnavailable as error:
                if not self._silent:
                    self._say(f"the logs of responses cannot be written, which is tried again: {error.message}")
                self._silent = True
                # nobody could be heard of meanwhile: the others are given as long as if they had just been
                self._swept = time.monotonic() + self._silent_ms / 1000
                self._give_up()
            except Exception as error:  # noqa: BLE001 - a bug with one run must not leave the others without heartbeats
                self._broke(error)

    def _give_up(self) -> None:
        """What ended and could not be written for long is given up: it would pile up while the store is away."""
        for live in tuple(self._lives.values()):
            if live.ended and time.monotonic() - live.written > UNWRITTEN_S:
                self.forget(live)

    async def _write_all(self) -> None:
        due = [live for live in self._lives.values() if self._due(live)]
        done: list[BaseException | None] = []
        for at in range(0, len(due), AT_ONCE):
            done += await asyncio.gather(*map(self._write, due[at : at + AT_ONCE]), return_exceptions=True)
        # one that cannot be written does not keep the others from being heard of
        for each in done:
            if each is not None:
                raise each

    def _due(self, live: Live) -> bool:
        return live.ended or bool(live.events) or time.monotonic() - live.written >= BEAT_S

    async def drop(self, run: Live | Run) -> None:
        """Nothing of it is found any more, and if it is still being made, it ends unrecorded. Raises
        StoreUnavailable."""
        if not isinstance(run, Live):
            await self._store.drop_run(run.ref, run.entry)
            return
        run.lost = True
        run.cancel()
        self.forget(run)
        async with run.writing:
            await self._store.drop_run(run.ref, run.entry)

    async def _write(self, live: Live) -> None:
        async with live.writing:
            if self.live(live.ref.tenant, live.entry) is live:
                await self._written(live)

    async def _written(self, live: Live) -> None:
        events, state, ended = tuple(live.events), live.state, live.ended
        if not live.begun and not live.lost:
            if ended and not events and not live.keep:
                self.forget(live)
                return
            if not await self._begun(live):
                # tried again
                return
        run: Run | None = None
        if not live.lost:
            end = End(self._log_s if live.upto else 0.0, keep=live.keep) if ended else None
            run = await self._store.log_run(
                live.ref, live.entry, owner=self._owner, events=events, state=state, end=end
            )
        live.written = time.monotonic()
        if run is None:
            live.lost = True
            live.cancel()
        else:
            live.first += len(events)
            del live.events[: len(events)]
            if run.cancelled and not live.cancelled:
                live.cancel()
        if ended:
            self.forget(live)

    async def _begun(self, live: Live) -> bool:
        """The store knows of it, or it is lost. False: another process has not said yet that the one before it under
        the same id, which failed there, has ended."""
        while not live.begun:
            live.begun = await self._begin(live, recorded=False) or (
                live.recording and await self._begin(live, recorded=True)
            )
            if live.begun:
                break
            before = await self._store.find_run(live.ref.tenant, tag(live.ref), live.entry)
            if before is None:
                # what was erased meanwhile must not come back
                live.lost = True
                break
            if not before.ended and before.owner != self._owner:
                return False
            await self._store.drop_run(live.ref, live.entry)
        return True

    async def _begin(self, live: Live, *, recorded: bool) -> bool:
        return await self._store.begin_run(
            live.ref, live.entry, owner=self._owner, state=live.state, ttl_s=live.ttl_s, recorded=recorded
        )

    async def _sweep(self) -> None:
        """Runs whose owners died have failed."""
        for run in await self._store.stale_runs(self._silent_ms, SWEPT_AT_ONCE):
            if run.owner == self._owner and self.live(run.ref.tenant, run.entry):
                continue
            noted = await self._store.find(run.ref.tenant, tag(run.ref), run.entry)
            # it may have died right after the append
            done = noted is not None and noted.entry.facts.state != "failed" and bool(noted.note)
            state = noted.note if noted is not None and done else self._failed(run.state)
            response = notes.response(notes.read(state))
            await self._store.log_run(
                run.ref,
                run.entry,
                owner=run.owner,
                events=(_last_event(response, run.events),) if run.events and response else (),
                state=state,
                end=End(self._log_s, keep=not done),
            )


class _Status(msgspec.Struct):
    status: str = "failed"


def _last_event(response: bytes, number: int) -> bytes:
    name = f"response.{msgspec.json.decode(response, type=_Status).status}".encode()
    data = b'{"type":"%b","response":%b,"sequence_number":%d}' % (name, response, number)
    return b"event: %b\ndata: %b\n\n" % (name, data)
