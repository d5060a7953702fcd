"""The methods of runs and their logs."""

import asyncio
from collections.abc import Sequence
from typing import cast

from proxy.stores.contract import End, Ref, Run
from proxy.stores.redis import rows, running
from proxy.stores.redis.keys import TAG_BYTES
from proxy.stores.redis.labels import Labels
from proxy.stores.redis.link import Argument, Reply
from proxy.stores.redis.listing import STRAY_MS
from proxy.stores.redis.script import Script

RUNS_AT_ONCE = 100


class Runs(Labels):
    async def begin_run(
        self, ref: Ref, entry: str, *, owner: str, state: bytes, ttl_s: int | None, recorded: bool = False
    ) -> bool:
        id = rows.key_of(entry)
        if id is None:
            raise ValueError(f"{entry!r} is no id: 32 hex digits")
        return await self._surely(self._begin_run(ref, id, owner, state, ttl_s, recorded=recorded))

    async def _begin_run(
        self, ref: Ref, id: bytes, owner: str, state: bytes, ttl_s: int | None, *, recorded: bool
    ) -> bool:
        nodes, keys, _ = self._nodes()
        now, tag = self._ms(), keys.tag(ref)
        _, member, making = self._making(ref, now, ttl_s)
        if nodes.cluster:
            # on other nodes: named there before it is, for a name without a run or a ref does no harm
            await nodes.ask(keys.runs, b"ZADD", keys.runs, b"NX", 0, tag + id)
            if member:
                await nodes.ask(keys.listed, b"ZADD", keys.listed, 0, member)
        flags = (b"1" if recorded else b"0", b"1" if ref.kind == "conversation" else b"0")
        told = (id, owner, state, rows.pack_ref(ref), *flags, *making)
        begun, *due = cast("tuple[int, bytes | None]", await self._on_run(running.BEGIN, tag, *told))
        if nodes.cluster and begun and recorded:
            # the name that was set before looked old enough to be a stray
            await nodes.ask(keys.runs, b"ZADD", keys.runs, b"NX", 0, tag + id)
        if nodes.cluster and due and due[0] and ttl_s is not None:
            await nodes.ask(keys.due, b"ZADD", keys.due, b"LT", now + ttl_s * 1000, tag + due[0])
        return begun == 1

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
        return await self._surely(self._log_run(ref, entry, owner, events, state, end))

    async def _log_run(
        self, ref: Ref, entry: str, owner: str, events: Sequence[bytes], state: bytes | None, end: End | None
    ) -> Run | None:
        nodes, keys, _ = self._nodes()
        tag = keys.tag(ref)
        over: tuple[Argument, Argument] = (b"", b"")
        if end:
            over = b"1" if end.keep else b"0", int(end.log_s * 1000)
        told = (rows.key_of(entry) or b"", owner, tag, *over, b"" if state is None else b"s" + state, *events)
        reply = await self._on_run(running.LOG, tag, *told)
        if reply is None:
            return None
        run, look, made = cast("tuple[Reply, int | None, bytes]", reply)
        if nodes.cluster and look is not None:
            await nodes.ask(keys.due, b"ZADD", keys.due, b"LT", look, tag + made)
        return _run(entry, run)

    async def find_run(self, tenant: str, tag: str, entry: str) -> Run | None:
        _, keys, _ = self._nodes()
        id = rows.key_of(entry)
        return None if id is None else _run(entry, await self._on_run(running.FIND, keys.tag_of(tenant, tag), id))

    async def run_events(self, ref: Ref, entry: str, after: int, most: int) -> Sequence[bytes]:
        _, keys, _ = self._nodes()
        id = rows.key_of(entry) or b""
        return cast("Sequence[bytes]", await self._on_run(running.EVENTS, keys.tag(ref), id, after, most))

    async def cancel_run(self, ref: Ref, entry: str) -> Run | None:
        _, keys, _ = self._nodes()
        told = rows.key_of(entry) or b""
        return _run(entry, await self._surely(self._on_run(running.CANCEL, keys.tag(ref), told)))

    async def drop_run(self, ref: Ref, entry: str) -> bool:
        _, keys, _ = self._nodes()
        tag = keys.tag(ref)
        return await self._surely(self._on_run(running.DROP, tag, rows.key_of(entry) or b"", tag)) == 1

    async def _on_run(self, script: Script, tag: bytes, *arguments: Argument) -> Reply:
        nodes, keys, _ = self._nodes()
        to = (*self._keys(nodes, keys, tag), *(() if nodes.cluster else (keys.runs,)))
        return await nodes.run(script, to, self._ms(), self._clock(), *arguments)

    async def stale_runs(self, silent_ms: int, most: int) -> Sequence[Run]:
        nodes, keys, _ = self._nodes()
        found: list[Run] = []
        heard, start = self._ms() - silent_ms, 0
        while len(found) < most:
            size = min(most - len(found), RUNS_AT_ONCE)
            asked = await nodes.ask(keys.runs, b"ZRANGEBYSCORE", keys.runs, b"-inf", heard, b"LIMIT", start, size)
            members = cast("Sequence[bytes]", asked)
            looks = await asyncio.gather(*[self._stale(member, silent_ms, heard) for member in members])
            found += [run for run, _ in looks if run]
            if len(members) < size:
                break
            start += sum(stays for _, stays in looks)
        return found

    async def _stale(self, member: bytes, silent_ms: int, heard: int) -> tuple[Run | None, bool]:
        """The run, if it is silent; and whether it goes on being named among those that may be."""
        nodes, keys, _ = self._nodes()
        tag, id = member[:TAG_BYTES], member[TAG_BYTES:]
        status, *of = cast("list[Reply]", await self._on_run(running.STALE, tag, id, silent_ms))
        if status == running.SILENT:
            return _run(id.hex(), of[0]), True
        if status == running.HEARD:
            # another may have named it later meanwhile
            beat = cast("int", of[0])
            await nodes.ask(keys.runs, b"ZADD", keys.runs, b"XX", b"GT", beat, member)
            return None, beat <= heard
        if status == running.UNKNOWN and nodes.cluster and _made_ms(id) > self._ms() - STRAY_MS:
            # it may be about to begin
            return None, True
        await nodes.ask(keys.runs, b"ZREM", keys.runs, member)
        return None, False


def _made_ms(id: bytes) -> int:
    """Ids begin with the time."""
    return int.from_bytes(id[:6], "big")


def _run(entry: str, reply: Reply) -> Run | None:
    if reply is None:
        return None
    owner, state, ended, cancelled, beat_ms, events, ref = cast("tuple[bytes, bytes, int, int, int, int, bytes]", reply)
    return Run(
        ref=rows.unpack_ref(ref),
        entry=entry,
        owner=owner.decode("utf-8", "surrogatepass"),
        state=state,
        ended=bool(ended),
        cancelled=bool(cancelled),
        beat_ms=beat_ms,
        events=events,
    )
