"""An export is what was said: each message once, oldest first, branches included, failed exchanges not."""

import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cli.export import export
from proxy.cli.lines import decode, on_one_line, stamp, unstamp
from proxy.conversation.entry import grow
from proxy.stores import open_store
from proxy.stores.contract import Append, Ref, Store
from tests.cli.said import CHAT, EXCHANGES, KEY, Json, Said, put

REF = Ref("ann", "session", "s")


async def exported(store: Store, ref: Ref = REF) -> list[bytes]:
    out = io.BytesIO()
    await export(store, ref, out)
    return out.getvalue().splitlines(keepends=True)


@settings(max_examples=60, deadline=None)
@given(EXCHANGES)
async def test_an_export_is_what_was_said(exchanges: list[Said]) -> None:
    store = open_store("memory:")
    await store.open()
    recorded = await put(store, REF, exchanges)
    lines = [json.loads(line) for line in await exported(store)]
    await store.close()
    expected: list[tuple[str, str, Json | None]] = []
    preambles: dict[str, bytes] = {}
    for said, entry in recorded:
        if said.state == "failed":
            continue
        preambles[entry.id] = entry.facts.preamble
        if entry.facts.preamble != preambles.get(entry.parent, b""):
            assert said.preamble is not None
            expected += [(entry.id, "preamble", message) for message in (*said.preamble,) or (None,)]
        for message in said.messages[:-1]:
            expected.append((entry.id, "", message))
        expected.append((entry.id, "", said.messages[-1] | (said.aside or {})))
    assert [(x["entry"], "preamble" if x.get("preamble") else "", x["message"]) for x in lines] == expected
    by_id = {entry.id: entry for _, entry in recorded}
    for line in lines:
        entry = by_id[line["entry"]]
        assert (line["session"], line["tenant"], line["parent"]) == ("s", "ann", entry.parent)
        assert (line["model"], line["dialect"]) == (entry.facts.model, "chat")
        assert unstamp(line["at"]) == entry.facts.at_ms
        assert 1 <= line["turn"] <= max(entry.turn, 1)
        assert line.get("state", "whole") == entry.facts.state
    for entry in by_id.values():
        own = [x for x in lines if x["entry"] == entry.id and not x.get("preamble")]
        assert not own or own[-1]["turn"] == max(entry.turn, 1)


async def test_messages_keep_their_bytes_and_each_has_one_line() -> None:
    store = open_store("memory:")
    await store.open()
    odd = b'{"role" : "user", "content":"a\\nb", "n": [1.0, 123456789012345678901234567890],  "x": {"b":1,"a":2}}'
    laid_out = odd.replace(b",", b",\n")
    messages = CHAT.messages(odd + b"," + laid_out)
    entry = grow(id="0" * 32, parent=None, key=KEY, messages=messages, tokens=[1, 2], dialect="chat", model="m")
    await store.append(Append(ref=REF, expected=None, entry=entry))
    lines = [decode(line) for line in await exported(store)]
    assert bytes(lines[0].message) == odd
    assert bytes(lines[1].message) == odd.replace(b",", b", ")
    assert [line.tokens for line in lines] == [1, 2]
    await store.close()


@given(st.text(), st.sampled_from([None, 1]))
def test_a_line_break_in_json_can_be_a_space(text: str, indent: int | None) -> None:
    value = {"a": text, "b": [text]}
    laid_out = (
        json.dumps(value, indent=indent, ensure_ascii=False).replace("\n", "\r\n").encode("utf-8", "surrogatepass")
    )
    flat = on_one_line(laid_out)
    assert b"\n" not in flat
    assert b"\r" not in flat
    assert len(flat) == len(laid_out)
    assert json.loads(flat) == value


@given(st.integers(0, 4_000_000_000_000))
def test_a_moment_survives_its_text(at_ms: int) -> None:
    assert unstamp(stamp(at_ms)) == at_ms
    assert stamp(at_ms).endswith("Z")
