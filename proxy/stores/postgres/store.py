"""The store: each method is one call of one of the database's functions, on one of a few connections."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import asyncpg
import msgspec

from proxy.conversation.entry import Chain, Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.conversation.words import Choose, Postings, Wanted
from proxy.errors import StoreUnavailable
from proxy.stores.contract import (
    STICKY_MS,
    Append,
    Appended,
    Conflict,
    Index,
    Noted,
    Record,
    Ref,
    RefInfo,
    Replay,
    Unindexed,
    Vectors,
)
from proxy.stores.picking import seek, shown
from proxy.stores.postgres import asks, failures, migrate, search
from proxy.stores.postgres.address import Address
from proxy.stores.postgres.batch import Answer
from proxy.stores.postgres.cache import window
from proxy.stores.postgres.calls import Batchers
from proxy.stores.postgres.delivered import Delivered
from proxy.stores.postgres.ear import Ear
from proxy.stores.postgres.erasing import Erasing
from proxy.stores.postgres.lining import Lining
from proxy.stores.postgres.pool import Pool
from proxy.stores.postgres.rows import key_of, pack_summary, unpack, unpack_one, unpack_summary
from proxy.stores.postgres.running import Running

REFS_A_PAGE = 100
RECORDS_A_PAGE = 32
FAR = 2**62
"""Beyond all positions and tokens, and still a number of the server's."""

_replay = msgspec.msgpack.Decoder(Replay).decode


class PostgresStore(Erasing, Running, Lining):
    searches = frozenset({"keywords", "embeddings"})

    def __init__(self, address: Address, *, now: Callable[[], float] | None = None) -> None:
        """`now`: seconds since 1970; None: the server's clock, so that all replicas agree."""
        super().__init__(address, now=now)
        self._secret: bytes | None = None
        self._delivered = Delivered()

    async def open(self) -> None:
        if self._pool is None:
            secret = self._secret = await migrate.prepare(self._address)
            connect = partial(migrate.connect, self._address, secret)
            self._pool = Pool(connect, self._address.connections, self._address.shown)
            self._batchers = Batchers(self._pool)
            self._ear = Ear(connect, self._address.schema, self._waiting)

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool:
            self._delivered.cancel()
            await self._stop_listening()
            if self._batchers:
                await self._batchers.drain()
            await asyncio.gather(*self._writes, self._deliver(pool), return_exceptions=True)
            pool.close()
            if self._batchers:
                await self._batchers.loads.drain()
            self._cache.clear()

    async def secret(self) -> bytes:
        self._open()
        assert self._secret is not None
        return self._secret

    async def load(self, ref: Ref, *, key: str, reach: int | None, entry: str | None = None) -> Chain | None:
        id = None
        if entry is not None:
            id = key_of(entry)
            if id is None:
                self._open()
                return None
        held = self._cache.get(ref) if id is None else None
        far = None if reach is None else min(reach, FAR)
        values = (self._ms(), ref.tenant, ref.kind, ref.name, key, far, id, *asks.held(held))
        row = await self._calls().loads.ask(values)
        n, head, whole, kept, count, run, preamble_id, wire, weight, summaries, revision = row
        if n is None:
            return None
        preamble = None if wire is None else Preamble(wire, weight)
        if held and preamble_id == held.preamble_id and not revision:
            preamble = held.preamble
        entries = tuple(unpack(count, run)) if count else ()
        if kept:
            assert held is not None
            entries = (*held.entries, *entries) if entries else held.entries
        chosen = window(entries, key, reach) if kept else entries
        if id is None:
            self._cache.put(ref, n, entries, preamble_id, preamble, revision, len(chosen))
        last = chosen[-1]
        return Chain(
            head=last,
            entries=chosen,
            preamble=preamble,
            ref_head=last.id if id is None else head.hex(),
            whole=whole,
            summaries=shown(last, chosen, [unpack_summary(each) for each in summaries]) if summaries else (),
            revision=revision,
        )

    async def read(self, ref: Ref, entry: str, first: int, upto: int) -> Sequence[Entry]:
        if first >= upto:
            self._open()
            return []
        return await self._entries(ref, entry, asks.READ, max(first, 0), min(upto, FAR))

    async def _entries(self, ref: Ref, entry: str, sql: str, *values: object) -> list[Entry]:
        count, run = await self._of(ref, sql, key_of(entry), *values)
        return unpack(count, run)

    async def find_digests(self, ref: Ref, digests: Sequence[bytes]) -> dict[bytes, str]:
        found = await self._rows(asks.FIND_DIGESTS, self._ms(), ref.tenant, ref.kind, ref.name, digests)
        return {digest: id.hex() for digest, id in found}

    async def find_turn(self, ref: Ref, turn: int) -> tuple[Entry | None, Entry | None] | None:
        known, found, after = await self._of(ref, asks.FIND_TURN, max(min(turn, FAR), -FAR))
        return (found and unpack_one(found), after and unpack_one(after)) if known else None

    async def append(self, append: Append) -> Appended | Conflict:
        ref, entry, preamble = append.ref, append.entry, append.preamble
        adding = asks.adding(append)
        held = self._cache.get(ref)
        # the wire of a preamble is long, and hardly ever new; whoever expects a head has seen the one that is held
        known = held and held.preamble_id == adding.preamble and append.moves and append.expected and not held.revision
        wire = None if known or not preamble else preamble.wire
        status, head, n = await self._add(adding, wire)
        if status == asks.PREAMBLE and preamble:
            status, head, n = await self._add(adding, preamble.wire)
        match status:
            case asks.APPENDED:
                if append.moves:
                    self._cache.grown(ref, n, entry, adding.preamble, preamble)
                    self._delivered.forget(ref)
                return Appended()
            case asks.AGAIN:
                return Appended(again=True)
            case _:
                return Conflict(head and head.hex())

    def _add(self, adding: asks.Adding, wire: bytes | None) -> Answer:
        values = (self._ms(), *adding.values(wire))
        holder = adding.append.holder
        return self._calls().held.ask((*values, holder)) if holder else self._calls().appends.ask(values)

    async def find_replay(self, ref: Ref, key: str) -> Replay | None:
        over = (ref, key) in self._delivered
        found = await self._rows(asks.FIND_REPLAY, self._ms(), ref.tenant, ref.kind, ref.name, key, over, STICKY_MS)
        return _replay(found[0][0]) if found else None

    def delivered(self, ref: Ref, key: str) -> None:
        if self._pool:
            self._delivered.add(ref, key, self._time(), self._deliver_soon)

    def _time(self) -> float:
        return (self._now or time.monotonic)()

    def _deliver_soon(self) -> None:
        if self._pool:
            task = asyncio.get_running_loop().create_task(self._deliver(self._pool))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def _deliver(self, pool: Pool) -> None:
        taken = self._delivered.take(self._time())
        if not taken:
            return
        ages, refs, keys = taken
        names = [ref.tenant for ref in refs], [ref.kind for ref in refs], [ref.name for ref in refs]
        try:
            await self._row(pool, asks.DELIVER, self._ms(), *names, keys, ages)
        except StoreUnavailable:
            # those replays stay until their refs move on
            return
        finally:
            self._delivered.done()

    async def keep_summary(self, ref: Ref, summary: Summary, *, revision: int) -> bool:
        values = (asks.id_of(summary.id), key_of(summary.entry), summary.upto, pack_summary(summary), revision)
        (kept,) = await self._write(ref, asks.KEEP_SUMMARY, *values)
        return bool(kept)

    async def summaries(self, ref: Ref) -> Sequence[Summary]:
        found = await self._rows(asks.SUMMARIES, self._ms(), ref.tenant, ref.kind, ref.name)
        return [unpack_summary(row) for (row,) in found]

    async def index(self, ref: Ref, indexes: Sequence[Index], *, revision: int) -> bool:
        told = [each for each in map(search.told, indexes) if each]
        merging = (search.BAGS, search.PARTS, search.LEVELS)
        values = [(self._ms(), ref.tenant, ref.kind, ref.name, *each, *merging, revision) for each in told]

        async def work(pool: Pool) -> bool:
            # all travel together, and count together: the first says what is true of all
            done = await pool.use(lambda connection: connection.fetchmany(asks.INDEX, values))
            return bool(done[0][0])

        if not values:
            found = await self._rows(asks.REVISION, self._ms(), ref.tenant, ref.kind, ref.name)
            return bool(found) and found[0][0] == revision
        try:
            return await self._surely(work)
        except asyncpg.PostgresError as error:
            if error.sqlstate == failures.MISTAKE:
                raise ValueError(str(error)) from None
            raise

    async def unindexed(self, ref: Ref, entry: str, *, model: str, most: int) -> Unindexed:
        revision, count, run = await self._of(ref, asks.UNINDEXED, key_of(entry), model, min(most, FAR))
        return Unindexed(revision or 0, unpack(count, run))

    async def postings(self, ref: Ref, entry: str, terms: Sequence[bytes]) -> Postings | None:
        row = await self._of(ref, asks.POSTINGS, key_of(entry), search.numbers(terms))
        messages, length, found, starts, ends, firsts = row
        if messages is None:
            return None
        if length is None:
            return Postings(messages, 0, (b"",) * len(terms))
        return Postings(messages, length, tuple(search.placed(each, starts, ends, firsts) for each in found or ()))

    async def seek(
        self, ref: Ref, entry: str, terms: Sequence[bytes], wanted: Wanted, choose: Choose
    ) -> Sequence[Entry]:
        return await seek(self, ref, entry, terms, wanted, choose)

    async def vectors(self, ref: Ref, entry: str, model: str) -> Vectors | None:
        known, positions, matrix = await self._of(ref, asks.VECTORS, key_of(entry), model)
        return search.vectors(positions, matrix) if known else None

    async def pick(self, ref: Ref, entry: str, positions: Sequence[int]) -> Sequence[Entry]:
        return await self._entries(ref, entry, asks.PICK, [each for each in positions if 0 <= each < FAR])

    async def list(self, *, tenant: str | None = None, name: str | None = None) -> AsyncIterator[RefInfo]:
        after = (tenant or "", "", "")
        while True:
            sql = asks.LIST if tenant is None else asks.LIST_OF_TENANT
            page = await self._rows(sql, self._ms(), *after, name, REFS_A_PAGE)
            for each in page:
                yield asks.ref_info(each)
            if len(page) < REFS_A_PAGE:
                return
            after = (page[-1][0], "session", page[-1][1])

    async def records(self, ref: Ref) -> AsyncIterator[Record]:
        n, last = await self._of(ref, asks.NUMBERS)
        preambles: dict[bytes, Preamble] = {}
        after = 0
        while n is not None and after < last:
            page = await self._rows(asks.RECORDS, self._ms(), n, after, last, RECORDS_A_PAGE)
            after = page[-1][0] if page else last
            for _, row, plan, id, wire, tokens in page:
                if wire is not None:
                    preambles[id] = Preamble(wire, tokens)
                yield Record(unpack_one(row), plan, preambles.get(id))
            if len(page) < RECORDS_A_PAGE:
                return

    async def find(self, tenant: str, tag: str, entry: str) -> Noted | None:
        found = await self._rows(asks.FIND, self._ms(), tenant, tag, key_of(entry))
        if not found:
            return None
        tenant, kind, name, row, note = found[0]
        return Noted(Ref(tenant, kind, name), unpack_one(row), note or b"")

    async def annotate(self, ref: Ref, entry: str, note: bytes) -> bool:
        (known,) = await self._write(ref, asks.ANNOTATE, key_of(entry), note)
        return bool(known)

    async def noted(self, ref: Ref, first: int, upto: int) -> Sequence[Noted]:
        if first >= upto:
            self._open()
            return []
        found, notes = await self._of(ref, asks.NOTED, max(first, 0), min(upto, FAR))
        return [Noted(ref, unpack_one(row), note or b"") for row, note in zip(found or (), notes or (), strict=True)]
