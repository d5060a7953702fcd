"""A chat reply -> the Response object."""

import json
from collections.abc import Mapping
from typing import Protocol

import msgspec
import orjson

from proxy.conversation.reply import Reply
from proxy.dialects.responses.logprobs import shaped
from proxy.dialects.responses.request import TIERS, Asked
from proxy.dialects.responses.sealed import OPAQUE, REASONING, seal

LENGTH = frozenset({"length", "model_length", "max_tokens"})
"""Finish reasons that tell of a cut at the limit of tokens, by the names that servers gave them."""
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Members of a chat message that hold reasoning as text."""
ERROR_CODES = frozenset({"server_error", "rate_limit_exceeded", "invalid_prompt"})
"""Codes that the error of a Response may have, of those that can happen here."""


NO_ID = ("", "id:")
"""The id of a recorded call to which the upstream gave none."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Echoing(Protocol):
    """A request whose own members its response repeats."""

    @property
    def model(self) -> str: ...

    @property
    def echo(self) -> Mapping[str, object]: ...


class Said(msgspec.Struct, frozen=True):
    """What a chat message, or a delta of one, says."""

    reasoning: str
    text: str
    refusal: str


def item_id(prefix: str, id: str, at: int) -> str:
    """The id of the output item at this place."""
    return f"{prefix}_{id}{at:02x}"


def call_id(id: str, at: int, call: dict[str, object]) -> str:
    """The call's own, or one made from its place among the reply's calls, where the upstream gave it none."""
    return held if isinstance(held := call.get("id"), str) and held else f"call_{id}{at:02x}"


def response(
    asked: Asked, id: str, created_at: int, reply: Reply, *, status: str | None = None, completed_at: int | None = None
) -> dict[str, object]:
    """The Response object for a chat reply. `id`: 48 hex digits; times are Unix seconds.

    Without `status` the reply says it: `completed`, `incomplete` after a cut or a filter, `failed` if it broke off or
    holds an error. Usage that the upstream did not report is null.
    """
    reason = "max_output_tokens" if reply.finish in LENGTH else ""
    reason = "content_filter" if reply.finish == "content_filter" else reason
    if status is None:
        status = "failed" if reply.error or not reply.whole else "incomplete" if reason else "completed"
    made = blank(asked, id, created_at, status, reply.model)
    made["output"] = output(asked, id, reply, status)
    made["output_text"] = output_text(made["output"])
    if status == "completed":
        made["completed_at"] = completed_at
    elif status == "incomplete" and reason:
        made["incomplete_details"] = {"reason": reason}
    elif status == "failed":
        made["error"] = error_of("server_error", "The upstream's reply broke off or told of an error.")
    if reply.prompt_tokens or reply.completion_tokens:
        made["usage"] = usage(reply)
    if reply.service_tier:
        # a tier that the API does not know is the upstream's ordinary one
        made["service_tier"] = reply.service_tier if reply.service_tier in TIERS else "default"
    return made


def usage(reply: Reply) -> dict[str, object]:
    details = {"cached_tokens": reply.cached_tokens, "cache_write_tokens": reply.cache_write_tokens}
    return {
        "input_tokens": reply.prompt_tokens,
        "input_tokens_details": details,
        "output_tokens": reply.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
    }


def failed(response: dict[str, object], code: str, message: str) -> dict[str, object]:
    """The response as one that failed; what it had said by then stays."""
    return {
        **response,
        "status": "failed",
        "error": error_of(code, message),
        "incomplete_details": None,
        "completed_at": None,
    }


def settled(reply: Reply, id: str) -> Reply:
    """See `Translation.settled`."""
    message = reply.message
    if message is None or not any(call.id in NO_ID for call in message.calls):
        return reply
    fields = _fields(message.wire)
    listed = _raws(fields["tool_calls"])
    calls = list(message.calls)
    for at, raw in enumerate(listed):
        call = _object(bytes(raw))
        if (mine := call_id(id, at, call)) != call.get("id"):
            held = _fields(bytes(raw)) | {"id": msgspec.Raw(orjson.dumps(mine))}
            listed[at] = msgspec.Raw(_encode(held))
            calls[at] = msgspec.structs.replace(calls[at], id=mine)
    fields["tool_calls"] = msgspec.Raw(_encode(listed))
    wire = _encode(fields)
    return msgspec.structs.replace(reply, message=msgspec.structs.replace(message, wire=wire, calls=tuple(calls)))


def blank(asked: Echoing, id: str, created_at: int, status: str, model: str = "") -> dict[str, object]:
    """A Response object without output."""
    return {
        "id": f"resp_{id}",
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": model or asked.model,
        "output": [],
        "output_text": "",
        "usage": None,
        **asked.echo,
    }


def error_of(code: str, message: str) -> dict[str, object]:
    return {"code": code if code in ERROR_CODES else "server_error", "message": message}


def output(asked: Asked, id: str, reply: Reply, status: str) -> list[dict[str, object]]:
    """The output items: reasoning, message, calls."""
    if reply.message is None:
        return []
    aside = _object(reply.message.aside)
    fields = {**aside, **_object(reply.message.wire)}
    words = said(fields)
    logprobs = shaped(reply.logprobs) if asked.logprobs else []
    content = text_parts(words.text, words.refusal, logprobs)
    calls = [*_calls(fields.get("tool_calls")), *_legacy(fields.get("function_call"))]
    lost = [*_calls(aside.get("tool_calls")), *_legacy(aside.get("function_call"))] if aside else []
    items: list[dict[str, object]] = []
    opaque = {name: held for name in OPAQUE if (held := fields.get(name)) and isinstance(held, list)}
    sealed = seal(REASONING, opaque) if opaque and asked.seals else ""
    if words.reasoning or sealed:
        items.append(reasoning_item(id, 0, words.reasoning, sealed))
    if content or (status == "completed" and not calls):
        items.append(message_item(id, len(items), content or text_parts("", "", logprobs, least=True), "completed"))
    first = len(items)
    every = [*((call, "completed") for call in calls), *((call, "incomplete") for call in lost if call not in calls)]
    items += [
        call_item(id, first + at, {**call, "id": call_id(id, at, call)}, how) for at, (call, how) in enumerate(every)
    ]
    if items and status != "completed" and "status" in items[-1]:
        items[-1]["status"] = "incomplete"
    return items


def text_parts(
    text: str, refusal: str, logprobs: list[dict[str, object]], *, least: bool = False
) -> list[dict[str, object]]:
    parts: list[dict[str, object]] = []
    if text or least:
        parts.append({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
    if refusal:
        parts.append({"type": "refusal", "refusal": refusal})
    return parts


def reasoning_item(id: str, at: int, text: str = "", sealed: str = "") -> dict[str, object]:
    """`sealed`: reasoning in the upstream's own form."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    made: dict[str, object] = {"id": item_id("rs", id, at), "type": "reasoning", "summary": [], "content": content}
    return {**made, "encrypted_content": sealed} if sealed else made


def message_item(id: str, at: int, content: list[dict[str, object]], status: str) -> dict[str, object]:
    return {
        "id": item_id("msg", id, at),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def call_item(id: str, at: int, call: dict[str, object], status: str) -> dict[str, object]:
    """`call` is a chat tool call with an id. Only a function call has a status: the SDK's custom call has none."""
    custom = "custom" in call
    body = call.get("custom" if custom else "function")
    body = body if isinstance(body, dict) else {}
    argument = body.get("input" if custom else "arguments")
    made: dict[str, object] = {
        "id": item_id("ctc" if custom else "fc", id, at),
        "type": "custom_tool_call" if custom else "function_call",
        "call_id": call["id"],
        "name": name if isinstance(name := body.get("name"), str) else "",
        "input" if custom else "arguments": argument_text(argument),
    }
    return made if custom else {**made, "status": status}


def argument_text(value: object) -> str:
    """Some servers send the object itself."""
    return value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()


def output_text(items: object) -> str:
    """The text of all messages, as the SDK joins it."""
    pieces: list[str] = []
    for item in items if isinstance(items, list) else ():
        if item["type"] == "message":
            pieces += [part["text"] for part in item["content"] if part["type"] == "output_text"]
    return "".join(pieces)


def said(fields: dict[str, object]) -> Said:
    """Content as a string or as parts, refusal, and reasoning under any of its names; under several names it is the
    same reasoning."""
    reasoning = next((held for name in THOUGHTS if isinstance(held := fields.get(name), str) and held), "")
    if not reasoning:
        reasoning = _texts(fields.get("reasoning_details"))
    content, text = fields.get("content"), ""
    refusal = held if isinstance(held := fields.get("refusal"), str) else ""
    if isinstance(content, str):
        text = content
    elif isinstance(content, list):
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                text += part["text"]
            elif kind == "refusal" and isinstance(part.get("refusal"), str):
                refusal += part["refusal"]
            elif kind in ("thinking", "reasoning"):
                reasoning += _texts([part]) or _texts(part.get("thinking"))
    return Said(reasoning, text, refusal)


def _texts(details: object) -> str:
    texts: list[str] = []
    for each in details if isinstance(details, list) else ():
        if isinstance(each, dict):
            for name in ("text", "thinking", "summary"):
                if isinstance(held := each.get(name), str):
                    texts.append(held)
                    break
    return "".join(texts)


def _calls(listed: object) -> list[dict[str, object]]:
    return [call for call in listed if isinstance(call, dict)] if isinstance(listed, list) else []


def _legacy(call: object) -> list[dict[str, object]]:
    """A legacy function call, with the id by which the conversation knows it."""
    if not isinstance(call, dict) or not isinstance(name := call.get("name"), str):
        return []
    return [{"id": f"function:{name}", "type": "function", "function": call}]


def _object(raw: bytes) -> dict[str, object]:
    if not raw:
        return {}
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        # a number that is too large for the quick parser; what is recorded is JSON
        value = json.loads(raw)
    return value if isinstance(value, dict) else {}
