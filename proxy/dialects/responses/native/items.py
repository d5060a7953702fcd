"""One item of the Responses API: what it says, and the form in which a stateless upstream takes it as input.

The reference for shapes is the public SDK (`openai.types.responses`, `ResponseInputItemParam`). What was found about
ids where nothing is stored (`store: false`):

- OpenAI, and Azure more strictly, look an item's id up and answer "Item with id … not found"; a reasoning item whose id
  is not the one that its `encrypted_content` was made under "could not be verified". Without ids every item is taken
  (Codex sends none). So ids are left out, also of items that a client sends back: they are the proxy's own.
- Servers that validate by the SDK's types (vLLM) demand an id of an assistant's message in parts, but none of one whose
  content is a string: an assistant's texts become a string.
- They demand one of reasoning, too, and look none up: reasoning in clear text keeps its id.
- Reasoning that has neither `encrypted_content` nor text cannot be understood by anybody: it is left out.
"""

from collections.abc import Mapping
from typing import NamedTuple, NoReturn

import msgspec
import orjson

from proxy.conversation.message import Media, ToolCall
from proxy.errors import InvalidBody

fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode

BLANK = (b"null", b'""', b"[]", b"{}")
"""Values that say nothing."""
ANSWERED = {
    "function_call": "",
    "custom_tool_call": "custom:",
    "computer_call": "computer:",
    "local_shell_call": "local_shell:",
    "apply_patch_call": "apply_patch:",
    "mcp_approval_request": "mcp_approval:",
}
"""Items that the client answers, and what their calls' ids start with here: an answer must be of its call's type."""
_ANSWERS = {f"{kind}_output": prefix for kind, prefix in ANSWERED.items() if kind.endswith("_call")}
_ANSWERS["mcp_approval_response"] = ANSWERED["mcp_approval_request"]
_ROLES = ("user", "assistant", "system", "developer")
_WITHOUT_ID = frozenset(
    {"message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
)
_TEXT_PARTS = frozenset({"input_text", "output_text", "text"})
_LABELS = frozenset({"id", "status", "created_by"})
"""Members that say nothing about what an item holds."""


class Item(NamedTuple):
    role: str
    """As in `Message`."""
    of_run: bool
    """A part of what the model said: reasoning, text, calls."""
    wire: bytes
    """The input form, b"" if there is none."""
    shown: bytes = b""
    """The item as it came where the input form holds less than it, but for its id and status."""
    text: str = ""
    media: tuple[Media, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    answers: str = ""
    reasons: bool = False


def read_item(value: object, raw: bytes, at: int = 0, *, reply: bool = False) -> Item:
    """An item from its parsed form and its bytes. Raises InvalidBody that names the member by its place `at`.

    `reply`: it comes from a reply, and is put into the input form; a client's item keeps its bytes unless it has an
    id."""
    if not isinstance(value, dict):
        refuse(at, "", "is not an object; send an item")
    kind = value.get("type")
    if kind is None and "role" in value:
        kind = "message"
    if not isinstance(kind, str):
        refuse(at, "type", "is of no known type; name the item's type")
    if kind == "item_reference":
        refuse(at, "type", "refers to a stored item; send the item itself")
    if kind == "reasoning":
        return _reasoning(value, raw)
    if kind == "message":
        return _message(value, raw, at, reply)
    wire = _input_form(raw) if kind in _WITHOUT_ID and (reply or "id" in value) else raw
    if kind in ANSWERED:
        return Item("assistant", True, wire, calls=(_call(kind, value, at),))
    if kind in _ANSWERS:
        return _result(kind, value, wire, at)
    # whatever else there is comes from the model or stands for what it said (searches, compacted history)
    return Item("assistant", True, wire, media=(Media(kind, _described(value)),))


def refuse(at: int, member: str, what: str) -> NoReturn:
    where = f"input[{at}]"
    raise InvalidBody(f"`{where}` {what}.", param=f"{where}.{member}" if member else where)


def _reasoning(value: Mapping[str, object], raw: bytes) -> Item:
    """SDKs send members back as null, and leave `summary` out."""
    sealed = isinstance(value.get("encrypted_content"), str) and value["encrypted_content"]
    open_text = isinstance(value.get("content"), list) and value["content"]
    if not sealed and not open_text:
        return Item("assistant", True, b"", raw, reasons=True)
    fields = {name: each for name, each in fields_of(raw).items() if name == "summary" or bytes(each) not in BLANK}
    if sealed:
        fields.pop("id", None)
    fields.setdefault("summary", msgspec.Raw(b"[]"))
    return Item("assistant", True, raw if fields.keys() == value.keys() else encode(fields), reasons=True)


def _message(value: Mapping[str, object], raw: bytes, at: int, reply: bool) -> Item:
    role, content = value.get("role"), value.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        refuse(at, "role", f"has no known role; use one of {', '.join(_ROLES)}")
    text, media, plain = _content(content, at, "content")
    wire = shown = raw
    if reply or "id" in value:
        wire = _input_form(raw)
        if role == "assistant" and plain and not isinstance(content, str):
            fields = fields_of(wire)
            fields.pop("status", None)
            wire = encode({**fields, "content": msgspec.Raw(orjson.dumps(text))})
    if wire is raw or not _holds_more(content):
        shown = b""
    return Item(role, role == "assistant", wire, shown, text, media)


def _input_form(raw: bytes) -> bytes:
    """Without its id, and without members that are null: OpenAI refuses `status: null`."""
    fields = fields_of(raw)
    kept = {name: each for name, each in fields.items() if name not in ("id", "created_by") and bytes(each) != b"null"}
    return encode(kept) if len(kept) < len(fields) else raw


def _holds_more(content: object) -> bool:
    """There are annotations or the like beside the texts."""
    return isinstance(content, list) and any(
        each
        for part in content
        if isinstance(part, dict)
        for name, each in part.items()
        if name not in ("type", "text")
    )


def _content(content: object, at: int, member: str) -> tuple[str, tuple[Media, ...], bool]:
    """(text, media, the content is nothing but texts)."""
    if isinstance(content, str):
        return content, (), True
    if content is None:
        return "", (), True
    if not isinstance(content, list):
        refuse(at, member, "is neither a string nor a list of parts; send one of these")
    texts: list[str] = []
    media: list[Media] = []
    plain = True
    for place, part in enumerate(content):
        where = f"{member}[{place}]"
        if not isinstance(part, dict) or not isinstance(kind := part.get("type"), str):
            refuse(at, where, "is a content part without a type; send one with a type")
        if kind in _TEXT_PARTS or kind == "refusal":
            name = "refusal" if kind == "refusal" else "text"
            if not isinstance(piece := part.get(name), str):
                refuse(at, f"{where}.{name}", "is no string; put the text there")
            texts.append(piece)
            plain = plain and kind != "refusal"
        else:
            plain = False
            media.append(_media(kind, part))
    return "".join(texts), tuple(media), plain


def _media(kind: str, part: Mapping[str, object]) -> Media:
    match kind:
        case "input_image":
            detail = part.get("detail")
            for name in ("image_url", "file_id"):
                if isinstance(data := part.get(name), str):
                    return Media("image", data, detail if isinstance(detail, str) and detail != "auto" else "")
        case "input_audio":
            audio = part.get("input_audio")
            if isinstance(audio, dict) and isinstance(data := audio.get("data"), str):
                form = audio.get("format")
                return Media("audio", data, form if isinstance(form, str) else "")
        case "input_file":
            filename = part.get("filename")
            for source in ("file_data", "file_url", "file_id"):
                if isinstance(data := part.get(source), str):
                    return Media("file", data, filename if isinstance(filename, str) else "")
    return Media(kind, _described(part))


def _call(kind: str, value: Mapping[str, object], at: int) -> ToolCall:
    label = "id" if kind == "mcp_approval_request" else "call_id"
    if not isinstance(id := value.get(label), str) or not id:
        refuse(at, label, "is missing; send the call with its id")
    payload = {"function_call": "arguments", "custom_tool_call": "input"}.get(kind)
    if payload is None:
        return ToolCall(ANSWERED[kind] + id, kind, _described(value))
    if not isinstance(name := value.get("name"), str):
        refuse(at, "name", "is missing; name the tool")
    if not isinstance(said := value.get(payload), str):
        refuse(at, payload, "is no string; send what the model wrote")
    return ToolCall(ANSWERED[kind] + id, name, said)


def _result(kind: str, value: Mapping[str, object], wire: bytes, at: int) -> Item:
    label = "approval_request_id" if kind == "mcp_approval_response" else "call_id"
    id = value.get(label) or (value.get("id") if kind == "local_shell_call_output" else None)
    if not isinstance(id, str) or not id:
        refuse(at, label, "answers no call; set it to the id of the call that it answers")
    answers = _ANSWERS[kind] + id
    if kind in _WITHOUT_ID:
        text, media, _ = _content(value.get("output"), at, "output")
        return Item("tool", False, wire, text=text, media=media, answers=answers)
    return Item("tool", False, wire, media=(Media(kind, _described(value)),), answers=answers)


def _described(value: Mapping[str, object]) -> str:
    """What tells one object from another."""
    held = {name: each for name, each in value.items() if name not in _LABELS and each is not None}
    try:
        return orjson.dumps(held, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError:
        raise InvalidBody("An item is nested too deeply; send a flatter one.", param="input") from None
