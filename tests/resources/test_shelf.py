"""A completion is kept once, whole, under its id; what came of it meanwhile is not undone."""

import json
from typing import Any

import msgspec
import pytest

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.dialects.contract import Call
from proxy.exchange.record import ExchangeRecord
from proxy.resources.accumulate import from_body
from proxy.resources.shelf import ID_CHARS, Kept, Shelf, encode, read, ref_of, string, usable
from proxy.stores.memory import MemoryStore

REPLY = Reply(None, whole=True, finish="stop", prompt_tokens=3, completion_tokens=4)
CALL: Call = CHAT.read(b'{"model":"asked","messages":[{"role":"user","content":1.0e1}]}'.replace(b"1.0e1", b'"x"'))
REF = ref_of("t", "c")


def shelf(
    store: MemoryStore, lines: list[str] | None = None, *, kind: str = "completion", recorded: str = "", **said: str
) -> tuple[Shelf, ExchangeRecord]:
    record = ExchangeRecord(at_ms=0, method="POST", path="/", kind=kind, recorded=recorded)
    return Shelf(store, "t", CALL, said, None, record, (lines if lines is not None else []).append), record


def raws(**members: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in members.items()}


async def held(store: MemoryStore) -> Kept | None:
    label = await store.labelled(REF)
    return read(label.label) if label else None


async def text(store: MemoryStore) -> Any:
    kept = await held(store)
    return json.loads(bytes(kept.completion)) if kept else None


async def test_what_an_upstream_leaves_out_is_filled_in_and_its_own_metadata_left_out() -> None:
    store = MemoryStore()
    made, record = shelf(store, k="v")
    await made.keep(raws(id="c", choices=[], metadata={"not": "ours"}, own=1.5), REPLY)
    found = await text(store)
    created = found.pop("created")
    assert isinstance(created, int)
    assert found == {"id": "c", "choices": [], "own": 1.5, "object": "chat.completion", "model": "asked"}
    kept = await held(store)
    assert kept is not None
    assert (kept.metadata, kept.models) == ({"k": "v"}, ("asked",))
    assert [bytes(each) for each in kept.messages] == [b'{"role":"user","content":"x"}']
    assert (record.recorded, record.finish, record.prompt_tokens, record.completion_tokens) == ("whole", "stop", 3, 4)


async def test_of_a_session_the_record_stays_the_exchanges_own() -> None:
    made, record = shelf(MemoryStore(), kind="session")
    await made.keep(raws(id="c"), REPLY)
    assert (record.recorded, record.finish, record.prompt_tokens) == ("", "", 0)


async def test_both_names_of_a_model_are_kept() -> None:
    store = MemoryStore()
    await shelf(store)[0].keep(raws(id="c", model="given"), REPLY)
    kept = await held(store)
    assert kept is not None
    assert kept.models == ("given", "asked")


async def test_more_of_the_same_replaces_what_was_kept_but_not_its_metadata() -> None:
    store = MemoryStore()
    made, _ = shelf(store)
    await made.keep(raws(id="c", n=1, created=1), REPLY)
    kept = await held(store)
    assert kept is not None
    await store.label(REF, encode(msgspec.structs.replace(kept, metadata={"m": "1"})), new=False)
    await made.keep(raws(id="c", n=2, created=1), REPLY)
    kept = await held(store)
    assert kept is not None
    assert ((await text(store))["n"], kept.metadata) == (2, {"m": "1"})


async def test_more_of_the_same_does_not_bring_back_what_was_deleted_or_replaced() -> None:
    store = MemoryStore()
    made, _ = shelf(store)
    await made.keep(raws(id="c", n=1), REPLY)
    await store.erase(REF)
    await made.keep(raws(id="c", n=2), REPLY)
    assert await text(store) is None
    made, _ = shelf(store)
    await made.keep(raws(id="c", n=3), REPLY)
    await shelf(store)[0].keep(raws(id="c", n=4), REPLY)
    await made.keep(raws(id="c", n=5), REPLY)
    assert (await text(store))["n"] == 4


async def test_a_reply_that_is_given_again_changes_nothing_but_is_kept_if_it_was_not() -> None:
    store = MemoryStore()
    await shelf(store, k="first")[0].keep(raws(id="c", n=1), REPLY)
    await shelf(store, recorded="replayed")[0].keep(raws(id="c", n=2), REPLY)
    assert (await text(store))["n"] == 1
    await store.erase(REF)
    await shelf(store, recorded="replayed")[0].keep(raws(id="c", n=2), REPLY)
    assert (await text(store))["n"] == 2


async def test_the_same_completion_again_leaves_the_first_where_it_is() -> None:
    store = MemoryStore()
    await shelf(store, k="first")[0].keep(raws(id="c", created=1), REPLY)
    await shelf(store, k="second")[0].keep(raws(id="c", created=1), REPLY)
    kept = await held(store)
    assert kept is not None
    assert kept.metadata == {"k": "first"}
    await shelf(store, k="third")[0].keep(raws(id="c", created=2), REPLY)
    kept = await held(store)
    assert kept is not None
    assert kept.metadata == {"k": "third"}


@pytest.mark.parametrize("id", [None, 5, "", "x" * (ID_CHARS + 1), "a\nb", "\x00"])
async def test_what_has_no_usable_id_is_told_of_once_and_not_kept(id: object) -> None:
    store, lines = MemoryStore(), list[str]()
    made, record = shelf(store, lines)
    for _ in range(2):
        await made.keep(raws(id=id), REPLY)
    assert len(lines) == 1
    assert record.recorded == ""
    assert await store.labels("t", "completion", after=None, most=5, newest_first=False) == []


@pytest.mark.parametrize("place", [b'"k":"%b"', b'"%b":1', b'"k":{"%b":["%b"]}', b'"choices":[{"x":"%b"}]'])
async def test_half_a_character_in_a_reply_can_be_kept(place: bytes) -> None:
    body = b'{"id":"c",%b}' % place.replace(b"%b", b"a\\ud83d")
    store = MemoryStore()
    await shelf(store)[0].keep(from_body(body), REPLY)
    assert (await text(store))["id"] == "c"


def test_only_a_string_in_unicode_is_a_string() -> None:
    assert string(b'"\\u00fc"') == "ü"
    for raw in (None, b"1", b"null", b"[]", b'"\\ud800"', b"{"):
        assert string(raw) == ""
    assert usable("a/b c")
    assert not usable("")
