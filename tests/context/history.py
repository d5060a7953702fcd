"""A chain kept in memory that honours what `Store.load` and `Store.read` promise; and what any history must satisfy."""

import json
from collections.abc import Generator, Iterable, Sequence
from itertools import count as numbers

from proxy.context.contract import Budget, Context, Cut, Own, Read
from proxy.context.window import cut
from proxy.conversation.entry import Anchor, Chain, Entry, grow
from proxy.conversation.message import Message, Shape, ToolCall, shape

KEY = b"k" * 32
_number = numbers(1)


def message(
    role: str, text: str = "", *, calls: Sequence[str] = (), answers: str = "", spaces: bool = False
) -> Message:
    """A chat message. `spaces`: other bytes, same meaning."""
    value: dict[str, object] = {"role": role, "content": text}
    if calls:
        value["tool_calls"] = [{"id": call, "function": {"name": "f", "arguments": "{}"}} for call in calls]
    if answers:
        value["tool_call_id"] = answers
    wire = json.dumps(value, separators=(", ", ": ") if spaces else (",", ":")).encode()
    return Message(role, wire, text, calls=tuple(ToolCall(call, "f", "{}") for call in calls), answers=answers)


def stand_in(call: str) -> bytes:
    return json.dumps({"role": "tool", "tool_call_id": call, "content": "no result", "stand_in": True}).encode()


class History:
    """Entries of one session, on any number of branches, and the messages that each chain says."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.said: dict[str, tuple[tuple[Message, int], ...]] = {"": ()}
        """Entry id -> (message, tokens) from the root to its end."""
        self.reads = 0

    def append(self, parent: str, messages: Sequence[Message], tokens: Sequence[int], anchor: Anchor | None) -> Entry:
        before = self.entries.get(parent)
        entry = grow(
            id=f"{next(_number):032x}",
            parent=before,
            key=KEY,
            messages=messages,
            tokens=tokens,
            dialect="chat",
            model="m",
            anchor=anchor,
            at_ms=1,
        )
        self.entries[entry.id] = entry
        self.said[entry.id] = (*self.said[parent], *zip(messages, tokens, strict=True))
        return entry

    def chain(self, head: str) -> tuple[Entry, ...]:
        found: list[Entry] = []
        while head:
            found.append(self.entries[head])
            head = found[-1].parent
        return tuple(reversed(found))

    def load(self, head: str, *, key: str, reach: int | None, more: int = 0) -> Chain | None:
        """As `Store.load` promises, and `more` entries beyond it."""
        entries = self.chain(head)
        if not entries:
            return None
        first = 0
        anchor = entries[-1].facts.anchor
        if anchor and anchor.key == key:
            first = next((i for i, entry in enumerate(entries) if entry.upto > anchor.resume), len(entries) - 1)
        elif reach is not None:
            first = next(
                i for i, entry in enumerate(entries) if entries[-1].tokens_upto - entry.tokens_upto < max(1, reach)
            )
        return Chain(entries[-1], entries[max(0, first - more) :], None, head, whole=False)

    def read(self, head: str, need: Read) -> Sequence[Entry]:
        self.reads += 1
        return [entry for entry in self.chain(head) if entry.upto > need.first and entry.first < need.upto]

    def cut(
        self, head: str, budget: Budget, *, continues: bool, reach: int | None = None, more: int = 0
    ) -> tuple[Chain | None, Cut]:
        """Loads and cuts as an exchange does."""
        chain = self.load(head, key=budget.key, reach=reach, more=more)
        return chain, self.drive(head, cut(chain, budget, continues=continues))

    def drive(self, head: str, steps: Generator[Read, Sequence[Entry], Cut]) -> Cut:
        answer: Sequence[Entry] | None = None
        while True:
            try:
                need = next(steps) if answer is None else steps.send(answer)
            except StopIteration as stop:
                found: Cut = stop.value
                return found
            answer = self.read(head, need)


def own(new: Iterable[Message], tokens: Iterable[int] = ()) -> Own:
    return Own(new=sent(new, tokens))


def sent(messages: Iterable[Message], tokens: Iterable[int] = ()) -> tuple[tuple[Shape, bytes], ...]:
    weights = iter(tokens)
    return tuple((shape(each, next(weights, 0)), each.wire) for each in messages)


def decoded(context: Context) -> list[dict[str, object]]:
    found = json.loads(b"[" + b",".join(context.messages) + b"]")
    assert isinstance(found, list)
    return found


def valid(messages: Sequence[dict[str, object]]) -> bool:
    """Each tool result directly follows its assistant message, other results of it between at most; each call is
    answered exactly once; nothing else."""
    waiting: set[object] = set()
    for each in messages:
        if each["role"] == "tool":
            if each["tool_call_id"] not in waiting:
                return False
            waiting.remove(each["tool_call_id"])
            continue
        if waiting:
            return False
        calls = each.get("tool_calls", [])
        assert isinstance(calls, list)
        waiting = {call["id"] for call in calls}
    return not waiting


def kept_positions(cut: Cut, upto: int) -> list[int]:
    anchor = cut.anchor
    opening = range(anchor.start, cut.opened) if anchor.resume > anchor.start else range(0)
    return [*opening, *range(anchor.resume, upto)]
