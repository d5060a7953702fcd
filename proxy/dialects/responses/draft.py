"""Chat messages in the making, from items one after the other; each knows the places of the items that it says.

The items of one model reply (reasoning, message, calls) become one assistant message, as they were in the reply that
they were made from; a call's result must follow the message that makes the call.
"""

from collections.abc import Mapping


class Draft:
    """Set `at` before each item. After `flush`, `messages` and `places` are as long as each other."""

    def __init__(self) -> None:
        self.at = 0
        """The place of the item that is being read."""
        self.messages: list[dict[str, object]] = []
        self.places: list[tuple[int, ...]] = []
        self._said: dict[str, object] | None = None
        """The assistant message to which items are still added, and what it is to hold beside its content."""
        self._calls: list[object] = []
        self._reasoning: list[str] = []
        self._opaque: dict[str, list[object]] = {}
        self._from: list[int] = []
        self._thoughts: list[str] = []
        """Reasoning of which it is not yet known what it belongs to."""
        self._sealed: dict[str, list[object]] = {}
        self._thinking: list[int] = []

    def reason(self, thought: str, opaque: Mapping[str, list[object]]) -> None:
        """Reasoning belongs to the assistant message that is to come. `opaque`: the members that hold it in the
        upstream's own form."""
        if thought:
            self._thoughts.append(thought)
        for name, held in opaque.items():
            self._sealed.setdefault(name, []).extend(held)
        self._thinking.append(self.at)

    def say(self, message: dict[str, object]) -> None:
        """An assistant message. What comes between calls and their results is part of the message that calls."""
        if self._said is not None and self._calls:
            parts = [*_as_parts(self._said), *_as_parts(message)]
            self._said |= message
            self._said.pop("refusal", None)
            self._said["content"] = parts if len(parts) > 1 or parts[0]["type"] != "text" else parts[0]["text"]
        else:
            self._end()
            self._said = message
        self._take()

    def call(self, call: dict[str, object]) -> None:
        if self._said is None:
            self._said = {"role": "assistant", "content": None}
        self._calls.append(call)
        self._take()

    def add(self, message: dict[str, object]) -> None:
        """A message of any other role."""
        self.flush()
        self.messages.append(message)
        self.places.append((self.at,))

    def flush(self) -> None:
        """What is open ends."""
        if self._thoughts or self._sealed:
            if self._said is None:
                # a reply that was cut off while it reasoned
                self._said = {"role": "assistant", "content": ""}
            self._take(itself=False)
        self._thinking = []
        self._end()

    def _take(self, *, itself: bool = True) -> None:
        """The open message says the item (`itself`), and the reasoning that waited for it."""
        self._reasoning += self._thoughts
        for name, held in self._sealed.items():
            self._opaque.setdefault(name, []).extend(held)
        self._from += [*self._thinking, self.at] if itself else self._thinking
        self._thoughts, self._sealed, self._thinking = [], {}, []

    def _end(self) -> None:
        if self._said is None:
            return
        if self._calls:
            self._said["tool_calls"] = self._calls
        if self._reasoning:
            self._said["reasoning_content"] = "\n\n".join(self._reasoning)
        self._said |= self._opaque
        self.messages.append(self._said)
        self.places.append(tuple(self._from))
        self._said, self._calls, self._reasoning, self._opaque, self._from = None, [], [], {}, []


def _as_parts(message: dict[str, object]) -> list[dict[str, object]]:
    content, refusal = message.get("content"), message.get("refusal")
    parts: list[dict[str, object]] = list(content) if isinstance(content, list) else []
    if isinstance(content, str) and (content or refusal is None):
        parts = [{"type": "text", "text": content}]
    return [*parts, {"type": "refusal", "refusal": refusal}] if refusal is not None else parts
