"""A fork is its source under another name, up to a turn, and neither touches the other."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings

from proxy.cli import CommandError, main
from proxy.cli.fork import fork
from proxy.conversation.summary import Summary
from proxy.errors import InvalidSessionId
from proxy.stores import open_store
from proxy.stores.contract import Append, Appended, Record, Ref, RefInfo, Store
from tests.cli.said import EXCHANGES, Said, put, records

SOURCE, COPY = Ref("ann", "session", "s"), Ref("ann", "session", "copy")


def turn(text: str, parent: int, *, state: str = "whole") -> Said:
    messages: list[dict[str, object]] = [{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}]
    return Said(parent, [{"role": "system", "content": "brief"}] if parent < 0 else None, messages, state, None, None)


async def opened(url: str = "memory:") -> Store:
    store = open_store(url)
    await store.open()
    return store


async def info(store: Store, ref: Ref = SOURCE) -> RefInfo:
    (found,) = [each async for each in store.list(tenant=ref.tenant, name=ref.name)]
    return found


def kept(found: list[Record]) -> list[Record]:
    return [record for record in found if record.entry.facts.state != "failed"]


@settings(max_examples=30, deadline=None)
@given(EXCHANGES)
async def test_a_copy_is_whole_and_begins_where_its_source_stands(
    tmp_path_factory: pytest.TempPathFactory, exchanges: list[Said]
) -> None:
    store = await opened(f"sqlite:///{tmp_path_factory.mktemp('db') / 'r.db'}?synchronous=normal")
    try:
        await put(store, SOURCE, exchanges)
        before = await records(store, SOURCE)
        if not kept(before):
            with pytest.raises(CommandError, match="no turn"):
                await fork(store, await info(store), "copy", None)
            return
        done = await fork(store, await info(store), "copy", None)
        assert await records(store, COPY) == kept(before)
        assert (done.entries, done.messages) == (len(kept(before)), sum(r.entry.count for r in kept(before)))
        chains = [await store.load(ref, key="", reach=None) for ref in (SOURCE, COPY)]
        assert chains[0] == chains[1]
        assert await records(store, SOURCE) == before
    finally:
        await store.close()


async def test_each_turn_can_be_forked_with_all_that_led_to_it_and_nothing_else() -> None:
    store = await opened()
    # turn 2 twice: the newest branch is 0, 2, 3
    await put(store, SOURCE, [turn("a", -1), turn("b", 0), turn("c", 0), turn("d", 2), turn("e", 3, state="failed")])
    everything = [record.entry.id for record in await records(store, SOURCE)]
    for number, places in ((1, [0]), (2, [0, 2]), (3, [0, 2, 3])):
        await fork(store, await info(store), f"at{number}", number)
        ref = Ref("ann", "session", f"at{number}")
        assert [record.entry.id for record in await records(store, ref)] == [everything[place] for place in places]
        assert (await info(store, ref)).turns == number
    for number in (0, -1, 4):
        with pytest.raises(CommandError, match=f"no turn {number}; it has 3"):
            await fork(store, await info(store), "none", number)
    assert not [each async for each in store.list(tenant="ann", name="none")]


async def test_a_turn_in_the_midst_of_an_entry_is_no_place_to_fork() -> None:
    store = await opened()
    several = turn("a", -1)
    several.messages = [*several.messages, *turn("b", -1).messages]
    await put(store, SOURCE, [several, turn("c", 0)])
    with pytest.raises(CommandError, match="turn 1 came together with later ones; fork at turn 2"):
        await fork(store, await info(store), "copy", 1)
    await fork(store, await info(store), "copy", 2)


async def test_plans_preambles_summaries_and_the_time_left_come_along() -> None:
    store = await opened()
    recorded = await put(store, SOURCE, [turn("a", -1)])
    first = recorded[0][1]
    second = msgspec.structs.replace(first, id="f" * 32, parent=first.id, turn=2, upto=4)
    preamble = (await records(store, SOURCE))[0].preamble
    append = Append(
        ref=SOURCE, expected=first.id, entry=second, preamble=preamble, plan=b'{"kept":2}', whole=True, ttl_s=3600
    )
    assert await store.append(append) == Appended()
    old, new = (
        Summary(id=id * 32, entry=entry, upto=2, text="t", tokens=1, generation=1, before="", model="m", at_ms=1)
        for id, entry in (("1", first.id), ("2", second.id))
    )
    for summary in (old, new):
        assert await store.keep_summary(SOURCE, summary, revision=0)
    await fork(store, await info(store), "copy", None)
    assert await records(store, COPY) == await records(store, SOURCE)
    assert (await records(store, COPY))[1].plan == b'{"kept":2}'
    assert await store.summaries(COPY) == [old, new]
    chain = await store.load(COPY, key="", reach=None)
    assert chain is not None
    assert chain.whole
    expires_ms = (await info(store, COPY)).expires_ms
    assert expires_ms is not None
    assert 3500 < expires_ms / 1000 - time.time() < 3601
    await fork(store, await info(store), "first", 1)
    assert list(await store.summaries(Ref("ann", "session", "first"))) == [old]


async def test_source_and_copy_go_their_own_ways() -> None:
    store = await opened()
    recorded = await put(store, SOURCE, [turn("a", -1)])
    await fork(store, await info(store), "copy", None)
    more = msgspec.structs.replace(recorded[0][1], id="e" * 32, parent=recorded[0][1].id)
    preamble = (await records(store, SOURCE))[0].preamble
    assert await store.append(Append(ref=COPY, expected=recorded[0][1].id, entry=more, preamble=preamble)) == Appended()
    assert len(await records(store, SOURCE)) == 1
    await store.erase(SOURCE)
    assert len(await records(store, COPY)) == 2


async def test_a_name_that_is_taken_or_is_none_is_refused() -> None:
    store = await opened()
    await put(store, SOURCE, [turn("a", -1)])
    await put(store, COPY, [turn("b", -1)])
    before = await records(store, COPY)
    for name in ("copy", "s"):
        with pytest.raises(CommandError, match=f"there is a session '{name}' already"):
            await fork(store, await info(store), name, None)
    assert await records(store, COPY) == before
    for name in ("", "a b", "x" * 257, "é"):
        with pytest.raises(InvalidSessionId):
            await fork(store, await info(store), name, None)
    # another tenant's session of that name is no obstacle
    await put(store, Ref("bob", "session", "mine"), [turn("b", -1)])
    await fork(store, await info(store), "mine", None)


async def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    store = await opened(url)
    for tenant in ("ann", "bob"):
        await put(store, Ref(tenant, "session", "s"), [turn(tenant, -1), turn("more", 0)])
    await store.close()
    monkeypatch.setenv("REMORA_STORE", url)
    assert await command("s", "copy") == 1
    assert "2 tenants have a session 's'; name one with --tenant: ann, bob" in capsys.readouterr().err
    assert await command("s", "copy", "--tenant", "bob", "--turn", "1") == 0
    assert capsys.readouterr().out == "forked s as copy: 1 entries (2 messages)\n"
    assert await command("s", "copy", "--tenant", "bob") == 1
    assert "there is a session 'copy' already" in capsys.readouterr().err
    assert await command("nobody", "x") == 1
    assert await command("s", "x", "--store", "sqlite:///nowhere.db") == 2
    store = await opened(url)
    (record,) = await records(store, Ref("bob", "session", "copy"))
    assert b"bob" in record.entry.wire
    await store.close()


async def command(*argv: str) -> int:
    """In a thread, which may have an event loop of its own."""
    return await asyncio.to_thread(main, ["sessions", "fork", *argv])
