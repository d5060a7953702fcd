"""The store: each method is one script or one command, and what its answer means."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

import msgspec

from proxy.conversation.entry import Chain, Entry
from proxy.conversation.summary import Summary
from proxy.conversation.words import Choose, Postings, Wanted
from proxy.errors import SettingsError, StoreUnavailable
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
from proxy.stores.picking import seek
from proxy.stores.redis import found, reading, rows, searching, writing
from proxy.stores.redis.adding import adding
from proxy.stores.redis.address import Address, parse
from proxy.stores.redis.erasing import Erasing
from proxy.stores.redis.held import Cache, hold
from proxy.stores.redis.keys import Keys, model_key, secret_key
from proxy.stores.redis.lining import Lining
from proxy.stores.redis.link import MOST_WAITING, Argument, Reply
from proxy.stores.redis.listing import page
from proxy.stores.redis.nodes import Nodes
from proxy.stores.redis.refusal import LOADING
from proxy.stores.redis.runs import Runs
from proxy.stores.redis.script import Script

PATIENCE_S = 10.0
"""How long a server that is still loading its data is waited for."""
VERSION = b"1"
"""Of the layout; stands before the secret."""
RECORDS_A_PAGE = 32
DELIVERED_AFTER_S = 1.0


def from_url(url: str) -> "RedisStore":
    """See `address.parse`. Raises SettingsError in one line."""
    return RedisStore(parse(url))


class RedisStore(Erasing, Runs, Lining):
    searches = frozenset({"keywords", "embeddings"})

    def __init__(self, address: Address, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(address, now=now)
        self._delivered: list[tuple[Ref, str]] = []

    async def open(self) -> None:
        if self._opened:
            return
        deadline = time.monotonic() + PATIENCE_S
        while True:
            nodes = Nodes(self._address)
            try:
                await nodes.open()
                secret = await self._agree(nodes, os.urandom(32))
                break
            except StoreUnavailable as error:
                await nodes.close()
                if LOADING not in error.message or time.monotonic() > deadline:
                    raise SettingsError(f"store: {error.message}") from error
            except BaseException:
                await nodes.close()
                raise
            await asyncio.sleep(0.2)
        self._opened = nodes, Keys(self._address.space, secret), secret
        self._start_lines(*self._opened[:2])

    async def _agree(self, nodes: Nodes, secret: bytes) -> bytes:
        """The secret that is kept; this one, if there was none."""
        key = secret_key(self._address.space)
        kept = await nodes.ask(key.encode(), "SET", key, VERSION + secret, "NX", "GET")
        if kept is None:
            return secret
        if not isinstance(kept, bytes) or not kept.startswith(VERSION) or len(kept) != 33:
            raise SettingsError(f"store: {key} in Redis at {self._address} is of a newer Remora; update this one")
        return kept[1:]

    async def close(self) -> None:
        if self._opened:
            if self._writes:
                await asyncio.gather(*self._writes, return_exceptions=True)
            self._flush_delivered()
            await self._stop_lines()
            nodes, *_ = self._opened
            self._opened = None
            self._cache = Cache()
            await nodes.close()

    async def _entries(self, script: Script, ref: Ref, entry: str, *arguments: Argument) -> list[Entry]:
        reply = await self._run(script, ref, rows.key_of(entry) or b"", *arguments)
        return rows.unpack(cast("Sequence[bytes]", reply))

    async def secret(self) -> bytes:
        return self._nodes()[2]

    async def load(self, ref: Ref, *, key: str, reach: int | None, entry: str | None = None) -> Chain | None:
        id = b"" if entry is None else rows.key_of(entry)
        if id is None:
            return None
        held = self._cache.get(ref) if entry is None else None
        window = held.window(key, reach) if held else None
        stamp = held.stamp if held and window else b""
        reply = await self._run(reading.LOAD, ref, id, key, b"" if reach is None else reach, stamp)
        if reply is None:
            self._cache.drop(ref)
            return None
        if held and window and len(cast("Sequence[Reply]", reply)) == 1:
            self._cache.used(ref, held, window)
            return held.chain(window, whole=reply == [1])
        whole, ref_head, made, rules, blobs, kept, told, revision = cast(
            "tuple[int, bytes, bytes, bytes | None, Sequence[bytes], int, Sequence[bytes], int]", reply
        )
        entries, summaries = rows.unpack(blobs), rows.unpack_summaries(told) if told else ()
        new = hold(made, entries, rows.unpack_preamble(rules), kept, summaries, revision)
        chain = new.chain(entries, whole=bool(whole))
        if chain.head.id == ref_head.hex():
            self._cache.put(ref, new)
            return chain
        return msgspec.structs.replace(chain, ref_head=ref_head.hex())

    async def read(self, ref: Ref, entry: str, first: int, upto: int) -> Sequence[Entry]:
        return await self._entries(reading.RANGE, ref, entry, max(first, 0), upto) if first < upto else []

    async def find_digests(self, ref: Ref, digests: Sequence[bytes]) -> dict[bytes, str]:
        expired, ids = await self._get(ref, *[b"d:" + digest for digest in digests])
        return {d: id.hex() for d, id in zip(digests, ids, strict=True) if id} if not expired else {}

    async def find_turn(self, ref: Ref, turn: int) -> tuple[Entry | None, Entry | None] | None:
        reply = await self._run(reading.TURN, ref, turn)
        if reply is None:
            return None
        at, after = cast("tuple[bytes | None, bytes | None]", reply)
        return rows.unpack_one(at) if at else None, rows.unpack_one(after) if after else None

    async def append(self, append: Append) -> Appended | Conflict:
        return await self._surely(self._append(append))

    async def _append(self, append: Append) -> Appended | Conflict:
        nodes, keys, _ = self._nodes()
        if self._delivered:
            self._flush_delivered()
        tag = keys.tag(append.ref)
        arguments, member = adding(append, tag, self._ms(), guarded=self._guarded)
        if nodes.cluster and member and (append.expected is None or not append.moves):
            # on another node: named there before it is, for a name without a ref does no harm
            await nodes.ask(keys.listed, b"ZADD", keys.listed, 0, member)
        script = writing.APPEND
        if append.holder:
            script = writing.APPEND_HELD
            arguments += [append.holder, self._clock()]
        reply = await nodes.run(script, self._keys(nodes, keys, tag), *arguments)
        match reply:
            case [0, bytes(generation), look]:
                if nodes.cluster and look is not None:
                    await nodes.ask(keys.due, b"ZADD", keys.due, b"LT", cast("int", look), tag + generation)
                if append.moves:
                    self._cache.grown(append, generation)
                return Appended()
            case [1]:
                return Appended(again=True)
            case _:
                _, head = cast("tuple[int, bytes]", reply)
                return Conflict(head.hex() or None)

    async def find_replay(self, ref: Ref, key: str) -> Replay | None:
        over = (ref, key) in self._delivered
        sticky_field = b"k:" + key.encode("utf-8", "surrogatepass")
        expired, (own, replay, sticky) = await self._get(ref, b"L", b"l", sticky_field)
        if expired:
            return None
        if own is not None and replay is not None and own == sticky_field[2:] and not over:
            return rows.unpack_replay(replay)
        at, kept = rows.unpack_sticky(sticky) if sticky else (0.0, None)
        return kept if at > self._ms() - STICKY_MS else None

    def delivered(self, ref: Ref, key: str) -> None:
        if self._opened and len(self._delivered) < MOST_WAITING:
            if not self._delivered:
                asyncio.get_running_loop().call_later(DELIVERED_AFTER_S, self._flush_delivered)
            self._delivered.append((ref, key))

    def _flush_delivered(self) -> None:
        if self._delivered and self._opened:
            nodes, keys, _ = self._opened
            script, waiting, self._delivered = writing.DELIVER.text, self._delivered, []
            for ref, key in waiting:
                # whole, not by its digest: tried again, it would come behind the appends that follow
                main = keys.main(keys.tag(ref))
                nodes.tell(main, b"EVAL", script, 1, main, self._ms(), key)

    async def keep_summary(self, ref: Ref, summary: Summary, *, revision: int) -> bool:
        id = rows.key_of(summary.id)
        if id is None:
            raise ValueError(f"{summary.id!r} is no id: 32 hex digits")
        of = rows.key_of(summary.entry) or b""
        return await self._run(writing.KEEP, ref, id, of, summary.upto, rows.pack_summary(summary), revision) == 1

    async def summaries(self, ref: Ref) -> Sequence[Summary]:
        reply = await self._run(reading.SUMMARIES, ref)
        return rows.unpack_summaries(cast("Sequence[bytes]", reply))

    async def index(self, ref: Ref, indexes: Sequence[Index], *, revision: int) -> bool:
        arguments = [argument for each in indexes for argument in found.arguments(each)]
        reply = cast("list[int]", await self._run(searching.INDEX, ref, revision, *arguments))
        if reply[0] == 1:
            raise ValueError(f"an entry has {reply[1]} messages, not {reply[2]}")
        return reply[0] == 0

    async def unindexed(self, ref: Ref, entry: str, *, model: str, most: int) -> Unindexed:
        kind = model_key(model) if model else b""
        reply = await self._run(searching.UNINDEXED, ref, rows.key_of(entry) or b"", kind, most)
        revision, blobs = cast("tuple[int, Sequence[bytes]]", reply)
        return Unindexed(revision, rows.unpack(blobs))

    async def postings(self, ref: Ref, entry: str, terms: Sequence[bytes]) -> Postings | None:
        reply = await self._run(searching.POSTINGS, ref, rows.key_of(entry) or b"", *terms)
        if reply is None:
            return None
        messages, length, told, runs, terms_found = cast("tuple[int, int, list[int], bytes, list[bytes]]", reply)
        return found.postings(messages, length, found.Ranges(told, runs), terms_found)

    async def seek(
        self, ref: Ref, entry: str, terms: Sequence[bytes], wanted: Wanted, choose: Choose
    ) -> Sequence[Entry]:
        return await seek(self, ref, entry, terms, wanted, choose)

    async def vectors(self, ref: Ref, entry: str, model: str) -> Vectors | None:
        reply = await self._run(searching.VECTORS, ref, rows.key_of(entry) or b"", model_key(model))
        if reply is None:
            return None
        told, runs, numbers, matrix = cast("tuple[list[int], bytes, bytes, bytes]", reply)
        return found.vectors(found.Ranges(told, runs), numbers, matrix)

    async def pick(self, ref: Ref, entry: str, positions: Sequence[int]) -> Sequence[Entry]:
        wanted = sorted({position for position in positions if position >= 0})
        return await self._entries(reading.PICK, ref, entry, *wanted)

    async def list(self, *, tenant: str | None = None, name: str | None = None) -> AsyncIterator[RefInfo]:
        first, last = rows.span(tenant, name)
        while first:
            nodes, keys, _ = self._nodes()
            infos, first = await page(nodes, keys, self._ms(), first, last, name)
            for info in infos:
                yield info

    async def records(self, ref: Ref) -> AsyncIterator[Record]:
        of, upto, at = b"", 2**53, 1
        while at <= upto:
            reply = await self._run(reading.RECORDS, ref, of, at, min(upto, at + RECORDS_A_PAGE - 1))
            if reply is None:
                return
            of, last, kept, named = cast("tuple[bytes, int, Sequence[bytes], Sequence[bytes]]", reply)
            # what is appended from now on is left out
            upto = min(upto, last)
            rules = {id: rows.unpack_preamble(blob) for id, blob in zip(named[::2], named[1::2], strict=True)}
            for blob, plan in zip(kept[::2], kept[1::2], strict=True):
                entry = rows.unpack_one(blob)
                yield Record(entry, plan, rules.get(entry.facts.preamble))
            at += RECORDS_A_PAGE

    async def find(self, tenant: str, tag: str, entry: str) -> Noted | None:
        nodes, keys, _ = self._nodes()
        id = rows.key_of(entry)
        if id is None:
            return None
        reply = await nodes.run(reading.FIND, (keys.main(keys.tag_of(tenant, tag)),), self._ms(), id)
        if not reply:
            return None
        ident, row, note = cast("tuple[bytes, bytes, bytes | None]", reply)
        return Noted(rows.unpack_ident(ident, tenant), rows.unpack_one(row), note or b"")

    async def annotate(self, ref: Ref, entry: str, note: bytes) -> bool:
        return await self._run(writing.ANNOTATE, ref, rows.key_of(entry) or b"", note) == 1

    async def noted(self, ref: Ref, first: int, upto: int) -> Sequence[Noted]:
        if first >= upto:
            return []
        blobs, notes = cast(
            "tuple[Sequence[bytes], Sequence[bytes | None]]", await self._run(reading.NOTED, ref, max(first, 0), upto)
        )
        return [Noted(ref, entry, note or b"") for entry, note in zip(rows.unpack(blobs), notes, strict=True)]

    async def ping(self) -> None:
        nodes, _, secret = self._nodes()
        await self._have_left()
        # a write, which a server that cannot write refuses; and it is made again should the server have lost it
        if await self._agree(nodes, secret) != secret:
            raise StoreUnavailable(f"Redis at {self._address} holds another store than before; restart Remora.")
