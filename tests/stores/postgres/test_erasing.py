"""Redacting and pruning: nothing is left in any row, in no process, and what is read does not grow with the ref."""

from collections.abc import Callable

import msgspec

from proxy.conversation.entry import Entry
from proxy.conversation.summary import Summary
from proxy.conversation.words import Words
from proxy.stores.contract import Appended, End, Index, Ref
from proxy.stores.postgres import PostgresStore
from proxy.stores.postgres.address import parse
from tests.stores.making import CHAIN, OTHER_RULES, REF, RULES, Clock, adding, entry, redacted, replay
from tests.stores.postgres.test_store import opened, rows_of, rows_read
from tests.support.postgres import Server

SECRET = "secret words"


async def secretive(store: PostgresStore, ref: Ref, after: Entry | None = None, text: str = SECRET) -> Entry:
    """One entry that says it wherever an entry can."""
    new = entry(after, text, preamble=RULES)
    kept = replay("k", new, sticky=True, body=text.encode())
    note = text.encode()
    assert await store.begin_run(ref, new.id, owner="me", state=note, ttl_s=None)
    append = adding(ref, new, preamble=RULES, replay=kept, note=note, whole=True)
    assert await store.append(append) == Appended()
    await store.log_run(ref, new.id, owner="me", events=[note] * 3, end=End(600, keep=True))
    assert await store.keep_summary(ref, Summary(new.id, new.id, new.upto, text, 1, 1, "", "m", 1), revision=0)
    return new


def holds(server: Server, schema: str, words: str) -> list[str]:
    """Tables in which it stands."""
    names = server.sql(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'").split()
    found = "SELECT count(*) FROM {0}.{1} t WHERE position('{2}' IN t::text) > 0"
    pattern = words.encode().hex()
    return [name for name in names if server.sql(found.format(schema, name, pattern)) != "0"]


async def test_no_table_holds_what_was_redacted(fresh: Callable[[], str], server: Server) -> None:
    url = fresh()
    store = await opened(url)
    new = await secretive(store, REF)
    schema = parse(url).schema
    assert set(holds(server, schema, SECRET)) == {"entries", "logs", "notes", "replays", "responses", "summaries"}
    less = msgspec.structs.replace(RULES, wire=b"")
    assert await store.redact(REF, [redacted(new)], preamble=(RULES.id, less))
    assert holds(server, schema, SECRET) == []
    assert holds(server, schema, "be kind") == []
    await store.close()


async def test_no_table_holds_what_was_pruned(fresh: Callable[[], str], server: Server) -> None:
    url = fresh()
    store = await opened(url)
    first = entry(None, "stays", preamble=OTHER_RULES)
    assert await store.append(adding(CHAIN, first, preamble=OTHER_RULES, note=b"n")) == Appended()
    new = await secretive(store, CHAIN, first)
    words = (Words(1, ((b"12345678", 1),)),) * 2
    assert await store.index(CHAIN, [Index(each.id, words) for each in (first, new)], revision=0)
    assert await store.prune(CHAIN, new.id)
    schema = parse(url).schema
    assert holds(server, schema, SECRET) == []
    assert holds(server, schema, "be kind") == []
    chain = await store.load(CHAIN, key="", reach=None)
    assert chain
    assert (chain.entries, chain.preamble) == ((first,), OTHER_RULES)
    assert await store.prune(CHAIN, first.id)
    counts = rows_of(server, schema)
    assert {name: count for name, count in counts.items() if count} == {"meta": 2, "migrations": 3}
    await store.close()


async def test_other_replicas_hold_nothing_of_it(fresh: Callable[[], str]) -> None:
    """What they hold is void at once, also where the head stays what it was."""
    url = fresh()
    one, other = await opened(url), await opened(url)
    said: list[Entry] = []
    for n in range(6):
        said.append(entry(said[-1] if said else None, f"{n}", preamble=RULES))
        await one.append(adding(REF, said[-1], preamble=RULES))
    for turn in range(4):
        for store in (one, other):
            chain = await store.load(REF, key="", reach=None)
            assert chain
            assert list(chain.entries) == said
        stub = redacted(said[turn])
        said[turn] = stub.entry
        less = msgspec.structs.replace(RULES, wire=b"%d" % turn)
        assert await one.redact(REF, [stub], preamble=(RULES.id, less))
        for store in (other, one, other):
            chain = await store.load(REF, key="", reach=None)
            assert chain
            assert (list(chain.entries), chain.preamble, chain.revision) == (said, less, turn + 1)
    # what is sent again under the id is in force in both
    said.append(entry(said[-1], "again", preamble=RULES))
    assert await other.append(adding(REF, said[-1], preamble=RULES)) == Appended()
    for store in (one, other, one):
        chain = await store.load(REF, key="", reach=None)
        assert chain
        assert (list(chain.entries), chain.preamble) == (said, RULES)
    for store in (one, other):
        await store.close()


async def test_other_replicas_know_of_a_prune(fresh: Callable[[], str]) -> None:
    url = fresh()
    one, other = await opened(url), await opened(url)
    a = entry(None)
    b = entry(a)
    c = entry(a)
    for new, head in ((a, None), (b, a.id), (c, b.id)):
        await one.append(adding(CHAIN, new, head, note=b"n"))
    for store in (one, other):
        assert await store.load(CHAIN, key="", reach=None)
    assert await one.prune(CHAIN, c.id)
    for store in (other, one):
        chain = await store.load(CHAIN, key="", reach=None)
        assert chain
        assert list(chain.entries) == [a, b]
    for store in (one, other):
        await store.close()


async def test_logs_expire_in_small_steps(fresh: Callable[[], str], server: Server) -> None:
    url, clock = fresh(), Clock()
    store = PostgresStore(parse(url), now=clock)
    await store.open()
    for keep in (True, False):
        new = entry(None)
        assert await store.begin_run(CHAIN, new.id, owner="me", state=b"", ttl_s=None)
        for n in range(30):
            await store.log_run(CHAIN, new.id, owner="me", events=[b"%d" % n])
        await store.log_run(CHAIN, new.id, owner="me", end=End(10, keep))
    clock.seconds += 10
    schema = parse(url).schema
    sql = "SELECT * FROM expire($1, $2, $3, $4)"
    seen = []
    for _ in range(10):
        found = await store._rows(sql, int(clock() * 1000), 9, 7, 0)
        seen.append(tuple(found[0]))
    # 7 rows a step
    assert rows_of(server, schema)["logs"] == 0
    assert rows_of(server, schema)["responses"] == 1
    assert sum(gone for gone, _ in seen) == 2
    assert seen[0] == (0, True)
    assert seen[-1] == (0, False)
    await store.close()


async def test_the_sweep_and_the_watch_read_only_what_is_over(fresh: Callable[[], str], server: Server) -> None:
    url, clock = fresh(), Clock()
    store = PostgresStore(parse(url), now=clock)
    await store.open()
    for n in range(200):
        ref, new = Ref("t", "chain", f"{n}"), entry(None)
        assert await store.begin_run(ref, new.id, owner="me", state=b"", ttl_s=None)
        if n % 2:
            await store.log_run(ref, new.id, owner="me", events=[b"x"], end=End(10**6, keep=n % 4 == 1))
    clock.seconds += 100
    silent = entry(None)
    assert await store.begin_run(CHAIN, silent.id, owner="me", state=b"", ttl_s=None)
    await store.close()
    before = await rows_read(server, parse(url).schema)
    await store.open()
    assert await store.expire(20) == 0
    assert list(await store.stale_runs(10**6, 20)) == []
    await store.close()
    assert await rows_read(server, parse(url).schema) - before < 20
