"""A chat reply -> the Response object."""

import json

import msgspec
import orjson

from proxy.conversation.reply import Reply
from proxy.dialects.responses.request import Asked

LENGTH = frozenset({"length", "model_length", "max_tokens"})
"""Finish reasons that tell of a cut at the limit of tokens, by the names that servers gave them."""
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Members of a chat message that hold reasoning as text."""
ERROR_CODES = frozenset({"server_error", "rate_limit_exceeded", "invalid_prompt"})
"""Codes that the error of a Response may have, of those that can happen here."""


class Said(msgspec.Struct, frozen=True):
    """What a chat message, or a delta of one, says."""

    reasoning: str
    text: str
    refusal: str


def item_id(prefix: str, id: str, at: int) -> str:
    """The id of the output item at this place."""
    return f"{prefix}_{id}{at:02x}"


def call_id(id: str, at: int) -> str:
    """For a call to which the upstream gave none."""
    return f"call_{id}{at:02x}"


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
        made["usage"] = {
            "input_tokens": reply.prompt_tokens,
            "input_tokens_details": {"cached_tokens": reply.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": reply.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        }
    return made


def blank(asked: Asked, id: str, created_at: int, status: str, model: str = "") -> dict[str, object]:
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
    content = text_parts(words.text.removeprefix(asked.prefill), words.refusal)
    calls = [*_calls(fields.get("tool_calls")), *_legacy(fields.get("function_call"))]
    lost = [*_calls(aside.get("tool_calls")), *_legacy(aside.get("function_call"))] if aside else []
    items: list[dict[str, object]] = []
    if words.reasoning:
        items.append(reasoning_item(id, 0, words.reasoning))
    if content or (status == "completed" and not calls):
        items.append(message_item(id, len(items), content or text_parts("", "", least=True), "completed"))
    first = len(items)
    items += [call_item(id, first + at, call, "completed") for at, call in enumerate(calls)]
    lost = [call for call in lost if call not in calls]
    items += [call_item(id, first + len(calls) + at, call, "incomplete") for at, call in enumerate(lost)]
    if items and status != "completed" and "status" in items[-1]:
        items[-1]["status"] = "incomplete"
    return items


def text_parts(text: str, refusal: str, *, least: bool = False) -> list[dict[str, object]]:
    parts: list[dict[str, object]] = []
    if text or least:
        parts.append({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    if refusal:
        parts.append({"type": "refusal", "refusal": refusal})
    return parts


def reasoning_item(id: str, at: int, text: str) -> dict[str, object]:
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": item_id("rs", id, at), "type": "reasoning", "summary": [], "content": content}


def message_item(id: str, at: int, content: list[dict[str, object]], status: str) -> dict[str, object]:
    return {
        "id": item_id("msg", id, at),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def call_item(id: str, at: int, call: dict[str, object], status: str) -> dict[str, object]:
    """`call` is a chat tool call. Only a function call has a status: the SDK's custom call has none."""
    custom = "custom" in call
    body = call.get("custom" if custom else "function")
    body = body if isinstance(body, dict) else {}
    argument = body.get("input" if custom else "arguments")
    made: dict[str, object] = {
        "id": item_id("ctc" if custom else "fc", id, at),
        "type": "custom_tool_call" if custom else "function_call",
        "call_id": held if isinstance(held := call.get("id"), str) and held else call_id(id, at),
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
    reasoning = next((held for name in REASONING if isinstance(held := fields.get(name), str) and held), "")
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
