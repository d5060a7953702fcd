"""What was exported comes back whole, into any store, once, and a damaged file is refused by its line."""

import io
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings

from proxy.cli import CommandError
from proxy.cli.export import export
from proxy.cli.restore import Done, restore
from proxy.stores import open_store
from proxy.stores.contract import Record, Ref, Store
from tests.cli.said import EXCHANGES, Said, put, records

REF = Ref("ann", "session", "s")


async def opened(url: str) -> Store:
    store = open_store(url)
    await store.open()
    return store


async def exported(store: Store, ref: Ref = REF) -> bytes:
    out = io.BytesIO()
    await export(store, ref, out)
    return out.getvalue()


async def restored(store: Store, lines: bytes, tenant: str | None = None) -> Done:
    return await restore(store, io.BytesIO(lines), tenant)


def comparable(record: Record) -> Record:
    """Without the digest, whose key is the store's, and with line breaks as an export writes them."""
    entry = record.entry
    flat = entry.wire.replace(b"\n", b" ")
    preamble = record.preamble and msgspec.structs.replace(
        record.preamble, wire=record.preamble.wire.replace(b"\n", b" ")
    )
    facts = msgspec.structs.replace(entry.facts, preamble=preamble.id if preamble else b"")
    packed = msgspec.msgpack.encode(facts)
    return Record(msgspec.structs.replace(entry, wire=flat, digest=b"", packed=packed), record.plan, preamble)


@settings(max_examples=40, deadline=None)
@given(EXCHANGES)
async def test_what_was_exported_comes_back_whole_and_once(
    tmp_path_factory: pytest.TempPathFactory, exchanges: list[Said]
) -> None:
    first = await opened("memory:")
    recorded = await put(first, REF, exchanges)
    lines = await exported(first)
    wanted = [comparable(record) for record in await records(first, REF) if record.entry.facts.state != "failed"]
    second = await opened(f"sqlite:///{tmp_path_factory.mktemp('db') / 'r.db'}?synchronous=normal")
    done = await restored(second, lines)
    assert (done.entries, done.known) == (len(wanted), 0)
    assert done.messages == sum(e.count for s, e in recorded if s.state != "failed")
    assert [comparable(record) for record in await records(second, REF)] == wanted
    # again: nothing is doubled, and the export of the copy is the export of the original
    again = await restored(second, lines)
    assert (again.entries, again.messages, again.known) == (0, 0, len(wanted))
    assert len(await records(second, REF)) == len(wanted)
    assert await exported(second) == lines
    if wanted:
        chains = [await store.load(REF, key="", reach=None) for store in (first, second)]
        assert chains[0] is not None
        assert chains[1] is not None
        assert chains[1].ref_head == chains[0].ref_head
        assert [e.id for e in chains[1].entries] == [e.id for e in chains[0].entries]
    await first.close()
    await second.close()


async def example(store: Store) -> bytes:
    await put(
        store,
        REF,
        [
            Said(
                -1,
                [{"role": "system", "content": "be brief"}],
                [{"role": "user", "content": "hi"}],
                "whole",
                None,
                None,
            ),
            Said(
                0, None, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "whole", None, None
            ),
            Said(1, None, [{"role": "user", "content": "c"}], "partial", {"reasoning_content": "r"}, None),
        ],
    )
    return await exported(store)


async def test_digests_are_those_of_the_store_and_tenant_that_it_lands_in() -> None:
    source, store = await opened("memory:"), await opened("memory:")
    lines = await example(source)
    await restored(store, lines)
    await restored(store, lines, tenant="bob")
    ann, bob = await records(store, REF), await records(store, Ref("bob", "session", "s"))
    assert [r.entry.id for r in ann] == [r.entry.id for r in bob]
    assert all(a.entry.digest != b.entry.digest for a, b in zip(ann, bob, strict=True))
    erased = await store.erase(REF)
    assert erased
    await restored(store, lines)
    assert [r.entry.digest for r in await records(store, REF)] == [r.entry.digest for r in ann]
    await source.close()
    await store.close()


async def test_an_import_continues_a_file_whose_beginning_is_in_the_store() -> None:
    source, store = await opened("memory:"), await opened("memory:")
    lines = (await example(source)).splitlines(keepends=True)
    await restored(store, b"".join(lines[:2]))
    done = await restored(store, b"".join(lines[2:]))
    assert (done.entries, done.known) == (2, 0)
    assert await exported(store) == b"".join(lines)
    await source.close()
    await store.close()


async def test_an_import_goes_beside_what_the_session_says_already() -> None:
    source, store = await opened("memory:"), await opened("memory:")
    lines = await example(source)
    other = Said(-1, None, [{"role": "user", "content": "mine"}], "whole", None, None)
    await put(store, REF, [other] * 5)  # ids 0 to 4: the file's three are taken
    assert (await restored(store, lines)).known == 3
    fresh = lines.replace(b"0" * 31, b"f" * 31)
    assert (await restored(store, fresh)).entries == 3
    assert len(await records(store, REF)) == 8
    await source.close()
    await store.close()


@pytest.mark.parametrize(
    ("damage", "line", "what"),
    [
        (lambda x: [*x[:-1], x[-1][:40]], 5, "is no exported message"),
        (lambda x: x[:3], 3, "is cut off"),
        (lambda x: [x[0]], 1, "is cut off"),
        (lambda x: x[2:], 1, "neither above nor in the store"),
        (lambda x: [x[0], b"[]\n", *x[1:]], 2, "is no exported message"),
        (lambda x: [y.replace(b'"chat"', b'"morse"') for y in x], 1, "dialect 'morse' is not spoken"),
        (lambda x: [y.replace(b'"s"', b'"a b"') for y in x], 1, "session id"),
        (lambda x: [y.replace(b'"ann"', b'""') for y in x], 1, "no tenant"),
        (lambda x: [y.replace(b"0" * 31, b"../") for y in x], 1, "no entry id"),
        (lambda x: [y.replace(b': "user"', b': "ghost"') for y in x], 1, "role"),
        (lambda x: [y.replace(b'"at":"2', b'"at":"x2') for y in x], 1, "isoformat"),
    ],
)  # fmt: skip
async def test_a_damaged_file_is_refused_by_its_line(damage: object, line: int, what: str) -> None:
    source, store = await opened("memory:"), await opened("memory:")
    lines = (await example(source)).splitlines(keepends=True)
    assert len(lines) == 5
    assert callable(damage)
    with pytest.raises(CommandError) as caught:
        await restored(store, b"".join(damage(lines)))
    assert str(caught.value).startswith(f"line {line}: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)
    await restored(store, b"".join(lines))  # a repeat of the whole file mends it
    assert await exported(store) == b"".join(lines)
    await source.close()
    await store.close()


async def test_lines_that_hold_the_named_members_only_are_enough() -> None:
    source, store = await opened("memory:"), await opened("memory:")
    names = ("session", "tenant", "entry", "parent", "turn", "at", "model", "dialect", "message")
    every = [json.loads(line) for line in (await example(source)).splitlines()]
    plain = [{name: line[name] for name in names} for line in every if not line.get("preamble")]
    done = await restored(store, b"\n\n".join(json.dumps(line).encode() for line in plain))
    assert (done.entries, done.messages) == (3, 4)
    out = [json.loads(line)["message"] for line in (await exported(store)).splitlines()]
    assert out == [line["message"] for line in plain]
    await source.close()
    await store.close()


async def test_an_empty_file_imports_nothing(tmp_path: Path) -> None:
    store = await opened("memory:")
    assert await restored(store, b"\n \n") == Done()
    await store.close()
