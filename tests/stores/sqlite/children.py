"""Programs that tests run as processes of their own: `python -m tests.stores.sqlite.children NAME …`."""

import asyncio
import os
import resource
import signal
import sys
import time

from proxy.conversation.entry import Entry, new_id
from proxy.errors import SettingsError, StoreUnavailable
from proxy.stores.contract import Appended, Conflict, Ref
from proxy.stores.sqlite import SqliteStore, schema
from tests.stores.making import adding, entry


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def hammer(path: str, name: str, sessions: str, turns: str) -> None:
    """Appends to many sessions at once; says each id when it is acknowledged."""
    store = SqliteStore(path)
    await store.open()

    async def talk(ref: Ref) -> None:
        last: Entry | None = None
        for turn in range(int(turns)):
            new = entry(last, f"{turn} {'x' * (turn % 7 * 900)}")
            assert await store.append(adding(ref, new)) == Appended()
            say(f"{ref.name} {new.id}")
            last = new

    await asyncio.gather(*[talk(Ref("t", "session", f"{name}{n}")) for n in range(int(sessions))])
    await store.close()


async def rival(path: str, name: str, turns: str) -> None:
    """Adds so many turns to a session that others write too, each on top of whatever is there."""
    store = SqliteStore(path)
    await store.open()
    ref = Ref("t", "session", "shared")
    for turn in range(int(turns)):
        answer: object = None
        while answer != Appended():
            chain = await store.load(ref, key="", reach=1)
            head = chain.head if chain else None
            new = entry(head, f"{name} {turn}")
            answer = await store.append(adding(ref, new))
            assert isinstance(answer, Appended | Conflict)
        say(new.id)
    await store.close()


async def visitor(path: str, name: str, turns: str) -> None:
    """Adds so many turns to a session that others write too, in line with them."""
    store = SqliteStore(path, synchronous="normal")
    await store.open()
    ref = Ref("t", "session", "shared")
    for turn in range(int(turns)):
        holder = f"{name} {turn}"
        while (await store.line_up(ref, holder, keep_ms=20_000, wait=True)).ahead:
            await store.moved(ref, 5)
        chain = await store.load(ref, key="", reach=1)
        new = entry(chain.head if chain else None, holder)
        assert await store.append(adding(ref, new, holder=holder)) == Appended()
    await store.close()


async def dies_in_line(path: str) -> None:
    """Is first in a line for a second from now; says until when."""
    store = SqliteStore(path)
    await store.open()
    kept = time.time() + 1
    await store.line_up(Ref("tenant", "session", "one"), "dies", keep_ms=1000, wait=True)
    say(f"{kept}")
    await asyncio.sleep(60)


async def stream(path: str, runs: str) -> None:
    """Makes so many runs at once, for ever; says how many events of each were acknowledged."""
    store = SqliteStore(path)
    await store.open()

    async def make(ref: Ref) -> None:
        id, given = new_id(), 0
        assert await store.begin_run(ref, id, owner="child", state=b"0", ttl_s=None)
        while True:
            events = [b"%d" % n for n in range(given, given + given % 4 + 1)]
            given += len(events)
            assert await store.log_run(ref, id, owner="child", events=events, state=b"%d" % given)
            say(f"{id} {given}")

    await asyncio.gather(*[make(Ref("t", "chain", f"{n}")) for n in range(int(runs))])


async def open_only(path: str, go: str) -> None:
    """Waits for the file `go`, then opens; says the secret."""
    say("ready")
    while not os.path.exists(go):  # noqa: ASYNC110, ASYNC240, PTH110 - all shall begin at the same moment
        await asyncio.sleep(0)
    store = SqliteStore(path)
    await store.open()
    say((await store.secret()).hex())
    await store.close()


async def refused(path: str) -> None:
    """Opens as a user without privileges; says why not."""
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        schema.prepare(path)
    except SettingsError as error:
        say(str(error))


async def full(path: str, limit: str) -> None:
    """Fills a disk that holds `limit` bytes a file, frees it, goes on; says what happened."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = SqliteStore(path)
    await store.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    ref = Ref("t", "session", "s")
    said: list[Entry] = []
    while True:
        new = entry(said[-1] if said else None, "x" * 20_000)
        try:
            assert await store.append(adding(ref, new)) == Appended()
        except StoreUnavailable as error:
            say(error.message)
            break
        said.append(new)
    for _ in range(3):
        try:
            await store.append(adding(ref, new))
        except StoreUnavailable:
            say("still full")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    try:
        await store.ping()
    except StoreUnavailable:
        say("ping tells")
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    chain = await store.load(ref, key="", reach=None)
    assert chain is not None
    assert list(chain.entries) == said
    say("all is there")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert await store.append(adding(ref, new)) == Appended()
    chain = await store.load(ref, key="", reach=None)
    assert chain is not None
    assert list(chain.entries) == [*said, new]
    await store.ping()
    say("recovered")
    await store.close()


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))
