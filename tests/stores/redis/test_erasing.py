"""Redacting and pruning leave nothing, in no key and in no process; the sweep finds logs."""

import asyncio
from collections.abc import Callable

import msgspec

from proxy.conversation.entry import Entry, new_id
from proxy.conversation.summary import Summary
from proxy.stores.contract import Appended, End, Ref
from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Link
from proxy.stores.redis.store import RedisStore
from tests.stores.making import CHAIN, REF, RULES, Clock, adding, entry, redacted, replay

SECRET = "secret words"
Make = Callable[..., RedisStore]


async def holds(address: Address, words: bytes) -> bool:
    """Whether it stands anywhere in a hash of a ref."""
    link = Link(address)
    keys = await link.ask("KEYS", f"{address.space}:{{*")
    assert isinstance(keys, list)
    found = False
    for key in keys:
        assert isinstance(key, bytes)
        if await link.ask("TYPE", key) == b"hash" or not key.endswith(b":u"):
            all = await link.ask("HGETALL", key)
            assert isinstance(all, list)
            found = found or any(words in each for each in all if isinstance(each, bytes))
    await link.close()
    return found


async def secretive(store: RedisStore, ref: Ref, after: Entry | None) -> Entry:
    new, text = entry(after, SECRET, preamble=RULES), SECRET.encode()
    assert await store.begin_run(ref, new.id, owner="me", state=text, ttl_s=None)
    kept = replay("k", new, sticky=True, body=text)
    assert await store.append(adding(ref, new, preamble=RULES, replay=kept, note=text)) == Appended()
    await store.log_run(ref, new.id, owner="me", events=[text] * 3, end=End(600, keep=True))
    assert await store.keep_summary(ref, Summary(new.id, new.id, new.upto, SECRET, 1, 1, "", "m", 1), revision=0)
    return new


async def test_no_key_holds_what_was_redacted_or_pruned(store: RedisStore, address: Address) -> None:
    new = await secretive(store, REF, None)
    assert await holds(address, SECRET.encode())
    less = msgspec.structs.replace(RULES, wire=b"")
    assert await store.redact(REF, [redacted(new)], preamble=(RULES.id, less))
    assert not await holds(address, SECRET.encode())
    assert not await holds(address, RULES.wire)
    first = entry(None, "stays")
    assert await store.append(adding(CHAIN, first, note=b"n")) == Appended()
    gone = await secretive(store, CHAIN, first)
    assert await store.prune(CHAIN, gone.id)
    assert not await holds(address, SECRET.encode())
    assert not await holds(address, RULES.wire)
    assert await store.prune(CHAIN, first.id)
    assert await store.erase(REF)
    link = Link(address)
    assert await link.ask("KEYS", f"{address.space}:*") == [f"{address.space}:secret".encode()]
    await link.close()


async def test_other_processes_hold_nothing_of_it(make: Make) -> None:
    one, other = make(), make()
    await asyncio.gather(one.open(), other.open())
    said: list[Entry] = []
    for n in range(6):
        said.append(entry(said[-1] if said else None, f"{n}", preamble=RULES))
        await one.append(adding(REF, said[-1], preamble=RULES))
    for turn in range(4):
        for store in (one, other):
            assert await store.load(REF, key="", reach=None)
        stub = redacted(said[turn])
        said[turn] = stub.entry
        less = msgspec.structs.replace(RULES, wire=b"%d" % turn)
        assert await one.redact(REF, [stub], preamble=(RULES.id, less))
        for store in (other, one, other):
            chain = await store.load(REF, key="", reach=None)
            assert chain
            assert (list(chain.entries), chain.preamble, chain.revision) == (said, less, turn + 1)
    said.append(entry(said[-1], "again", preamble=RULES))
    assert await other.append(adding(REF, said[-1], preamble=RULES)) == Appended()
    for store in (one, other, one):
        chain = await store.load(REF, key="", reach=None)
        assert chain
        assert (list(chain.entries), chain.preamble) == (said, RULES)


async def test_the_sweep_finds_logs_and_leaves_nothing_due(make: Make, address: Address) -> None:
    clock, link = Clock(), Link(address)
    store = make(now=clock)
    await store.open()
    due = f"{address.space}:due"
    for log_s, keep in ((10, True), (20, False)):
        id = new_id()
        assert await store.begin_run(CHAIN, id, owner="me", state=b"", ttl_s=None)
        await store.log_run(CHAIN, id, owner="me", events=[b"x"] * 2500, end=End(log_s, keep))
    assert await link.ask("ZCARD", due) == 1
    clock.seconds += 10
    assert await store.expire(9) == 1
    assert await store.expire(9) == 0
    assert await link.ask("ZCARD", due) == 1
    clock.seconds += 10
    assert await store.expire(9) == 1
    assert await link.ask("EXISTS", due) == 0
    await link.close()
