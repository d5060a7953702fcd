"""What was said is what is read, from an export or from bare messages; what cannot be read is told in one line."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from proxy.cli.export import export
from proxy.cli.simulation.transcript import Conversation, read
from proxy.errors import SettingsError
from proxy.stores import open_store
from proxy.stores.contract import Ref
from tests.cli.said import EXCHANGES, Said, put
from tests.cli.simulation.talk import Json, weight, write

REF = Ref("ann", "session", "s")


def bare(path: Path, *messages: Json) -> list[tuple[list[str], list[str]]]:
    """(what the client said, what the model answered) of each exchange."""
    (conversation,) = read(write(path, list(messages)), "gpt-4o")
    return [
        ([each.message.text for each in exchange.new], [each.message.text for each in exchange.reply])
        for exchange in conversation.exchanges
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EXCHANGES)
async def test_an_exported_session_is_read_as_it_was_recorded(tmp_path: Path, exchanges: list[Said]) -> None:
    store = open_store("memory:")
    await store.open()
    recorded = [(said, entry) for said, entry in await put(store, REF, exchanges) if said.state != "failed"]
    preambles = {
        record.entry.id: record.preamble.wire if record.preamble else b"" async for record in store.records(REF)
    }
    out = io.BytesIO()
    await export(store, REF, out)
    await store.close()
    path = tmp_path / "s.jsonl"
    path.write_bytes(out.getvalue())
    if not recorded:
        return
    (conversation,) = read(path, "other")
    assert (conversation.name, conversation.size) == ("s", len(out.getvalue()))
    assert len(conversation.exchanges) == len(recorded)
    for exchange, (said, entry) in zip(conversation.exchanges, recorded, strict=True):
        assert (exchange.id, exchange.parent, exchange.model) == (entry.id, entry.parent, entry.facts.model)
        assert exchange.at_s == entry.facts.at_ms / 1000
        wires = [each.message.wire for each in (*exchange.new, *exchange.reply)]
        assert [json.loads(wire) for wire in wires] == said.messages
        assert len(exchange.reply) == (said.messages[-1]["role"] == "assistant")
        assert [json.loads(each.message.wire) for each in exchange.preamble] == json.loads(
            b"[%b]" % preambles[entry.id]
        )


def test_several_exported_sessions_are_conversations_of_their_own(tmp_path: Path) -> None:
    def line(session: str, entry: str, parent: str, role: str) -> Json:
        common = {"tenant": "t", "turn": 1, "at": "2025-01-01T00:00:00.000Z", "model": "", "dialect": "chat"}
        return {
            "session": session,
            "entry": entry,
            "parent": parent,
            **common,
            "message": {"role": role, "content": role},
        }

    lines = [line("a", "1", "", "user"), line("a", "1", "", "assistant"), line("b", "2", "", "user")]
    found = list(read(write(tmp_path / "x", [*lines, line("b", "3", "2", "user")]), "gpt-4o"))
    assert [(each.name, len(each.exchanges)) for each in found] == [("a", 1), ("b", 2)]
    assert found[0].exchanges[0].model == "gpt-4o"
    (orphan,) = [line("b", "3", "2", "user")]
    with pytest.raises(SettingsError, match="line 1: the parent 2 is not above"):
        list(read(write(tmp_path / "y", [orphan]), "gpt-4o"))
    cut_off: Json = {**line("a", "1", "", "user"), "of": 2}
    with pytest.raises(SettingsError, match="line 2: entry 1 is cut off; 1 of its messages"):
        list(read(write(tmp_path / "z", [line("b", "0", "", "user"), cut_off]), "gpt-4o"))


def test_bare_messages_are_exchanges_that_end_with_a_reply(tmp_path: Path) -> None:
    user: Json = {"role": "user", "content": "u"}
    assistant: Json = {"role": "assistant", "content": "a"}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calls: Json = {"role": "assistant", "content": "calls", "tool_calls": [call]}
    result: Json = {"role": "tool", "tool_call_id": "c", "content": "r"}
    path = tmp_path / "x"
    assert bare(path, user, assistant, user, assistant) == [(["u"], ["a"]), (["u"], ["a"])]
    assert bare(path, user, calls, result, assistant) == [(["u"], ["calls"]), (["r"], ["a"])]
    assert bare(path, assistant, user, user, assistant, user) == [(["a", "u", "u"], ["a"]), (["u"], [])]
    assert bare(path, user, assistant, assistant, user, assistant) == [(["u"], ["a"]), (["a", "u"], ["a"])]


def test_leading_system_messages_are_the_preamble(tmp_path: Path) -> None:
    system: Json = {"role": "system", "content": "be kind"}
    user: Json = {"role": "user", "content": "hi"}
    (conversation,) = read(write(tmp_path / "x", [system, user, system]), "gpt-4o")
    (exchange,) = conversation.exchanges
    assert [(each.message.text, each.tokens) for each in exchange.preamble] == [("be kind", weight(system))]
    assert [each.message.role for each in exchange.new] == ["user", "system"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no messages"),
        ("\n \n", "holds no messages"),
        ("hello", "line 1: is no chat message"),
        ('\n{"role": "user", "content": "a"}\n{"role": "user"', "line 3: is no chat message"),
        ('{"role": "user", "content": "a"},{"role": "user", "content": "b"}', "line 1: is no chat message"),
        ('{"role": "pirate", "content": "a"}', "line 1: is no chat message"),
        ("[]", "line 1: is no chat message"),
        ('{"role": "system", "content": "a"}', "line 1: nobody but the system"),
        ('{"session": "s", "entry": "e"}', "line 1: is no exported message"),
        ("\udcff", "line 1: is no chat message"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError) as caught:
        list(read(path, "gpt-4o"))
    assert str(caught.value).startswith(f"{path}: {told}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        list[Conversation](read(tmp_path / "none", "gpt-4o"))
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        list[Conversation](read(tmp_path, "gpt-4o"))
