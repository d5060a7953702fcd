"""A session is shown whole (turns, states, tokens, plans, branches, failures), and cannot steer the terminal."""

import io

import msgspec

from proxy.cli.show import show
from proxy.context.contract import Plan
from proxy.conversation.entry import Anchor, Preamble, grow
from proxy.stores import open_store
from proxy.stores.contract import Append, Ref, Store
from tests.cli.said import CHAT, KEY, Json, Said, put

REF = Ref("ann", "session", "s")


async def shown(store: Store) -> str:
    out = io.StringIO()
    (info,) = [info async for info in store.list()]
    await show(store, info, out)
    await store.close()
    return out.getvalue()


async def test_everything_about_a_session_is_shown() -> None:
    store = open_store("memory:")
    await store.open()
    hello: Json = {"role": "user", "content": "1\n2"}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"up": 1}'}}
    await put(
        store,
        REF,
        [
            Said(-1, [{"role": "system", "content": "short"}], [hello], "whole", None, None),
            Said(0, None, [{"role": "assistant", "tool_calls": [call]}], "whole", None, None),
            Said(1, None, [{"role": "tool", "tool_call_id": "c1", "content": "sky"}], "failed", None, None),
            Said(0, None, [{"role": "user", "content": "other"}], "partial", None, None),
        ],
    )  # fmt: skip
    text = await shown(store)
    blocks = text.split("\n\n")
    assert blocks[0].startswith("session s  tenant ann\n2 turns, ")
    assert "expires never" in blocks[0]
    first, second, failed, partial = (block.splitlines() for block in blocks[1:])
    assert first[0].startswith(f"turn 1  entry {0:032x}  2023-11-14T22:13:20.000Z  m0  0 tokens  whole")
    assert first[1:] == ["  preamble: 3 tokens", "  system     short", "  user       1", "             2"]
    assert second[1:] == ['  assistant  calls look({"up": 1})  c1']
    assert "  failed" in failed[0]
    assert failed[1:] == ["  tool       to c1: sky"]
    assert "turn 2" in partial[0]
    assert "  partial  " in partial[0]
    assert partial[0].endswith(f"branch after {0:032x}  head")
    assert partial[1:] == ["  user       other"]
    assert "branch" not in "".join(line[0] for line in (first, second, failed))


async def test_a_plan_says_why() -> None:
    store = open_store("memory:")
    await store.open()
    plan = Plan(
        policy="p", anchor=Anchor("k", 0, 0), upto=9, head="", kept=4, dropped=5, tokens=60, why="max_tokens", limit=99
    )
    wire = b'{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}]}'
    messages = CHAT.messages(wire)
    preamble = Preamble(b"", 0)
    entry = grow(
        id="a" * 32, parent=None, key=KEY, messages=messages, tokens=[7], dialect="chat", model="", preamble=preamble.id
    )
    await store.append(Append(ref=REF, expected=None, entry=entry, preamble=preamble, plan=msgspec.json.encode(plan)))
    text = await shown(store)
    assert "  plan: policy p, kept 4, dropped 5, 60 tokens, of 99; max_tokens\n" in text
    assert "  user       [image]\n" in text
    assert "no model" in text


async def test_what_was_said_cannot_steer_the_terminal() -> None:
    store = open_store("memory:")
    await store.open()
    await put(
        store, REF, [Said(-1, None, [{"role": "user", "content": "\x1b[2J\r\x9b\u202eé😀\n"}], "whole", None, None)]
    )
    text = await shown(store)
    assert not set(text) & {"\x1b", "\r", "\x9b", "\u202e"}
    assert "\\x1b[2J\\r\\x9b\\u202eé😀" in text
