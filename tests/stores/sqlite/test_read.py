"""What a read costs: counted in SQLite's own steps, so that a busy machine does not matter."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from proxy.conversation.entry import Anchor, Entry
from proxy.stores.contract import Appended, Ref
from proxy.stores.sqlite import SqliteStore, listing
from proxy.stores.sqlite.read import Read, Reader
from proxy.stores.sqlite.thread import Worker
from tests.stores.making import adding, entry

SHORT, LONG = Ref("t", "session", "short"), Ref("t", "session", "long")
KEY = "k"


async def fill(store: SqliteStore, ref: Ref, turns: int) -> list[Entry]:
    """The window begins 20 turns before the end."""
    said: list[Entry] = []
    for turn in range(turns):
        anchor = Anchor(KEY, 0, 2 * (turns - 20)) if turn >= turns - 1 else None
        new = entry(said[-1] if said else None, f"{turn}", anchor=anchor)
        said.append(new)
    for each in said:
        assert await store.append(adding(ref, each)) == Appended()
    return said


class Counted:
    """A file with a session of 100 and one of 3,000 turns, and a reader whose steps are counted."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(str(path / "remora.db"), synchronous="normal")
        self.steps = 0

    async def fill(self) -> None:
        await self.store.open()
        self.short, self.long = await fill(self.store, SHORT, 100), await fill(self.store, LONG, 3000)

    async def cost(self, read: Read) -> int:
        def counted(reader: Reader) -> object:
            self.steps = 0

            def step() -> int:
                self.steps += 1
                return 0

            reader._db.set_progress_handler(step, 1)
            try:
                return read(reader)
            finally:
                reader._db.set_progress_handler(None, 1)

        worker: Worker[Read] = self.store._threads()[2]
        await worker.ask(counted)
        return self.steps


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    made = Counted(tmp_path_factory.mktemp("read"))

    async def fill() -> None:
        await made.fill()
        await made.store.close()

    asyncio.run(fill())
    return made


async def costs(counted: Counted, short: Read, long: Read) -> tuple[int, int]:
    await counted.store.open()
    try:
        return await counted.cost(short), await counted.cost(long)
    finally:
        await counted.store.close()


async def test_a_window_costs_the_same_however_long_the_session(counted: Counted) -> None:
    short, long = await costs(counted, lambda r: r.load(SHORT, KEY, None), lambda r: r.load(LONG, KEY, None))
    assert 0 < short < 600
    assert long <= short * 1.05


async def test_so_does_a_window_by_its_tokens(counted: Counted) -> None:
    short, long = await costs(counted, lambda r: r.load(SHORT, "", 160), lambda r: r.load(LONG, "", 160))
    assert 0 < short < 1500
    assert long <= short * 1.05


async def test_so_does_a_window_that_ends_in_the_middle(counted: Counted) -> None:
    middle = counted.short[50].id, counted.long[1500].id
    short, long = await costs(
        counted, lambda r: r.load_entry(SHORT, "", 160, middle[0]), lambda r: r.load_entry(LONG, "", 160, middle[1])
    )
    assert 0 < short < 1500
    assert long <= short * 1.05


async def test_so_does_a_part_read_by_position(counted: Counted) -> None:
    heads = counted.short[-1].id, counted.long[-1].id
    short, long = await costs(
        counted, lambda r: r.read(SHORT, heads[0], 10, 20), lambda r: r.read(LONG, heads[1], 10, 20)
    )
    assert 0 < short < 600
    assert long <= short * 1.05


async def test_so_does_looking_for_a_replay(counted: Counted) -> None:
    short, long = await costs(
        counted, lambda r: r.find_replay(SHORT, "x", over=False), lambda r: r.find_replay(LONG, "x", over=False)
    )
    assert 0 < short < 200
    assert long <= short * 1.05


async def test_digests_of_whole_history_clients_are_found_at_once(counted: Counted) -> None:
    """Once a client has sent its whole history, it will do so again: then nothing is searched from end to end."""
    await counted.store.open()
    for ref, said in ((SHORT, counted.short), (LONG, counted.long)):
        chain = await counted.store.load(ref, key="", reach=1)
        assert chain is not None
        new = entry(chain.head, "whole")
        said.append(new)
        assert await counted.store.append(adding(ref, new, whole=True)) == Appended()
    await counted.store.close()
    wanted = [said[-30].digest for said in (counted.short, counted.long)]
    short, long = await costs(
        counted,
        lambda r: r.find_digests(SHORT, [wanted[0], b"x" * 16]),
        lambda r: r.find_digests(LONG, [wanted[1], b"x" * 16]),
    )
    assert 0 < short < 1500
    assert long <= short * 1.05


async def test_a_page_of_a_listing_costs_the_same_wherever_it_is(tmp_path: Path) -> None:
    made = Counted(tmp_path)
    await made.store.open()
    refs = [Ref("t", "session", f"{n:04d}") for n in range(900)]
    await asyncio.gather(*[made.store.append(adding(ref, entry(None))) for ref in refs])
    for tenant in (None, "t"):
        page = partial(listing.refs, tenant=tenant, name=None, most=10)
        first = await made.cost(lambda r, page=page: r.ask(partial(page, after=refs[100])))  # type: ignore[misc]
        late = await made.cost(lambda r, page=page: r.ask(partial(page, after=refs[700])))  # type: ignore[misc]
        assert 0 < late <= first * 1.05
        assert first < 900
    await made.store.close()
