"""Conversations to export and import: trees of entries with everything that an entry can hold."""

import json
from collections.abc import Sequence

import msgspec
from hypothesis import strategies as st

from proxy.conversation.entry import Entry, Preamble, grow
from proxy.conversation.message import Message
from proxy.dialects import DIALECTS
from proxy.stores.contract import Append, Appended, Record, Ref, Store

(CHAT,) = [dialect for dialect in DIALECTS if dialect.name == "chat"]

KEY = b"k" * 32
"""For digests, of entries that are put into a store by hand."""

Json = dict[str, object]


class Said(msgspec.Struct):
    """What one exchange appends."""

    parent: int
    """Which of the entries before it; -1: none, a root. Of the whole ones only."""
    preamble: list[Json] | None
    """None: none recorded; []: one that says nothing."""
    messages: list[Json]
    state: str
    aside: Json | None
    """Of the last message."""
    indent: int | None
    """How the client laid out its JSON."""


TEXT = st.text(max_size=8) | st.sampled_from(["\u2028", "a\nb", "\\", '"', "\x7f", "\U0001f600"])
_SYSTEM = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": TEXT}), max_size=2
)
_USER = st.fixed_dictionaries(
    {
        "role": st.just("user"),
        "content": TEXT | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), max_size=2),
    },
    optional={"x_more": st.sampled_from([1.0, 10**30, None, {"b": 1, "a": [True]}])},
)
_CALL = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["c1", "c2"]),
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": st.just("f"), "arguments": st.sampled_from(["{}", '{"a": 1.0}', "{cut"])}
        ),
    }
)
_ASSISTANT: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": TEXT | st.none()},
    optional={"tool_calls": st.lists(_CALL, min_size=1, max_size=2, unique_by=lambda call: str(call["id"]))},
)
_TOOL = st.fixed_dictionaries(
    {"role": st.just("tool"), "tool_call_id": st.sampled_from(["c1", "c2", "c3"]), "content": TEXT}
)

EXCHANGES = st.lists(
    st.builds(
        Said,
        parent=st.integers(-1, 5),
        preamble=st.none() | _SYSTEM,
        messages=st.lists(_USER | _ASSISTANT | _TOOL, min_size=1, max_size=4),
        state=st.sampled_from(["whole", "whole", "whole", "partial", "failed"]),
        aside=st.none() | st.just({"reasoning_content": "why"}),
        indent=st.sampled_from([None, None, 2]),
    ),
    min_size=1,
    max_size=6,
)


def wire(value: Json, indent: int | None) -> bytes:
    return json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")


async def put(store: Store, ref: Ref, exchanges: Sequence[Said]) -> list[tuple[Said, Entry]]:
    """Records them as an exchange would; a parent is the newest whole entry where the one named is not there."""
    recorded: list[tuple[Said, Entry]] = []
    whole: list[tuple[Entry, Preamble | None]] = []
    head: str | None = None
    for number, said in enumerate(exchanges):
        parent, before = whole[said.parent % len(whole)] if whole and said.parent >= 0 else (None, None)
        preamble = before
        if said.preamble is not None:
            preamble = Preamble(b",".join(wire(each, said.indent) for each in said.preamble), 3 * len(said.preamble))
        messages: list[Message] = list(CHAT.messages(b",".join(wire(each, said.indent) for each in said.messages)))
        if said.aside is not None:
            messages[-1] = msgspec.structs.replace(messages[-1], aside=wire(said.aside, None))
        entry = grow(
            id=f"{number:032x}",
            parent=parent,
            key=KEY,
            messages=messages,
            tokens=[number + place for place in range(len(messages))],
            dialect="chat",
            model=f"m{number}",
            state=said.state,
            preamble=preamble.id if preamble else b"",
            estimated=number,
            reported=number * 2,
            finish="stop" if number % 2 else "",
            at_ms=1_700_000_000_000 + number,
        )
        failed = said.state == "failed"
        answer = await store.append(
            Append(ref=ref, expected=head, entry=entry, preamble=preamble, moves=not failed, plan=b"")
        )
        assert answer == Appended()
        recorded.append((said, entry))
        if not failed:
            head = entry.id
            whole.append((entry, preamble))
    return recorded


async def records(store: Store, ref: Ref) -> list[Record]:
    return [record async for record in store.records(ref)]
