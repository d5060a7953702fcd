"""A scripted model that speaks the Responses API and keeps nothing: it refuses what such an upstream refuses."""

import json
from collections.abc import Iterable
from typing import Any

from tests.support.upstream import Received, Script, plain, sse

Json = dict[str, Any]
LOOKED_UP = {"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
"""Types of items whose id it would look up."""
USAGE = {
    "input_tokens_details": {"cached_tokens": 32, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
}


class Stateless:
    """Says "reply N", where N is the number of the user's messages that it was shown, unless `queue` holds items to
    say instead. With `thinks`, each reply begins with sealed reasoning, if it was asked for.

    It remembers nothing: what it says shows what it was sent, but for the seals that it knows again."""

    def __init__(self, *, thinks: bool = False) -> None:
        self.thinks = thinks
        self.queue: list[list[Json]] = []
        self.sealed: dict[str, int] = {}
        """What it sealed."""
        self.told = 0

    def __call__(self, request: Received) -> Script:
        asked = request.json()
        if refusal := self.refused(request, asked):
            return plain(400, {"error": {"message": refusal, "type": "invalid_request_error", "param": None,
                                         "code": None}})  # fmt: skip
        made = self.made(asked, self.queue.pop(0) if self.queue else self.answer(asked))
        return sse(events(made), done=False) if asked.get("stream") else plain(200, made)

    def refused(self, request: Received, asked: Json) -> str:
        """Why, "" for nothing."""
        if request.target != "/v1/responses":
            return f"unknown path {request.target}"
        for name in ("previous_response_id", "conversation", "conversation_id", "background"):
            if name in asked:
                return f"{name} needs a store"
        if asked.get("store") is not False:
            return "store must be false"
        given = asked["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        if not items:
            return "no input"
        waiting: list[str] = []
        for item in items:
            kind = item.get("type", "message")
            if kind == "reasoning" and "encrypted_content" in item:
                if "id" in item or item["encrypted_content"] not in self.sealed:
                    return f"reasoning could not be verified: {item}"
            elif kind in LOOKED_UP and "id" in item:
                return f"Item with id '{item['id']}' not found"
            if kind.endswith("call_output"):
                if item["call_id"] not in waiting:
                    return f"No tool call found for {item['call_id']}"
                waiting.remove(item["call_id"])
            elif kind in ("function_call", "custom_tool_call"):
                waiting.append(item["call_id"])
            elif waiting and kind == "message" and item["role"] == "user":
                return f"No tool output found for {waiting}"
        return f"No tool output found for {waiting}" if waiting else ""

    def answer(self, asked: Json) -> list[Json]:
        given = asked["input"]
        turn = 1 if isinstance(given, str) else sum(item.get("role") == "user" for item in given)
        items = [message(f"reply {turn}")]
        if self.thinks and "reasoning.encrypted_content" in (asked.get("include") or ()):
            items.insert(0, self.thought())
        return items

    def thought(self) -> Json:
        seal = f"gAAAA/{len(self.sealed)}+\u00e9=="
        self.sealed[seal] = len(self.sealed)
        return {"id": f"rs_up{len(self.sealed)}", "type": "reasoning", "summary": [], "encrypted_content": seal}

    def made(self, asked: Json, items: list[Json]) -> Json:
        self.told += 1
        return response(asked, items, id=f"resp_up{self.told}")


def message(text: str, **more: object) -> Json:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_up", "type": "message", "status": "completed", "role": "assistant", "content": [part], **more}


def call(id: str, name: str = "look", arguments: str = '{"at":1}') -> Json:
    made = {"id": f"fc_{id}", "type": "function_call", "status": "completed", "call_id": id, "name": name}
    return {**made, "arguments": arguments}


def response(asked: Json, items: list[Json], **more: object) -> Json:
    """As such an upstream tells of itself: it stores nothing, and knows nothing of what came before."""
    made: Json = {
        "id": "resp_up", "object": "response", "created_at": 1_700_000_000, "completed_at": 1_700_000_001,
        "status": "completed", "background": False, "error": None, "incomplete_details": None,
        "instructions": asked.get("instructions"), "max_output_tokens": None, "max_tool_calls": None,
        "model": asked.get("model", "m"), "output": items, "parallel_tool_calls": True, "previous_response_id": None,
        "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None}, "safety_identifier": None,
        "service_tier": "default", "store": False, "temperature": asked.get("temperature", 1.0),
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": asked.get("tools", []),
        "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": None,
        "metadata": asked.get("metadata") or {}, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    }  # fmt: skip
    given = asked.get("input", "")
    tokens = 13 * (1 if isinstance(given, str) else len(given))
    usage = {**USAGE, "input_tokens": tokens, "total_tokens": tokens + 7}
    return {**made, "usage": usage, **more}


def events(made: Json) -> Iterable[bytes]:
    """The whole stream of a response, texts in pieces."""
    number = -1

    def one(kind: str, **members: object) -> bytes:
        nonlocal number
        number += 1
        said = json.dumps({"type": kind, "sequence_number": number, **members})
        return f"event: {kind}\ndata: {said}\n\n".encode()

    begun = {**made, "status": "in_progress", "output": [], "usage": None, "completed_at": None, "error": None}
    yield one("response.created", response=begun)
    yield one("response.in_progress", response=begun)
    for at, item in enumerate(made["output"]):
        started = {**item, "status": "in_progress"} if "status" in item else item
        place = {"item_id": item["id"], "output_index": at}
        if item["type"] == "message":
            started = {**started, "content": []}
        if "arguments" in item:
            started = {**started, "arguments": ""}
        yield one("response.output_item.added", output_index=at, item=started)
        for n, part in enumerate(item.get("content") or ()):
            where = {**place, "content_index": n}
            yield one("response.content_part.added", **where, part={**part, "text": ""})
            for piece in pieces(part["text"]):
                yield one("response.output_text.delta", **where, delta=piece, logprobs=[])
            yield one("response.output_text.done", **where, text=part["text"], logprobs=[])
            yield one("response.content_part.done", **where, part=part)
        if "arguments" in item:
            for piece in pieces(item["arguments"]):
                yield one("response.function_call_arguments.delta", **place, delta=piece)
            yield one("response.function_call_arguments.done", **place, arguments=item["arguments"])
        yield one("response.output_item.done", output_index=at, item=item)
    yield one(f"response.{made['status']}", response=made)


def pieces(text: str, size: int = 4) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def shown(request: Received) -> list[str]:
    """The input that the upstream was sent, a word or two an item."""
    given = request.json()["input"]
    if isinstance(given, str):
        return [given]
    return [_shown(item) for item in given]


def _shown(item: Json) -> str:
    kind = item.get("type", "message")
    if kind == "message":
        content = item["content"]
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        return text if item["role"] in ("user", "assistant") else f"{item['role']}:{text}"
    if kind == "reasoning":
        return f"thought:{item.get('encrypted_content')}"
    if kind == "function_call_output":
        return f"{item['call_id']}={item['output']}"
    return f"{kind}:{item.get('call_id', item.get('id'))}"
