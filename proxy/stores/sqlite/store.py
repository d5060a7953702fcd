"""The store: what is asked on the event loop goes to the writer's or the reader's thread, and comes back."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from proxy.conversation.entry import Chain, Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.conversation.words import Choose, Postings, Wanted
from proxy.errors import SettingsError, StoreUnavailable
from proxy.stores.contract import (
    Append,
    Appended,
    Conflict,
    End,
    Index,
    Label,
    Noted,
    Place,
    Record,
    Redaction,
    Ref,
    RefInfo,
    Replay,
    Run,
    Unindexed,
    Vectors,
)
from proxy.stores.sqlite import labels, listing, notes, places, runs, schema, search
from proxy.stores.sqlite.asks import (
    Annotate,
    CancelRun,
    Delivered,
    DropRun,
    Erase,
    Expire,
    LineUp,
    LogRun,
    Ping,
    Prune,
    PutLabel,
    StepOut,
    Write,
    adding,
    begin_run,
    indexing,
    keep,
    redact,
)
from proxy.stores.sqlite.cache import Cache
from proxy.stores.sqlite.checkpoint import Checkpointer
from proxy.stores.sqlite.link import Link
from proxy.stores.sqlite.read import Read, Reader
from proxy.stores.sqlite.rows import key_of
from proxy.stores.sqlite.thread import MOST_WAITING, Worker
from proxy.stores.sqlite.waiting import Waiting
from proxy.stores.sqlite.write import Writer

REFS_A_PAGE = 100
RECORDS_A_PAGE = 32
DELIVERED_AFTER_S = 1.0

T = TypeVar("T")


def from_url(url: str) -> "SqliteStore":
    """`sqlite:///relative.db` or `sqlite:////absolute.db`, with `?synchronous=full` (the default: what is acknowledged
    survives a power cut) or `normal` (it survives the end of the process). Raises SettingsError in one line."""
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if parts.netloc or not path or path == ":memory:" or "\0" in path:
        raise SettingsError(f"store: {url!r}: write sqlite:///FILE, sqlite:////FOLDER/FILE from the root, or memory:")
    synchronous = "full"
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name != "synchronous":
            raise SettingsError(f"store: {url!r}: there is no option {name!r}; there is synchronous=full|normal")
        if value not in ("full", "normal"):
            raise SettingsError(f"store: {url!r}: synchronous is full or normal, not {value!r}")
        synchronous = value
    return SqliteStore(path, synchronous=synchronous)


def _unindexed(db: sqlite3.Connection, ref: int, parts: search.Parts, *, model: str, most: int) -> Unindexed:
    (revision,) = db.execute("SELECT revision FROM refs WHERE n = ?", (ref,)).fetchone()
    return Unindexed(revision, search.unindexed(db, ref, parts, model, most))


class SqliteStore:
    searches = frozenset({"keywords", "embeddings"})

    def __init__(self, path: str, *, synchronous: str = "full", now: Callable[[], float] = time.time) -> None:
        """`now` is asked from other threads too."""
        self._path = path
        self._synchronous = synchronous
        self._now = now
        self._delivered: list[tuple[Ref, str]] = []
        self._opened: tuple[bytes, Worker[Write], Worker[Read], Checkpointer] | None = None
        self._writer: Writer | None = None
        self._waiting = Waiting(self._firsts)

    async def open(self) -> None:
        if self._opened:
            return
        secret = await asyncio.to_thread(schema.prepare, self._path)
        writes = Link(self._path, secret, synchronous=self._synchronous)
        reads = Link(self._path, secret, reads=True)
        checkpointer = Checkpointer(Link(self._path, secret, synchronous=self._synchronous))

        def failed() -> None:
            reads.stale = True

        cache = Cache()
        writer = Writer(writes, self._ms, cache, wrote=checkpointer.wrote, failed=failed, purged=checkpointer.scrub)
        self._writer = writer
        reader = Reader(reads, self._ms, cache)
        self._opened = (
            secret,
            Worker("remora-store-write", writer.serve, writer.finish),
            Worker("remora-store-read", reader.serve, reader.finish),
            checkpointer,
        )

    async def close(self) -> None:
        if self._opened and self._writer:
            self._flush_delivered()
            self._waiting.close()
            self._writer.ending = True
            _, writer, reader, checkpointer = self._opened
            await reader.close()
            await writer.close()
            await asyncio.to_thread(checkpointer.stop)
            self._opened = None

    def _ms(self) -> int:
        return int(self._now() * 1000)

    def _threads(self) -> tuple[bytes, Worker[Write], Worker[Read], Checkpointer]:
        if self._opened is None:
            raise StoreUnavailable("The store is closed; the proxy is stopping, send the request again.")
        return self._opened

    async def _read(self, read: Callable[[Reader], T]) -> T:
        return cast("T", await self._threads()[2].ask(read))

    async def _write(self, write: Write) -> object:
        writer = self._threads()[1]
        self._flush_delivered()
        return await writer.ask(write)

    async def secret(self) -> bytes:
        return self._threads()[0]

    async def load(self, ref: Ref, *, key: str, reach: int | None, entry: str | None = None) -> Chain | None:
        if entry is None:
            return await self._read(lambda reader: reader.load(ref, key, reach))
        return await self._read(lambda reader: reader.load_entry(ref, key, reach, entry))

    async def read(self, ref: Ref, entry: str, first: int, upto: int) -> Sequence[Entry]:
        return await self._read(lambda reader: reader.read(ref, entry, first, upto))

    async def find_digests(self, ref: Ref, digests: Sequence[bytes]) -> dict[bytes, str]:
        return await self._read(lambda reader: reader.find_digests(ref, digests))

    async def find_turn(self, ref: Ref, turn: int) -> tuple[Entry | None, Entry | None] | None:
        return await self._read(lambda reader: reader.find_turn(ref, turn))

    async def append(self, append: Append) -> Appended | Conflict:
        if not append.holder:
            return cast("Appended | Conflict", await self._write(adding(append)))
        writer = self._threads()[1]
        self._flush_delivered()
        answer = writer.ask(adding(append))
        # also if nobody waits for the answer any more: those who are woken are served behind it
        answer.add_done_callback(lambda _: self._waiting.wake(append.ref))
        return cast("Appended | Conflict", await answer)

    async def find_replay(self, ref: Ref, key: str) -> Replay | None:
        over = (ref, key) in self._delivered
        return await self._read(lambda reader: reader.find_replay(ref, key, over=over))

    def delivered(self, ref: Ref, key: str) -> None:
        if self._opened and len(self._delivered) < MOST_WAITING:
            if not self._delivered:
                asyncio.get_running_loop().call_later(DELIVERED_AFTER_S, self._flush_delivered)
            self._delivered.append((ref, key))

    def _flush_delivered(self) -> None:
        if self._delivered and self._opened:
            self._opened[1].tell(Delivered(self._delivered))
            self._delivered = []

    async def keep_summary(self, ref: Ref, summary: Summary, *, revision: int) -> bool:
        return bool(await self._write(keep(ref, summary, revision)))

    async def summaries(self, ref: Ref) -> Sequence[Summary]:
        return await self._read(lambda reader: reader.summaries(ref))

    async def index(self, ref: Ref, indexes: Sequence[Index], *, revision: int) -> bool:
        return bool(await self._write(indexing(ref, indexes, revision)))

    async def unindexed(self, ref: Ref, entry: str, *, model: str, most: int) -> Unindexed:
        ask = partial(_unindexed, model=model, most=most)
        return await self._read(lambda reader: reader.search(ref, entry, ask)) or Unindexed(0, ())

    async def postings(self, ref: Ref, entry: str, terms: Sequence[bytes]) -> Postings | None:
        return await self._read(lambda reader: reader.search(ref, entry, partial(search.postings, terms=terms)))

    async def seek(
        self, ref: Ref, entry: str, terms: Sequence[bytes], wanted: Wanted, choose: Choose
    ) -> Sequence[Entry]:
        ask = partial(search.seek, terms=terms, wanted=wanted, choose=choose)
        return await self._read(lambda reader: reader.search(ref, entry, ask)) or []

    async def vectors(self, ref: Ref, entry: str, model: str) -> Vectors | None:
        return await self._read(lambda reader: reader.search(ref, entry, partial(search.vectors, model=model)))

    async def pick(self, ref: Ref, entry: str, positions: Sequence[int]) -> Sequence[Entry]:
        ask = partial(search.pick, positions=positions)
        return await self._read(lambda reader: reader.search(ref, entry, ask)) or []

    async def list(self, *, tenant: str | None = None, name: str | None = None) -> AsyncIterator[RefInfo]:
        after = Ref(tenant or "", "", "")
        while True:
            ask = partial(listing.refs, tenant=tenant, name=name, after=after, most=REFS_A_PAGE)
            page = await self._read(partial(Reader.ask, ask=ask))
            for info in page:
                yield info
            if len(page) < REFS_A_PAGE:
                return
            after = page[-1].ref

    async def records(self, ref: Ref) -> AsyncIterator[Record]:
        n, numbers = await self._read(partial(Reader.ask, ask=partial(listing.numbers, ref=ref)))
        for at in range(0, len(numbers), RECORDS_A_PAGE):
            ask = partial(listing.records, ref=n, numbers=numbers[at : at + RECORDS_A_PAGE])
            for record in await self._read(partial(Reader.ask, ask=ask)):
                yield record

    async def find(self, tenant: str, tag: str, entry: str) -> Noted | None:
        return await self._read(lambda reader: reader.ask(partial(notes.find, tenant=tenant, tag_=tag, entry=entry)))

    async def annotate(self, ref: Ref, entry: str, note: bytes) -> bool:
        return bool(await self._write(Annotate(ref, key_of(entry), note)))

    async def noted(self, ref: Ref, first: int, upto: int) -> Sequence[Noted]:
        return await self._read(lambda reader: reader.noted(ref, first, upto))

    async def redact(
        self, ref: Ref, redactions: Sequence[Redaction], *, preamble: tuple[bytes, Preamble] | None
    ) -> bool:
        return bool(await self._write(redact(ref, redactions, preamble)))

    async def prune(self, ref: Ref, entry: str) -> bool:
        return bool(await self._write(Prune(ref, key_of(entry))))

    async def label(self, ref: Ref, label: bytes, *, new: bool, ttl_s: int | None = None) -> bool:
        return bool(await self._write(PutLabel(ref, label, new, ttl_s)))

    async def labelled(self, ref: Ref) -> Label | None:
        return await self._read(lambda reader: reader.ask(partial(labels.labelled, ref=ref)))

    async def labels(
        self, tenant: str, kind: str, *, after: str | None, most: int, newest_first: bool
    ) -> Sequence[Label]:
        ask = partial(labels.labels, tenant=tenant, kind=kind, after=after, most=most, newest_first=newest_first)
        return await self._read(lambda reader: reader.ask(ask))

    async def begin_run(
        self, ref: Ref, entry: str, *, owner: str, state: bytes, ttl_s: int | None, recorded: bool = False
    ) -> bool:
        return bool(await self._write(begin_run(ref, entry, owner, state, ttl_s, recorded=recorded)))

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
        return cast("Run | None", await self._write(LogRun(ref, key_of(entry), owner, tuple(events), state, end)))

    async def find_run(self, tenant: str, tag: str, entry: str) -> Run | None:
        return await self._read(lambda reader: reader.ask(partial(runs.find, tenant=tenant, tag_=tag, entry=entry)))

    async def run_events(self, ref: Ref, entry: str, after: int, most: int) -> Sequence[bytes]:
        ask = partial(runs.events, ref=ref, entry=entry, after=after, most=most)
        return await self._read(lambda reader: reader.ask(ask))

    async def cancel_run(self, ref: Ref, entry: str) -> Run | None:
        return cast("Run | None", await self._write(CancelRun(ref, key_of(entry))))

    async def drop_run(self, ref: Ref, entry: str) -> bool:
        return bool(await self._write(DropRun(ref, key_of(entry))))

    async def line_up(self, ref: Ref, holder: str, *, keep_ms: int, wait: bool) -> Place:
        place = cast("Place", await self._write(LineUp(ref, holder, keep_ms, wait)))
        self._waiting.stands(ref, holder, place)
        return place

    def step_out(self, ref: Ref, holder: str) -> None:
        if self._opened:
            self._opened[1].tell(StepOut(ref, holder))
            # who is woken now asks behind it, so it need not be written yet
            self._waiting.left(ref, holder)

    async def moved(self, ref: Ref, timeout_s: float) -> None:
        self._threads()
        await self._waiting.moved(ref, timeout_s)

    async def _firsts(self, refs: Sequence[Ref]) -> Sequence[str | None]:
        return await self._read(lambda reader: reader.ask(partial(places.firsts, refs=refs)))

    async def stale_runs(self, silent_ms: int, most: int) -> Sequence[Run]:
        ask = partial(runs.stale, silent_ms=silent_ms, most=most)
        return await self._read(lambda reader: reader.ask(ask))

    async def erase(self, ref: Ref) -> bool:
        return bool(await self._write(Erase(ref)))

    async def expire(self, limit: int) -> int:
        return cast("int", await self._write(Expire(limit)))

    async def ping(self) -> None:
        await self._write(Ping())
