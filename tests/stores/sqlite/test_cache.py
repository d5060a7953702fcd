"""What is held of a session is what the file says, or nothing."""

import asyncio
from itertools import groupby
from pathlib import Path

import pytest

from proxy.conversation.entry import Anchor, Entry, Preamble
from proxy.stores.contract import Appended, Ref
from proxy.stores.sqlite import SqliteStore, cache, read
from proxy.stores.sqlite.cache import Cache
from tests.stores.making import REF, adding, entry, talk
from tests.stores.sqlite.test_write import writer_of


def held(store: SqliteStore, ref: Ref = REF) -> tuple[Entry, ...]:
    found = writer_of(store)._cache.get(ref)
    return tuple(found.entries[: found.size]) if found else ()


async def loaded(store: SqliteStore, key: str = "", reach: int | None = None) -> tuple[Entry, ...]:
    chain = await store.load(REF, key=key, reach=reach)
    return chain.entries if chain else ()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each load went."""
    gone: list[str] = []
    for name in ("_load_held", "_load"):
        before = getattr(read.Reader, name)

        def watched(*arguments: object, name: str = name, before: object = before) -> object:
            found = before(*arguments)  # type: ignore[operator]
            gone.append(name if found else f"no {name}")
            return found

        monkeypatch.setattr(read.Reader, name, watched)
    return gone


async def test_a_session_that_goes_on_is_read_once(tmp_path: Path, statements: list[str]) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    said = await talk(store, 5)
    for _ in range(4):
        assert await loaded(store) == tuple(said)
        said += await talk(store, 1, after=said[-1])
    assert statements == ["_load", "_load_held", "_load_held", "_load_held"]
    await store.close()


async def test_more_than_is_held_is_read(tmp_path: Path, statements: list[str]) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    said = await talk(store, 8)
    for reach, turns in ((1, 1), (8, 1), (9, 2), (40, 5), (17, 3), (41, 6), (None, 8), (3, 1)):
        assert await loaded(store, reach=reach) == tuple(said[-turns:])
    # a load that needs several statements begins again in a transaction
    ways = [way for way, _ in groupby(statements)]
    held, more = ["_load_held"], ["no _load_held", "_load"]
    assert ways == ["_load", *held, *more, *more, *held, *more, *more, *held]
    said.append(entry(said[-1], anchor=Anchor("k", 4, 12)))
    await store.append(adding(REF, said[-1]))
    assert await loaded(store, "k") == tuple(said[6:])
    assert statements[-1] == "_load_held"
    await store.close()


async def test_a_branch_forgets_what_was_held(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    a, b = await talk(store, 2)
    assert await loaded(store) == (a, b) == held(store)
    other = entry(a, "again")
    await store.append(adding(REF, other, b.id))
    assert held(store) == ()
    assert await loaded(store) == (a, other) == held(store)
    await store.append(adding(REF, entry(None, "root"), other.id))
    assert held(store) == ()
    await store.close()


async def test_a_preamble_that_changes_each_turn_is_held_too(tmp_path: Path, statements: list[str]) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    said = await talk(store, 1)
    await loaded(store)
    rules = [Preamble(b'{"role":"system","content":"It is %b o\'clock"}' % (b"x" * n), n) for n in range(5)]
    for preamble in (*rules, None, rules[0]):
        said.append(entry(said[-1], preamble=preamble))
        await store.append(adding(REF, said[-1], preamble=preamble))
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert (chain.entries, chain.preamble) == (tuple(said), preamble)
    assert statements == ["_load"] + ["_load_held"] * 7
    found = writer_of(store)._cache
    weight = len(rules[0].wire) + sum(len(e.wire) + len(e.packed) + cache.OVERHEAD_BYTES for e in said)
    assert found._bytes == weight
    await store.close()


async def test_what_is_erased_is_not_held(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    await talk(store, 2)
    await loaded(store)
    assert held(store)
    await store.erase(REF)
    assert held(store) == ()
    await store.close()


async def test_what_has_left_the_window_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "SPARE", 6)
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    last: Entry | None = None
    sizes = []
    for turn in range(60):
        last = entry(last, f"{turn}", anchor=Anchor("k", 0, 2 * (turn // 5 * 5)))
        await store.append(adding(REF, last))
        window = await loaded(store, "k")
        assert [each.turn for each in window] == list(range(turn // 5 * 5 + 1, turn + 2))
        sizes.append(len(held(store)))
    assert max(sizes) <= 17
    await store.close()


async def test_what_is_held_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 40_000)
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    refs = [Ref("t", "session", f"{n}") for n in range(12)]
    lines: dict[Ref, list[Entry]] = {ref: [] for ref in refs}
    for turn in range(6):
        for ref, said in lines.items():
            said.append(entry(said[-1] if said else None, f"{turn} {'x' * 900}"))
            assert await store.append(adding(ref, said[-1])) == Appended()
        for ref, said in lines.items():
            chain = await store.load(ref, key="", reach=None)
            assert chain is not None
            assert list(chain.entries) == said
    found = writer_of(store)._cache
    kept = sum(len(e.wire) + len(e.packed) for ref in refs for e in held(store, ref))
    assert 0 < kept < found._bytes <= 40_000
    for ref in refs:
        found.drop(ref)
    assert found._bytes == 0
    await store.close()


async def test_two_that_share_a_file_do_not_believe_what_they_hold(tmp_path: Path) -> None:
    stores = [SqliteStore(str(tmp_path / "remora.db")) for _ in range(2)]
    for store in stores:
        await store.open()
    said: list[Entry] = []
    for turn in range(12):
        said += await talk(stores[turn % 3 % 2], 1, after=said[-1] if said else None)
        for store in stores:
            assert await loaded(store) == tuple(said)
    await stores[0].erase(REF)
    assert await loaded(stores[1]) == ()
    said = await talk(stores[0], 12)
    assert await loaded(stores[1]) == tuple(said)
    for store in stores:
        await store.close()


async def test_loads_and_appends_at_once_agree(tmp_path: Path) -> None:
    """The reader's and the writer's thread change what is held at the same time."""
    store = SqliteStore(str(tmp_path / "remora.db"), synchronous="normal")
    await store.open()
    going = True

    async def look() -> None:
        seen = 0
        while going:
            chain = await store.load(REF, key="", reach=None)
            if chain:
                line = chain.entries
                assert len(line) >= seen
                assert chain.head is line[-1]
                assert [each.upto for each in line] == [2 * n + 2 for n in range(len(line))]
                seen = len(line)

    watchers = [asyncio.ensure_future(look()) for _ in range(3)]
    said: list[Entry] = []
    for _ in range(150):
        said += await talk(store, 1, after=said[-1] if said else None)
    going = False
    await asyncio.gather(*watchers)
    assert await loaded(store) == tuple(said)
    await store.close()


def test_what_does_not_fit_is_forgotten() -> None:
    a = entry(None)
    b, c = entry(a), entry(a)
    for n, before in ((2, 10), (1, 11), (1, None)):
        some = Cache()
        some.put(REF, 1, 10, [a], None, None)
        some.grown(REF, n, before, 12, b, None, None)
        assert some.get(REF) is None
    some = Cache()
    some.put(REF, 1, 10, [a], None, None)
    early = some.get(REF)
    some.grown(REF, 1, 10, 11, b, None, None)
    late = some.get(REF)
    assert early is not None
    assert late is not None
    assert [e.entries[: e.size] for e in (early, late)] == [[a], [a, b]]
    some._held[REF] = early
    some.grown(REF, 1, 10, 12, c, None, None)
    assert some.get(REF) is None, "the list was shared and had grown already"
    some.grown(REF, 1, 10, 12, c, None, None)
    assert some.get(REF) is None
