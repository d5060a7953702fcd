"""Responses that are still being made, and their logs."""

from collections.abc import Sequence
from itertools import islice

from msgspec.structs import replace

from proxy.stores.contract import End, Ref, Run
from proxy.stores.contract import tag as tag_of
from proxy.stores.memory.lines import Lines, Made


class Running(Lines):
    """See the contract."""

    def _made(self, ref: Ref, entry: str) -> Made | None:
        line = self._line(ref)
        made = line.runs.get(entry) if line else None
        return None if made is None or (not made.keep and self._silent(made)) else made

    def _silent(self, made: Made) -> bool:
        """Its log is kept no longer."""
        return made.until is not None and made.until <= self._ms()

    def _told(self, made: Made) -> Run:
        return replace(made.run, events=made.given)

    async def begin_run(
        self, ref: Ref, entry: str, *, owner: str, state: bytes, ttl_s: int | None, recorded: bool = False
    ) -> bool:
        line = self._line(ref)
        if line is None:
            if recorded or ref.kind == "conversation":
                return False
            line = self._begin(ref, ttl_s)
        if self._made(ref, entry) or recorded != (entry in line.entries):
            return False
        line.runs[entry] = Made(
            Run(
                ref=ref,
                entry=entry,
                owner=owner,
                state=state,
                ended=False,
                cancelled=False,
                beat_ms=self._ms(),
                events=0,
            )
        )
        return True

    async def log_run(
        self,
        ref: Ref,
        entry: str,
        *,
        owner: str,
        events: Sequence[bytes] = (),
        state: bytes | None = None,
        end: End | None = None,
    ) -> Run | None:
        made = self._made(ref, entry)
        if made is None or made.run.ended or made.run.owner != owner:
            return None
        made.log += events
        made.given += len(events)
        before = made.run
        made.run = replace(
            before, state=before.state if state is None else state, ended=end is not None, beat_ms=self._ms()
        )
        if end:
            made.until, made.keep = self._ms() + int(end.log_s * 1000), end.keep
        return self._told(made)

    async def find_run(self, tenant: str, tag: str, entry: str) -> Run | None:
        self._check()
        for ref in [ref for ref, line in self._lines.items() if ref.tenant == tenant and entry in line.runs]:
            if tag_of(ref) == tag and (made := self._made(ref, entry)):
                return self._told(made)
        return None

    async def run_events(self, ref: Ref, entry: str, after: int, most: int) -> Sequence[bytes]:
        made = self._made(ref, entry)
        return [] if made is None or self._silent(made) else made.log[after + 1 :][:most]

    async def cancel_run(self, ref: Ref, entry: str) -> Run | None:
        made = self._made(ref, entry)
        if made is None:
            return None
        if not made.run.ended:
            made.run = replace(made.run, cancelled=True)
        return self._told(made)

    async def drop_run(self, ref: Ref, entry: str) -> bool:
        if self._made(ref, entry) is None:
            return False
        del self._lines[ref].runs[entry]
        return True

    async def stale_runs(self, silent_ms: int, most: int) -> Sequence[Run]:
        self._check()
        heard = self._ms() - silent_ms
        silent = (
            self._told(made)
            for ref in self._lines
            if (line := self._line(ref))
            for made in line.runs.values()
            if not made.run.ended and made.run.beat_ms <= heard
        )
        return list(islice(silent, most))

    def _expire_logs(self, limit: int) -> int:
        gone = 0
        for line in self._lines.values():
            for entry in [entry for entry, made in line.runs.items() if self._silent(made)]:
                if gone >= limit:
                    return gone
                made = line.runs[entry]
                if made.keep:
                    made.log, made.until = [], None
                else:
                    del line.runs[entry]
                gone += 1
        return gone
