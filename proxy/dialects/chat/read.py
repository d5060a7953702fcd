"""Chat Completions, read: a request's body -> Call, a message's bytes -> Message.

The reference for all shapes is the type package of the public SDK (`openai.types.chat`). Members and types of content
parts that are unknown here are carried: they stand in the message's bytes.
"""

from typing import NoReturn

import msgspec
import orjson

from proxy.conversation.message import Media, Message, ToolCall
from proxy.dialects.contract import Call
from proxy.errors import InvalidBody
from proxy.framing.members import Members

FUNCTION = "function:"
"""Starts the id of a legacy function call, which has none of its own."""
NO_ID = "id:"
"""Stands for the empty id that some servers give to their calls."""

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_UNSAID = frozenset({"thinking", "reasoning", "redacted_thinking"})
"""Types of content parts that are reasoning: they do not count for what a message says."""

_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read(body: bytes) -> Call:
    """See `Dialect.read`.

    `messages` may be empty: the body holds nothing but a prefill or a preamble, or nothing at all.
    """
    members = Members(body)
    get = members.get
    raw = get("messages")
    if raw is None or raw == b"null":
        raise InvalidBody("The body has no `messages`; send a list with at least your new message.", param="messages")
    messages = read_messages(raw)
    lead = 0
    while lead < len(messages) and messages[lead].role in ("system", "developer"):
        lead += 1
    prefill = messages.pop() if messages and messages[-1].role == "assistant" and not messages[-1].calls else None
    return Call(
        members=members,
        model=_model(get("model")),
        stream=get("stream") == b"true",
        choices=_choices(get("n")),
        preamble=tuple(messages[:lead]),
        messages=tuple(messages[lead:] if lead else messages),
        prefill=prefill,
        reserve=_count(get("max_completion_tokens")) or _count(get("max_tokens")) or None,
        overhead=(get("tools") or b"") + (get("functions") or b"") + (get("response_format") or b""),
    )


def read_messages(raw: bytes) -> list[Message]:
    """Each element of a JSON list of messages, with its exact bytes. Raises InvalidBody."""
    try:
        values = orjson.loads(raw)
        wires = _raws(raw) if isinstance(values, list) else ()
    except (orjson.JSONDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidBody(f"`messages` is not valid JSON: {error}.", param="messages") from None
    if not isinstance(values, list):
        raise InvalidBody("`messages` is not a list; send a list of messages.", param="messages")
    messages: list[Message] = []
    for value, wire in zip(values, wires, strict=True):
        if type(value) is dict and type(text := value.get("content")) is str and value.get("role") == "user":
            messages.append(Message("user", bytes(wire), text))
        else:
            messages.append(read_message(value, bytes(wire), len(messages)))
    return messages


def read_message(value: object, wire: bytes, at: int = 0) -> Message:
    """A message from its parsed form and its bytes; `at` is its place in the list, for errors. Raises InvalidBody."""
    if not isinstance(value, dict):
        _refuse(at, "", 'is not an object; send {"role": …, "content": …}')
    role, content = value.get("role"), value.get("content")
    if not isinstance(role, str) or role not in ROLES:
        _refuse(at, "role", f"has no known role; use one of {', '.join(sorted(ROLES))}")
    media: tuple[Media, ...] = ()
    if isinstance(content, str):
        text = content
    elif content is None:
        text = ""
    elif isinstance(content, list):
        text, media = _parts(content, at)
    else:
        _refuse(at, "content", "has content that is neither text nor a list of parts")
    if role == "assistant":
        refusal = value.get("refusal")
        if isinstance(refusal, str):
            text += refusal
        if (audio := value.get("audio")) and isinstance(audio, dict) and isinstance(audio.get("id"), str):
            media += (Media("audio", audio["id"]),)
        return Message("assistant", wire, text, media, _calls(value, at))
    if role == "tool":
        answers = value.get("tool_call_id")
        if not isinstance(answers, str):
            _refuse(at, "tool_call_id", "answers no call; set tool_call_id to the id of the call that it answers")
        return Message("tool", wire, text, media, answers=answers or NO_ID)
    if role == "function":
        name = value.get("name")
        if not isinstance(name, str):
            _refuse(at, "name", "answers no call; set name to the function that it answers")
        return Message("tool", wire, text, media, answers=FUNCTION + name)
    return Message(role, wire, text, media)


def _parts(parts: list[object], at: int) -> tuple[str, tuple[Media, ...]]:
    text: list[str] = []
    media: list[Media] = []
    for place, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(kind := part.get("type"), str):
            _refuse(at, f"content[{place}]", 'has a content part without a type; send {"type": "text", …} or such')
        if kind in ("text", "refusal"):
            if not isinstance(piece := part.get(kind), str):
                _refuse(at, f"content[{place}].{kind}", f"has a {kind} part that holds no string; put the text there")
            text.append(piece)
        elif kind in _MEDIA:
            held = _MEDIA[kind](part.get(kind))
            if held is None:
                _refuse(at, f"content[{place}].{kind}", f"has an incomplete {kind} part; see the API reference")
            media.append(held)
        elif kind not in _UNSAID:
            rest = {name: value for name, value in part.items() if name != "cache_control"}
            media.append(Media(kind, _dumped(rest)))
    return "".join(text), tuple(media)


def _image(value: object) -> Media | None:
    if isinstance(value, str):
        return Media("image", value)
    if isinstance(value, dict) and isinstance(value.get("url"), str):
        return Media("image", value["url"], _string(value.get("detail")))
    return None


def _audio(value: object) -> Media | None:
    if isinstance(value, dict) and isinstance(value.get("data"), str):
        return Media("audio", value["data"], _string(value.get("format")))
    return None


def _file(value: object) -> Media | None:
    if isinstance(value, dict):
        for name in ("file_id", "file_data", "filename"):
            if isinstance(value.get(name), str):
                return Media("file", value[name], _string(value.get("filename")) if name != "filename" else "")
    return None


_MEDIA = {"image_url": _image, "input_audio": _audio, "file": _file}


def _calls(message: dict[str, object], at: int) -> tuple[ToolCall, ...]:
    calls: list[ToolCall] = []
    if listed := message.get("tool_calls"):
        if not isinstance(listed, list):
            _refuse(at, "tool_calls", "has tool_calls that are not a list; send a list of calls")
        for place, call in enumerate(listed):
            read = _call(call)
            if read is None:
                shape = '{"id", "type", "function": {"name", "arguments"}}'
                _refuse(at, f"tool_calls[{place}]", f"has a malformed call; send {shape}")
            calls.append(read)
    if (legacy := message.get("function_call")) is not None:
        if not isinstance(legacy, dict) or not isinstance(name := legacy.get("name"), str):
            _refuse(at, "function_call", 'has a malformed function_call; send {"name", "arguments"}')
        calls.append(ToolCall(FUNCTION + name, name, _arguments(legacy.get("arguments"))))
    return tuple(calls)


def _call(call: object) -> ToolCall | None:
    if not isinstance(call, dict) or not isinstance(id := call.get("id", ""), str):
        return None
    for kind, argument in (("function", "arguments"), ("custom", "input")):
        if (body := call.get(kind)) is not None:
            if not isinstance(body, dict) or not isinstance(name := body.get("name"), str):
                return None
            return ToolCall(id or NO_ID, name, _arguments(body.get(argument)))
    if not isinstance(other := call.get("type"), str) or other in ("function", "custom"):
        return None
    return ToolCall(id or NO_ID, other, _dumped(call))


def _arguments(value: object) -> str:
    """A string by the standard; some clients send the object itself."""
    return value if isinstance(value, str) else "" if value is None else _dumped(value)


def _dumped(value: object) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError:
        raise InvalidBody("A message is nested too deeply; send a flatter one.", param="messages") from None


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _model(raw: bytes | None) -> str:
    if raw is None or raw == b"null":
        return ""
    if not raw.startswith(b'"'):
        raise InvalidBody("`model` is not a string; name the model.", param="model")
    return str(orjson.loads(raw)) if b"\\" in raw else raw[1:-1].decode()


def _choices(raw: bytes | None) -> int:
    if raw is None or raw == b"null":
        return 1
    if not (count := _count(raw)):
        raise InvalidBody("`n` is not a whole number from 1 on; leave it out for one reply.", param="n")
    return count


def _count(raw: bytes | None) -> int:
    """A positive whole number of sensible size; anything else is 0."""
    return int(raw) if raw is not None and raw.isdigit() and len(raw) < 16 else 0


def _refuse(at: int, member: str, what: str) -> NoReturn:
    where = f"messages[{at}]"
    raise InvalidBody(f"`{where}` {what}.", param=f"{where}.{member}" if member else where)
