"""Where the summary goes: into the first system message, a new one, or a user's message."""

import json

from proxy.context.contract import Summarise
from proxy.conversation.entry import Preamble
from proxy.conversation.summary import Summary
from proxy.dialects.chat import CHAT
from proxy.exchange.lead import lead

SUMMARY = Summary("a" * 32, "b" * 32, 4, "They met in Bern.", 6, 2, "", "m", 1)


def read(runs: tuple[bytes, ...]) -> list[tuple[str, object]]:
    return [(m["role"], m["content"]) for m in json.loads(b"[" + b",".join(runs) + b"]")]


def test_without_a_summary_the_preamble_keeps_its_bytes() -> None:
    wire = b'{"role": "system",  "content":"x"}'
    assert lead(CHAT, Summarise(), Preamble(wire, 1), None) == ((wire,), ())
    assert lead(CHAT, None, Preamble(wire, 1), SUMMARY) == ((wire,), ())
    assert lead(CHAT, Summarise(), None, None) == ((), ())


def test_it_is_merged_into_the_first_system_message() -> None:
    wire = (
        b'{"role":"developer","content":"d"},{"role":"system","content":"s","name":"n"},{"role":"system","content":"t"}'
    )
    before, behind = lead(CHAT, Summarise(), Preamble(wire, 1), SUMMARY)
    assert behind == ()
    assert read(before)[0] == ("developer", "d")
    role, text = read(before)[1]
    assert role == "system"
    assert str(text).startswith("s\n\n")
    assert str(text).endswith("They met in Bern.")
    assert b'"name":"n"' in before[1]
    assert read(before)[2] == ("system", "t")


def test_a_preamble_of_developer_messages_gets_it_in_the_first() -> None:
    before, _ = lead(CHAT, Summarise(), Preamble(b'{"role":"developer","content":"d"}', 1), SUMMARY)
    assert [role for role, _ in read(before)] == ["developer"]


def test_parts_stay_parts() -> None:
    wire = b'{"role":"system","content":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}]}'
    before, _ = lead(CHAT, Summarise(), Preamble(wire, 1), SUMMARY)
    parts = json.loads(before[0])["content"]
    assert parts[0]["cache_control"] == {"type": "ephemeral"}
    assert "Bern" in parts[1]["text"]


def test_without_a_system_message_there_is_a_new_one() -> None:
    for preamble in (None, Preamble(b"", 0)):
        before, behind = lead(CHAT, Summarise(), preamble, SUMMARY)
        assert [role for role, _ in read(before)] == ["system"]
        assert behind == ()


def test_as_the_users_it_stands_behind_the_preamble() -> None:
    before, behind = lead(CHAT, Summarise(role="user"), Preamble(b'{"role":"system","content":"s"}', 1), SUMMARY)
    assert read(before) == [("system", "s")]
    assert [role for role, _ in read(behind)] == ["user"]


def test_the_same_summary_gives_the_same_bytes() -> None:
    preamble = Preamble(b'{"role":"system","content":"s"}', 1)
    assert lead(CHAT, Summarise(), preamble, SUMMARY) == lead(CHAT, Summarise(), preamble, SUMMARY)
