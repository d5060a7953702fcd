"""Input items of a Responses request -> chat messages, and the items as they are listed.

The items of one model reply (reasoning, message, calls) become one assistant message, as they were in the reply that
they were made from; a call's result must follow the message that makes the call.
"""

from proxy.dialects.responses.fields import (
    object_,
    objects,
    one_of,
    optional_text,
    present,
    refuse,
    some_text,
    text,
    written,
)

PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}
"""What the ids of items start with, by type."""

_LATER = {
    "item_reference": "refers to a stored item, which is not supported yet; send the item itself",
    "compaction": "is a compaction item, which is not supported yet; send the items themselves",
    "compaction_trigger": "asks for compaction, which is not supported yet; leave it out",
    "compaction_summary": "is a compaction item, which is not supported yet; send the items themselves",
}
_STATUS = ("in_progress", "completed", "incomplete")
_MESSAGE = frozenset({"type", "id", "status", "role", "content", "phase"})
_PLAIN = frozenset({"type", "id", "status", "call_id", "name", "arguments", "input", "output", "created_by", "caller"})
_PART = frozenset({
    "type", "text", "refusal", "annotations", "logprobs", "detail", "file_id", "image_url", "file_data", "file_url",
    "filename", "input_audio",
})  # fmt: skip
"""Members of parts that are translated, or (annotations, logprobs) that no chat message holds."""


class Conversation:
    """Chat messages in the making."""

    def __init__(self) -> None:
        self.messages: list[dict[str, object]] = []
        self._draft: dict[str, object] | None = None
        """The assistant message to which items are still added."""
        self._calls: list[object] = []
        self._reasoning: list[str] = []
        """Reasoning that belongs to the assistant message which is to come."""

    def reason(self, thought: str) -> None:
        if thought:
            self._reasoning.append(thought)

    def say(self, message: dict[str, object]) -> None:
        """An assistant message. What comes between calls and their results is part of the message that calls."""
        if self._draft is None:
            self._draft = message
        elif not self._calls:
            late, self._reasoning = self._reasoning, []
            self.flush()
            self._reasoning, self._draft = late, message
        else:
            parts = [*_as_parts(self._draft), *_as_parts(message)]
            self._draft |= message
            self._draft.pop("refusal", None)
            self._draft["content"] = parts if len(parts) > 1 or parts[0]["type"] != "text" else parts[0]["text"]

    def call(self, call: dict[str, object]) -> None:
        if self._draft is None:
            self._draft = {"role": "assistant", "content": None}
        self._calls.append(call)

    def add(self, message: dict[str, object]) -> None:
        """A message of any other role."""
        self.flush()
        self.messages.append(message)

    def flush(self) -> None:
        if self._reasoning and self._draft is None:
            # a reply that was cut off while it reasoned
            self._draft = {"role": "assistant", "content": ""}
        if self._draft is not None:
            if self._calls:
                self._draft["tool_calls"] = self._calls
            if self._reasoning:
                self._draft["reasoning_content"] = "\n\n".join(self._reasoning)
            self.messages.append(self._draft)
        self._draft, self._calls, self._reasoning = None, [], []


def read_input(value: object, id: str) -> tuple[list[dict[str, object]], tuple[bytes, ...]]:
    """(chat messages, items with ids as JSON). Raises InvalidBody."""
    if isinstance(value, str):
        value = [{"type": "message", "role": "user", "content": value}]
    conversation = Conversation()
    items: list[bytes] = []
    for at, item in enumerate(objects(value, "input")):
        member = f"input[{at}]"
        listed = _read(present(item), member, conversation)
        if listed.get("id") is None:
            listed["id"] = f"{PREFIXES[str(listed['type'])]}_{id}{at:02x}i"
        else:
            some_text(listed["id"], f"{member}.id")
        items.append(written(listed, member))
    conversation.flush()
    return conversation.messages, tuple(items)


def _read(item: dict[str, object], member: str, conversation: Conversation) -> dict[str, object]:
    """Adds an item to the conversation and returns it as it is listed."""
    kind = item.get("type", "message")
    if kind != "message" and isinstance(kind, str) and kind in PREFIXES and kind != "reasoning":
        for name, value in item.items():
            if name not in _PLAIN or (name == "caller" and value != {"type": "direct"}):
                refuse(f"{member}.{name}", "is not supported here; leave it out")
    status = one_of(item.get("status", "completed"), f"{member}.status", _STATUS)
    match kind:
        case "message":
            return _message(item, member, status, conversation)
        case "reasoning":
            contents = objects(item.get("content", []), f"{member}.content")
            for at, part in enumerate(contents):
                one_of(part.get("type"), f"{member}.content[{at}].type", ("reasoning_text",))
                conversation.reason(text(part.get("text"), f"{member}.content[{at}].text"))
            summary = objects(item.get("summary", []), f"{member}.summary")
            for at, part in enumerate(summary):
                one_of(part.get("type"), f"{member}.summary[{at}].type", ("summary_text",))
                text(part.get("text"), f"{member}.summary[{at}].text")
            if "encrypted_content" in item:
                text(item["encrypted_content"], f"{member}.encrypted_content")
            return {**item, "summary": summary}
        case "function_call" | "custom_tool_call":
            payload, body = ("arguments", "function") if kind == "function_call" else ("input", "custom")
            call_id = some_text(item.get("call_id"), f"{member}.call_id")
            name = some_text(item.get("name"), f"{member}.name")
            said = text(item.get(payload), f"{member}.{payload}")
            conversation.call({"id": call_id, "type": body, body: {"name": name, payload: said}})
            return {**item, "status": status}
        case "function_call_output" | "custom_tool_call_output":
            call_id = some_text(item.get("call_id"), f"{member}.call_id")
            output, parts = _content(item.get("output"), f"{member}.output", "tool")
            conversation.add({"role": "tool", "tool_call_id": call_id, "content": output})
            if isinstance(item["output"], str):
                return {**item, "status": status}
            return {**item, "status": status, "output": parts}
    if not isinstance(kind, str):
        refuse(f"{member}.type", "is not a string; name the item's type")
    if kind in _LATER:
        refuse(f"{member}.type", _LATER[kind])
    return refuse(
        f"{member}.type",
        "is of no type that can be served; items of hosted tools need a service that the upstream lacks. "
        f"Use {', '.join(PREFIXES)}",
    )


def _message(item: dict[str, object], member: str, status: str, conversation: Conversation) -> dict[str, object]:
    role = one_of(item.get("role"), f"{member}.role", ("user", "assistant", "system", "developer"))
    if "phase" in item:
        one_of(item["phase"], f"{member}.phase", ("commentary", "final_answer"))
    content, parts = _content(item.get("content"), f"{member}.content", role)
    message: dict[str, object] = {"role": role, "content": content}
    # what neither specification knows travels
    message |= {name: value for name, value in item.items() if name not in _MESSAGE}
    if role != "assistant":
        conversation.add(message)
    else:
        if isinstance(content, list) and len(content) == 1 and content[0].get("type") == "refusal":
            message |= {"content": "", "refusal": content[0]["refusal"]}
        conversation.say(message)
    return {**item, "type": "message", "status": status, "content": parts}


def _content(value: object, member: str, role: str) -> tuple[str | list[dict[str, object]], list[dict[str, object]]]:
    """(content of the chat message, parts as they are listed). One part that is only text becomes a string, which
    every upstream takes."""
    if isinstance(value, str):
        if role == "assistant":
            return value, [{"type": "output_text", "text": value, "annotations": []}]
        return value, [{"type": "input_text", "text": value}]
    if not isinstance(value, list):
        refuse(member, "is neither a string nor a list of parts; send one of these")
    sent: list[dict[str, object]] = []
    listed: list[dict[str, object]] = []
    for at, given in enumerate(objects(value, member)):
        part = present(given)
        sent.append(_part(part, f"{member}[{at}]", role))
        kind = part["type"]
        if kind == "output_text":
            part = {"annotations": [], **part}
        elif kind == "input_image":
            part = {"detail": "auto", **part}
        elif role == "assistant" and kind == "input_text":
            part = {"annotations": [], **part, "type": "output_text"}
        listed.append(part)
    if not sent:
        return "", listed
    if len(sent) == 1 and sent[0].keys() == {"type", "text"}:
        return str(sent[0]["text"]), listed
    return sent, listed


def _part(part: dict[str, object], member: str, role: str) -> dict[str, object]:
    more = {name: value for name, value in part.items() if name not in _PART}
    kinds = ("input_text", "output_text", "refusal") if role == "assistant" else _KINDS[role]
    kind = one_of(part.get("type"), f"{member}.type", kinds)
    match kind:
        case "input_text" | "output_text":
            return {"type": "text", "text": text(part.get("text"), f"{member}.text"), **more}
        case "refusal":
            return {"type": "refusal", "refusal": text(part.get("refusal"), f"{member}.refusal"), **more}
        case "input_image":
            if "file_id" in part:
                refuse(f"{member}.file_id", "needs a file store that the upstream lacks; send `image_url`")
            image: dict[str, object] = {"url": some_text(part.get("image_url"), f"{member}.image_url")}
            if "detail" in part:
                image["detail"] = one_of(part["detail"], f"{member}.detail", ("auto", "low", "high"))
            return {"type": "image_url", "image_url": image, **more}
        case "input_audio":
            audio = object_(part.get("input_audio"), f"{member}.input_audio")
            some_text(audio.get("data"), f"{member}.input_audio.data")
            some_text(audio.get("format"), f"{member}.input_audio.format")
            return {"type": "input_audio", "input_audio": audio, **more}
    if "file_url" in part:
        refuse(f"{member}.file_url", "cannot be sent to the upstream; send `file_data`")
    if part.get("detail", "auto") != "auto":
        refuse(f"{member}.detail", "is not supported here; leave it out")
    file: dict[str, object] = {}
    for name in ("file_data", "file_id", "filename"):
        if (value := optional_text(part.get(name), f"{member}.{name}")) is not None:
            file[name] = value
    if "file_data" not in file and "file_id" not in file:
        refuse(f"{member}.file_data", "is missing; send the file's content")
    return {"type": "file", "file": file, **more}


_KINDS = {
    "user": ("input_text", "input_image", "input_file", "input_audio"),
    "system": ("input_text", "input_image", "input_file"),
    "developer": ("input_text", "input_image", "input_file"),
    "tool": ("input_text", "input_image", "input_file"),
}


def _as_parts(message: dict[str, object]) -> list[dict[str, object]]:
    content, refusal = message.get("content"), message.get("refusal")
    parts: list[dict[str, object]] = list(content) if isinstance(content, list) else []
    if isinstance(content, str) and (content or refusal is None):
        parts = [{"type": "text", "text": content}]
    return [*parts, {"type": "refusal", "refusal": refusal}] if refusal is not None else parts
