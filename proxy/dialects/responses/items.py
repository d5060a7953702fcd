"""Input items of a Responses request -> chat messages, and the items as they are listed."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import orjson

from proxy.dialects.contract import Piece
from proxy.dialects.responses.draft import Draft
from proxy.dialects.responses.fields import (
    object_,
    objects,
    one_of,
    only,
    optional_text,
    present,
    refuse,
    some_text,
    text,
    written,
)
from proxy.dialects.responses.sealed import OPAQUE, REASONING, SUMMARY, is_sealed, unseal
from proxy.errors import InvalidBody, NotFound

PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "compaction": "cmp",
}
"""What the ids of items start with, by type."""
HEADING = "Summary of the earlier conversation (its messages are not shown):"
"""Stands above the summary that a compaction item holds."""
NOTHING: Mapping[str, bytes] = MappingProxyType({})

_LATER = {
    "compaction_trigger": "asks for compaction, which happens by itself here: `[summary]` of the policy file says how",
    "compaction_summary": "is no item of this API; send the compaction item as it was given",
}
_CALLING = frozenset(PREFIXES) - {"message", "reasoning", "compaction"}
_STATUS = ("in_progress", "completed", "incomplete")
_MESSAGE = frozenset({"type", "id", "status", "role", "content", "phase"})
_PLAIN = frozenset({"type", "id", "status", "call_id", "name", "arguments", "input", "output", "created_by", "caller"})
_COMPACTION = frozenset({"type", "id", "encrypted_content", "created_by"})
_PART = frozenset({
    "type", "text", "refusal", "annotations", "logprobs", "detail", "file_id", "image_url", "file_data", "file_url",
    "filename", "input_audio",
})  # fmt: skip
"""Members of parts that are translated, or (annotations, logprobs) that no chat message holds."""


def referred(body: bytes) -> tuple[str, ...]:
    """The ids that item references in `input`, or in `items`, name; each once. What is malformed names none."""
    if b'"id"' not in body:
        return ()
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ()
    if not isinstance(value, dict):
        return ()
    listed = [each for name in ("input", "items") if isinstance(held := value.get(name), list) for each in held]
    found = [each["id"] for each in listed if isinstance(each, dict) and refers(each)]
    return tuple(dict.fromkeys(id for id in found if isinstance(id, str)))


def read_input(
    value: object, id: str, known: Mapping[str, bytes] = NOTHING, *, member: str = "input", ours: bool = False
) -> tuple[list[dict[str, object]], tuple[bytes, ...]]:
    """(chat messages, items with ids as JSON). `ours`: ids that the items came with are not kept.

    Raises InvalidBody; NotFound for a reference to what is not in `known`."""
    if isinstance(value, str) and member == "input":
        value = [{"type": "message", "role": "user", "content": value}]
    items = [
        _resolved(present(each), known, f"{member}[{at}]") if refers(each) else present(each)
        for at, each in enumerate(objects(value, member))
    ]
    draft = Draft()
    listed: list[bytes] = []
    seen: set[str] = set()
    answered = _answered(items)
    for at, item in enumerate(items):
        place = f"{member}[{at}]"
        draft.at = at
        one = _read(item, place, draft, answered)
        if ours or one.get("id") is None:
            one["id"] = f"{PREFIXES[str(one['type'])]}_{id}{at:02x}i"
        else:
            some_text(one["id"], f"{place}.id")
        if (mine := str(one["id"])) in seen:
            raise InvalidBody(
                f"Duplicate item found with id {mine[:100]}. Remove duplicate items from your input and try again.",
                param=member,
            )
        seen.add(mine)
        listed.append(written(one, place))
    draft.flush()
    return draft.messages, tuple(listed)


def pieces(items: Sequence[bytes]) -> tuple[Piece, ...]:
    """See `Translation.pieces`."""
    values = [present(object_(orjson.loads(item), "items")) for item in items]
    draft = Draft()
    answered = _answered(values)
    for at, item in enumerate(values):
        draft.at = at
        _read(item, f"items[{at}]", draft, answered)
    draft.flush()
    return tuple(
        Piece(written(message, "items"), places) for message, places in zip(draft.messages, draft.places, strict=True)
    )


def refers(item: Mapping[str, object]) -> bool:
    """The type of a reference may be left out."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and not item.keys() - {"id", "type"})


def _resolved(item: dict[str, object], known: Mapping[str, bytes], member: str) -> dict[str, object]:
    """The item that a reference names."""
    only(item, member, frozenset({"type", "id"}))
    return present(object_(orjson.loads(stored(some_text(item.get("id"), f"{member}.id"), known, member)), member))


def stored(id: str, known: Mapping[str, bytes], member: str) -> bytes:
    """The item that `member` refers to. Raises NotFound."""
    if id not in known:
        raise NotFound(f"Item with id '{id[:100]}' not found.", param=member.partition("[")[0])
    return known[id]


def _answered(items: Sequence[Mapping[str, object]]) -> frozenset[str]:
    """The calls that have a result among these items."""
    kinds = ("function_call_output", "custom_tool_call_output")
    return frozenset(id for item in items if item.get("type") in kinds and isinstance(id := item.get("call_id"), str))


def _read(item: dict[str, object], member: str, draft: Draft, answered: frozenset[str]) -> dict[str, object]:
    """Adds an item to the draft and returns it as it is listed."""
    kind = item.get("type", "message")
    if isinstance(kind, str) and kind in _CALLING:
        for name, value in item.items():
            if name not in _PLAIN or (name == "caller" and value != {"type": "direct"}):
                refuse(f"{member}.{name}", "is not supported here; leave it out")
    status = one_of(item.get("status", "completed"), f"{member}.status", _STATUS)
    match kind:
        case "message":
            return _message(item, member, status, draft)
        case "reasoning":
            return _reasoning(item, member, draft)
        case "function_call" | "custom_tool_call":
            payload, body = ("arguments", "function") if kind == "function_call" else ("input", "custom")
            call_id = some_text(item.get("call_id"), f"{member}.call_id")
            name = some_text(item.get("name"), f"{member}.name")
            said = text(item.get(payload), f"{member}.{payload}")
            if status != "incomplete" or call_id in answered or body == "custom" or _parses(said):
                # arguments that were cut off make no call
                draft.call({"id": call_id, "type": body, body: {"name": name, payload: said}})
            return {**item, "status": status}
        case "function_call_output" | "custom_tool_call_output":
            call_id = some_text(item.get("call_id"), f"{member}.call_id")
            output, parts = _content(item.get("output"), f"{member}.output", "tool")
            draft.add({"role": "tool", "tool_call_id": call_id, "content": output})
            if isinstance(item["output"], str):
                return {**item, "status": status}
            return {**item, "status": status, "output": parts}
        case "compaction":
            only(item, member, _COMPACTION)
            place = f"{member}.encrypted_content"
            summary = text(unseal(SUMMARY, item.get("encrypted_content"), place), place)
            draft.add({"role": "user", "content": f"{HEADING}\n{summary}"})
            return item
    if not isinstance(kind, str):
        refuse(f"{member}.type", "is not a string; name the item's type")
    if kind in _LATER:
        refuse(f"{member}.type", _LATER[kind])
    return refuse(
        f"{member}.type",
        "is of no type that can be served; items of hosted tools need a service that the upstream lacks. "
        f"Use {', '.join(PREFIXES)}",
    )


def _reasoning(item: dict[str, object], member: str, draft: Draft) -> dict[str, object]:
    thoughts: list[str] = []
    for at, part in enumerate(objects(item.get("content", []), f"{member}.content")):
        one_of(part.get("type"), f"{member}.content[{at}].type", ("reasoning_text",))
        thoughts.append(text(part.get("text"), f"{member}.content[{at}].text"))
    summary = objects(item.get("summary", []), f"{member}.summary")
    for at, part in enumerate(summary):
        one_of(part.get("type"), f"{member}.summary[{at}].type", ("summary_text",))
        text(part.get("text"), f"{member}.summary[{at}].text")
    opaque: dict[str, list[object]] = {}
    if "encrypted_content" in item:
        sealed, place = text(item["encrypted_content"], f"{member}.encrypted_content"), f"{member}.encrypted_content"
        if is_sealed(REASONING, sealed):
            held = object_(unseal(REASONING, sealed, place), place)
            opaque = {name: each for name in OPAQUE if isinstance(each := held.get(name), list)}
    draft.reason("\n\n".join(filter(None, thoughts)), opaque)
    return {**item, "summary": summary}


def _parses(arguments: str) -> bool:
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True


def _message(item: dict[str, object], member: str, status: str, draft: Draft) -> dict[str, object]:
    role = one_of(item.get("role"), f"{member}.role", ("user", "assistant", "system", "developer"))
    if "phase" in item:
        one_of(item["phase"], f"{member}.phase", ("commentary", "final_answer"))
    content, parts = _content(item.get("content"), f"{member}.content", role)
    message: dict[str, object] = {"role": role, "content": content}
    # what neither specification knows travels
    message |= {name: value for name, value in item.items() if name not in _MESSAGE}
    if role != "assistant":
        draft.add(message)
    else:
        if isinstance(content, list) and len(content) == 1 and content[0].get("type") == "refusal":
            message |= {"content": "", "refusal": content[0]["refusal"]}
        draft.say(message)
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
            if one_of(part.get("detail", "auto"), f"{member}.detail", ("auto", "low", "high")) != "auto":
                image["detail"] = part["detail"]
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
