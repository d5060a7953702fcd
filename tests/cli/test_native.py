"""What was recorded through the native Responses API is shown, exported, imported and simulated like anything else."""

import io
import json
from pathlib import Path

from proxy.cli.export import export
from proxy.cli.lines import of_one, one
from proxy.cli.restore import restore
from proxy.cli.show import show
from proxy.cli.simulation import replay, transcript
from proxy.cli.simulation.account import Account
from proxy.cli.simulation.prompt import Prompts
from proxy.conversation.entry import Entry, grow
from proxy.dialects.responses.native import NATIVE
from proxy.policy import Policies
from proxy.stores import open_store
from proxy.stores.contract import Append, Ref, Store
from tests.cli.said import KEY
from tests.dialects.responses.native.samples import call, message, output, reasoning, response
from tests.dialects.responses.native.samples import read as read_reply

REF = Ref("ann", "session", "s")


def entries() -> list[Entry]:
    """A tool run: reasoning and a call, its result and the answer; something of each is not sent again."""
    made: list[Entry] = []
    first = b'{"role":"user","content":"look"}'
    for sent, said in (
        (first, [reasoning(), message("Let me look.", content=_annotated("Let me look.")), call("call_1")]),
        (json.dumps(output("call_1")).encode(), [reasoning(1), message("Seen.", 1)]),
    ):
        reply = read_reply(json.dumps(response(said)).encode(), stream=False).message
        assert reply is not None
        messages = (*NATIVE.messages(sent), reply)
        made.append(
            grow(id=f"{len(made):032x}", parent=made[-1] if made else None, key=KEY, messages=messages, tokens=[5, 9],
                 dialect="responses", model="m")
        )  # fmt: skip
    return made


def _annotated(text: str) -> list[object]:
    cited = {"type": "url_citation", "url": "http://x", "title": "x", "start_index": 0, "end_index": 1}
    return [{"type": "output_text", "text": text, "annotations": [cited]}]


async def stored() -> Store:
    store = open_store("memory:")
    await store.open()
    for entry in entries():
        await store.append(Append(ref=REF, expected=entry.parent or None, entry=entry))
    return store


async def exported(store: Store) -> bytes:
    out = io.BytesIO()
    await export(store, REF, out)
    return out.getvalue()


async def test_an_export_holds_runs_as_lists_and_is_imported_byte_for_byte() -> None:
    store = await stored()
    lines = await exported(store)
    shown = [json.loads(line)["message"] for line in lines.splitlines()]
    assert [item["type"] for item in shown[1]] == ["reasoning", "message", "function_call"]
    assert shown[1][1]["content"] == _annotated("Let me look.")
    assert shown[3][1]["content"] == "Seen."
    again = open_store("memory:")
    await again.open()
    done = await restore(again, lines.splitlines(keepends=True), None)
    assert (done.entries, done.messages) == (2, 4)
    assert await exported(again) == lines
    wires = [record.entry.wire async for record in again.records(REF)]
    assert wires == [record.entry.wire async for record in store.records(REF)]


async def test_it_is_shown() -> None:
    store = await stored()
    [info] = [info async for info in store.list()]
    out = io.StringIO()
    await show(store, info, out)
    assert "Let me look." in out.getvalue()
    assert "to call_1: done" in out.getvalue()


async def test_it_is_simulated(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_bytes(await exported(await stored()))
    [conversation] = transcript.read(file, "m")
    assert [len(each.reply) for each in conversation.exchanges] == [1, 1]
    account = Account("default")
    policy = Policies.load(str(tmp_path)).matching("m")
    assert len([*replay.replay(conversation, policy, replay.Terms(), account)]) == 2


def test_a_prompt_is_made_of_messages_also_where_one_is_several_items() -> None:
    wires = [wire for entry in entries() for _, _, wire in entry.messages()]
    pieces = Prompts().messages((b",".join(wires),), "m", NATIVE)
    assert [wire for wire, _ in pieces] == wires
    assert all(tokens > 0 for _, tokens in pieces)


def test_a_run_is_one_value_in_a_line() -> None:
    for wire in (b'{"a":[1]}', b'{"a":1},{"b":2}'):
        assert of_one(one(wire)) == wire
        json.loads(one(wire))
