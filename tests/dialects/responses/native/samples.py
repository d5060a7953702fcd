"""Responses as upstreams give them, plain and streamed, and random histories of items."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Call
from proxy.dialects.responses.native import NATIVE

Item = dict[str, Any]
USER: Item = {"role": "user", "content": "?"}


def asked(**members: object) -> Call:
    """A call that asks "?"."""
    return NATIVE.read(json.dumps({"model": "m", "input": "?", **members}).encode())


def message(text: str, at: int = 0, **more: object) -> Item:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    made = {"type": "message", "id": f"msg_{at:04x}", "role": "assistant", "status": "completed", "content": [part]}
    return {**made, **more}


def reasoning(at: int = 0, **more: object) -> Item:
    return {"type": "reasoning", "id": f"rs_{at:04x}", "summary": [], "encrypted_content": f"gAAA{at}", **more}


def call(id: str = "call_1", name: str = "f", arguments: str = "{}", **more: object) -> Item:
    made = {"type": "function_call", "id": f"fc_{id}", "call_id": id, "name": name, "arguments": arguments}
    return {**made, "status": "completed", **more}


def custom(id: str = "call_c", **more: object) -> Item:
    return {"type": "custom_tool_call", "id": f"ctc_{id}", "call_id": id, "name": "g", "input": "raw", **more}


def output(id: str = "call_1", text: object = "done", kind: str = "function_call") -> Item:
    return {"type": f"{kind}_output", "call_id": id, "output": text}


def response(items: Sequence[object], status: str = "completed", **more: object) -> dict[str, Any]:
    usage = {
        "input_tokens": 20, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2}, "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 27,
    }  # fmt: skip
    made: dict[str, Any] = {
        "id": "resp_up", "object": "response", "created_at": 1, "status": status, "error": None,
        "incomplete_details": None, "model": "m-1", "output": list(items), "usage": usage, "store": False,
    }  # fmt: skip
    return {**made, **more}


def event(kind: str, **members: object) -> bytes:
    data = json.dumps({"type": kind, **members}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


DELTA = {
    "output_text": ("response.output_text.delta", "text"),
    "refusal": ("response.refusal.delta", "refusal"),
    "reasoning_text": ("response.reasoning_text.delta", "text"),
}


def grown(at: int, item: Item) -> list[bytes]:
    """The events of one item, the text in two pieces."""
    started = {name: each for name, each in item.items() if name not in ("content", "arguments", "input")}
    started |= {"status": "in_progress", "content": [], "arguments": "", "input": ""}
    events = [event("response.output_item.added", output_index=at, item=started)]
    where = {"item_id": item["id"], "output_index": at}
    for n, part in enumerate(item.get("content") or ()):
        kind, member = DELTA[part["type"]]
        text = part[member]
        pieces = text[: len(text) // 2], text[len(text) // 2 :]
        events += [event(kind, **where, content_index=n, delta=piece) for piece in pieces]
    for member, kind in (("arguments", "function_call_arguments"), ("input", "custom_tool_call_input")):
        if member in item:
            events.append(event(f"response.{kind}.delta", **where, delta=item[member][:2]))
            events.append(event(f"response.{kind}.delta", **where, delta=item[member][2:]))
    return [*events, event("response.output_item.done", output_index=at, item=item)]


def streamed(made: dict[str, Any], *, bare: bool = False) -> list[bytes]:
    """The events of a whole stream. `bare`: the last event does not repeat the output."""
    begun = {**made, "status": "in_progress", "output": [], "usage": None}
    events = [event("response.created", response=begun), event("response.in_progress", response=begun)]
    for at, item in enumerate(made["output"]):
        events += grown(at, item)
    last = {**made, "output": []} if bare else made
    return [*events, event(f"response.{made['status']}", response=last)]


def read(body: bytes, *, stream: bool, end: bool = True, **members: object) -> Reply:
    reader = NATIVE.reader(asked(**members), stream=stream)
    reader.feed(body)
    if end:
        reader.end()
    return reader.reply()


def plain(items: Sequence[object], status: str = "completed", **more: object) -> Reply:
    return read(json.dumps(response(items, status, **more)).encode(), stream=False)


_text = st.text(max_size=8)


@st.composite
def runs(draw: st.DrawFn, *, calls: bool) -> list[Item]:
    """A whole reply's output: reasoning and texts in any order, then calls."""
    items: list[Item] = []
    for at in range(draw(st.integers(0, 2))):
        thought: Item = {"encrypted_content": draw(st.sampled_from(["gAAA", None]))}
        if draw(st.booleans()):
            thought["content"] = [{"type": "reasoning_text", "text": draw(_text)}]
        if draw(st.booleans()):
            items.append(reasoning(at, **thought))
        if draw(st.booleans()):
            items.append(message(draw(_text), at))
        if draw(st.booleans()):
            items.append(message("", at, content=[{"type": "refusal", "refusal": draw(_text)}]))
    if calls:
        for _ in range(draw(st.integers(1, 3))):
            id = f"call_{draw(st.integers(0, 10**9))}"
            one = call(id, arguments=json.dumps(draw(st.dictionaries(_text, st.integers() | _text, max_size=2))))
            items.append(draw(st.sampled_from([one, custom(id)])))
        ids = [item["call_id"] for item in items if "call_id" in item]
        items = items if len(set(ids)) == len(ids) else [*items[: -len(ids)], call("call_x")]
    elif not any(item["type"] == "message" for item in items):
        items.append(message("ok"))
    return items


@st.composite
def turns(draw: st.DrawFn) -> list[list[Item]]:
    """One turn as [the user's items, a reply's, results, a reply's, …]; ends with a reply that makes no calls."""
    said = draw(_text)
    image = {"type": "input_image", "image_url": "data:,", "detail": "auto"}
    content: Any = draw(st.sampled_from([said, [{"type": "input_text", "text": said}, image]]))
    parts = [[{"type": "message", "role": "user", "content": content}]]
    for _ in range(draw(st.integers(0, 2))):
        made = draw(runs(calls=True))
        parts.append(made)
        parts.append([output(each["call_id"], draw(_text), each["type"]) for each in made if "call_id" in each])
    return [*parts, draw(runs(calls=False))]


histories = st.lists(turns(), min_size=1, max_size=3).map(lambda made: [part for turn in made for part in turn])
