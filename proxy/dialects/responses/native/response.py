"""The Response object that a client gets: the upstream's own, with what only the proxy knows."""

import orjson

from proxy.conversation.reply import Reply
from proxy.dialects.responses.native.rename import renamed
from proxy.dialects.responses.native.request import Asked, Object
from proxy.dialects.responses.reply import LENGTH, blank, error_of

_BROKEN = "The upstream's reply broke off or told of an error."


def response(
    asked: Asked, id: str, created_at: int, reply: Reply, *, status: str | None = None, completed_at: int
) -> Object:
    """See `Translation.answer`. What the upstream's object does not say is as in `blank`."""
    own: Object = orjson.loads(reply.original) if reply.original else {}
    made = blank(asked, id, created_at, "", reply.model)
    made |= {name: each for name, each in own.items() if each is not None or name not in made}
    if status is None:
        status = _status(own, reply)
    made["status"] = status
    if reply.message is None:
        made["output"] = []
    if status == "failed":
        held = own.get("error")
        told = isinstance(held, dict) and isinstance(held.get("message"), str)
        made["error"] = held if told else error_of("server_error", _BROKEN)
    else:
        made["error"] = None
    if status != "completed":
        made["completed_at"] = None
    elif not made["completed_at"]:
        made["completed_at"] = completed_at
    if status != "incomplete":
        made["incomplete_details"] = None
    elif not made["incomplete_details"]:
        reason = "max_output_tokens" if reply.finish in LENGTH else reply.finish
        made["incomplete_details"] = {"reason": reason}
    fixed = {**asked.fixed, "created_at": created_at} if asked.background else asked.fixed
    made = renamed(made, id, fixed)
    made["output_text"] = _output_text(made["output"])
    return made


def _status(own: Object, reply: Reply) -> str:
    if not reply.whole:
        return "failed"
    if own.get("status") in ("completed", "incomplete"):
        return str(own["status"])
    return "completed" if reply.finish in ("", "stop") else "incomplete"


def _output_text(items: object) -> str:
    """The text of all messages, as the SDK joins it."""
    pieces: list[str] = []
    for item in items if isinstance(items, list) else ():
        content = item.get("content") if isinstance(item, dict) and item.get("type") == "message" else None
        texts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
        pieces += [str(part.get("text") or "") for part in texts if part.get("type") == "output_text"]
    return "".join(pieces)
