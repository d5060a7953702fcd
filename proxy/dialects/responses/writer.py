"""The grammar of a Responses stream: one item after the other, each opened, grown and closed by numbered events.

response.created, response.queued (of a background response), response.in_progress
response.output_item.added
    response.content_part.added
        response.{output_text,refusal,reasoning_text}.delta … .done
    response.content_part.done
    or, of a call, response.{function_call_arguments,custom_tool_call_input}.delta … .done
response.output_item.done
response.completed | incomplete | failed
"""

import secrets

import orjson

PARTS = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}
"""Types of content parts, and the member that grows."""
CALLS = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}
"""Types of calls: the member that grows, and what the names of its events start with."""


_BLOCK = 16
"""Bytes of which padded deltas are multiples."""

_ENDS = {"completed": "response.completed", "incomplete": "response.incomplete", "cancelled": "response.incomplete"}
"""Status -> the last event; of any other it is `response.failed`."""


class Writer:
    """Writes events; a method that does not fit the state is a mistake of the caller's."""

    def __init__(self, *, obfuscates: bool = False) -> None:
        """`obfuscates`: deltas are padded with random letters to sizes that do not tell what is said."""
        self._obfuscates = obfuscates
        self.sequence = 0
        """The number of the next event."""
        self.items: list[dict[str, object]] = []
        """The items that are closed."""
        self.logprobs: list[dict[str, object]] = []
        """Of the text that the next delta brings."""
        self._known: list[dict[str, object]] = []
        """Of what the open part has said."""
        self._item: dict[str, object] | None = None
        self._content: list[dict[str, object]] = []
        self._part: dict[str, object] | None = None
        self._pieces: list[str] = []
        self._head = b""

    @property
    def index(self) -> int:
        """The place of the open item, or of the next one."""
        return len(self.items)

    @property
    def kind(self) -> str:
        """The type of the open item, "" if none is open."""
        return str(self._item["type"]) if self._item is not None else ""

    @property
    def part(self) -> str:
        """The type of the open part, "" if none is open."""
        return str(self._part["type"]) if self._part is not None else ""

    def event(self, name: str, members: dict[str, object]) -> bytes:
        data = orjson.dumps({"type": name, **members, "sequence_number": self.sequence})
        self.sequence += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

    def last(self, response: dict[str, object]) -> bytes:
        """The event that ends a stream, by the response's status."""
        return self.event(_ENDS.get(str(response["status"]), "response.failed"), {"response": response})

    def open(self, item: dict[str, object]) -> bytes:
        """Opens an item, given as it will be; what grows in it is left out."""
        kind = str(item["type"])
        self._item = {**item, "status": "in_progress"} if "status" in item else dict(item)
        self._content = []
        if kind in CALLS:
            self._item[CALLS[kind][0]] = ""
            self._start(CALLS[kind][1], {})
        else:
            self._item["content"] = []
        return self.event("response.output_item.added", {"output_index": self.index, "item": self._item})

    def open_part(self, kind: str) -> bytes:
        """Opens a part of the open message or reasoning item."""
        at = len(self._content)
        self._part = {"type": kind, PARTS[kind]: ""}
        if kind == "output_text":
            self._part |= {"annotations": [], "logprobs": []}
        self._start(f"response.{kind}", {"content_index": at})
        return self.event("response.content_part.added", {**self._place(), "content_index": at, "part": self._part})

    def delta(self, piece: str) -> bytes:
        """A piece of what grows in the open part or call."""
        self._pieces.append(piece)
        said, more = orjson.dumps(piece), b""
        if self._part is not None and "logprobs" in self._part:
            more = b',"logprobs":[]'
            if self.logprobs:
                more = b',"logprobs":%b' % orjson.dumps(self.logprobs)
                self._known += self.logprobs
                self.logprobs = []
        if self._obfuscates:
            pad = _BLOCK - len(said) % _BLOCK
            more += b',"obfuscation":"%b"' % secrets.token_urlsafe(pad)[:pad].encode()
        made = b'%b%b%b,"sequence_number":%d}\n\n' % (self._head, said, more, self.sequence)
        self.sequence += 1
        return made

    def close_part(self) -> bytes:
        """b"" if none is open."""
        part, self._part = self._part, None
        if part is None:
            return b""
        kind, grown = str(part["type"]), "".join(self._pieces)
        at = len(self._content)
        place: dict[str, object] = {**self._place(), "content_index": at}
        part = {**part, PARTS[kind]: grown}
        more: dict[str, object] = {}
        if kind == "output_text":
            # some servers tell them of tokens that say nothing
            known, self._known, self.logprobs = self._known + self.logprobs, [], []
            part["logprobs"], more = known, {"logprobs": known}
        self._content.append(part)
        done = self.event(f"response.{kind}.done", {**place, PARTS[kind]: grown, **more})
        return done + self.event("response.content_part.done", {**place, "part": part})

    def seal(self, content: str) -> None:
        """The open reasoning item holds this `encrypted_content`."""
        assert self._item is not None
        self._item = {**self._item, "encrypted_content": content}

    def close(self, status: str) -> bytes:
        """Closes the open item, b"" if none is open. `status` counts for items that have one."""
        if self._item is None:
            return b""
        made = self.close_part()
        kind = self.kind
        if kind in CALLS:
            member, event = CALLS[kind]
            self._item = {**self._item, member: (grown := "".join(self._pieces))}
            made += self.event(f"{event}.done", {**self._place(), member: grown})
        else:
            self._item = {**self._item, "content": self._content}
        if "status" in self._item:
            self._item["status"] = status
        item = self._item
        made += self.event("response.output_item.done", {"output_index": self.index, "item": item})
        self.items.append(item)
        self._item = None
        return made

    def whole(self, item: dict[str, object]) -> bytes:
        """Every event of a finished item; each text of it is one delta."""
        made = [self.open(item)]
        kind = str(item["type"])
        if kind in CALLS:
            if grown := item[CALLS[kind][0]]:
                made.append(self.delta(str(grown)))
        else:
            parts = item["content"]
            for part in parts if isinstance(parts, list) else ():
                made.append(self.open_part(part["type"]))
                self.logprobs = part.get("logprobs") or []
                if grown := part[PARTS[part["type"]]]:
                    made.append(self.delta(grown))
                made.append(self.close_part())
        made.append(self.close(str(item.get("status", "completed"))))
        return b"".join(made)

    def _place(self) -> dict[str, object]:
        assert self._item is not None
        return {"item_id": self._item["id"], "output_index": self.index}

    def _start(self, event: str, place: dict[str, object]) -> None:
        """Deltas are most of a stream: all but their piece and their number is written once."""
        self._pieces = []
        members = {"type": f"{event}.delta", **self._place(), **place}
        self._head = b'event: %b.delta\ndata: %b,"delta":' % (event.encode(), orjson.dumps(members)[:-1])
