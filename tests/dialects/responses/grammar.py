"""Checks a Responses stream: strict types, pairing, order, indexes, sequence; and gives its last response."""

from typing import Any

import orjson
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
BESIDE = {"output_text", "store", "presence_penalty", "frequency_penalty", "conversation_id"}
"""What replies hold beyond the SDK's types."""
DONE = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}
CALLS = {"function_call_arguments": "arguments", "custom_tool_call_input": "input"}
REQUIRED = frozenset(
    """
    id object created_at completed_at status incomplete_details model previous_response_id instructions output error
    tools tool_choice truncation parallel_tool_calls text top_p presence_penalty frequency_penalty top_logprobs
    temperature reasoning usage max_output_tokens max_tool_calls store background service_tier metadata
    safety_identifier prompt_cache_key
    """.split()  # noqa: SIM905 - names are read more easily in lines
)
"""Of the ResponseResource of Open Responses."""


def check_response(made: object) -> dict[str, Any]:
    response = orjson.loads(orjson.dumps(made))
    read = Response.model_validate(response, strict=True)
    assert set(read.model_extra or ()) <= BESIDE, read.model_extra
    assert not REQUIRED - set(response)
    for item in read.output:
        assert not item.model_extra, item.model_extra
    assert response["output_text"] == read.output_text
    return dict(response)


def events(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each of which is valid by itself."""
    found = []
    assert stream == b"" or stream.endswith(b"\n\n")
    for block in stream.split(b"\n\n")[:-1]:
        name, data = block.split(b"\n")
        event = orjson.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        read = _EVENT.validate_python(event, strict=True)
        assert type(read).__name__ != "dict"
        assert read.type == event["type"]
        beside = {"obfuscation"} if event["type"].endswith(".delta") else set()
        assert set(read.model_extra or ()) <= beside, (event["type"], read.model_extra)
        if "response" in event:
            check_response(event["response"])
        found.append(event)
    return found


def check(stream: bytes) -> dict[str, Any]:
    found = events(stream)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    names, first = ["response.created", "response.in_progress"], "in_progress"
    if found[0]["response"]["background"] and found[1]["type"] == "response.queued":
        names, first = ["response.created", "response.queued", "response.in_progress"], "queued"
    lead = found[: len(names)]
    assert [event["type"] for event in lead] == names
    assert [event["response"]["status"] for event in lead] == [first] * (len(names) - 1) + ["in_progress"]
    last = found[-1]
    assert last["type"].startswith("response."), last["type"]
    body = found[len(names) : -1]
    if body and body[-1]["type"] == "error":
        assert last["type"] == "response.failed"
        body.pop()
    items: list[dict[str, Any]] = []
    at = 0
    while at < len(body):
        at = _item(body, at, len(items), items)
    response = last["response"]
    expected = {"cancelled": "incomplete"}.get(response["status"], response["status"])
    assert last["type"] == f"response.{expected}"
    assert items == response["output"]
    assert len({item["id"] for item in items}) == len(items)
    return dict(response)


def _item(body: list[dict[str, Any]], at: int, index: int, items: list[dict[str, Any]]) -> int:
    added = body[at]
    assert added["type"] == "response.output_item.added"
    assert added["output_index"] == index
    item = added["item"]
    parts: list[dict[str, Any]] = []
    at += 1
    while body[at]["type"] == "response.content_part.added":
        part = body[at]
        kind = part["part"]["type"]
        assert part["part"][DONE[kind]] == ""
        first = at + 1
        at, text = _grown(body, first, item["id"], index, f"response.{kind}", DONE[kind], len(parts))
        done = body[at]
        assert done["type"] == "response.content_part.done"
        known = {}
        if kind == "output_text":
            known = {"logprobs": body[at - 1]["logprobs"]}
            told = [each for event in body[first : at - 1] for each in event["logprobs"]]
            assert told == known["logprobs"][: len(told)]
        assert done["part"] == {**part["part"], DONE[kind]: text, **known}
        for each in (part, done):
            assert (each["item_id"], each["output_index"], each["content_index"]) == (item["id"], index, len(parts))
        parts.append(done["part"])
        at += 1
    expected = {**item}
    for kind, member in CALLS.items():
        if body[at]["type"].startswith(f"response.{kind}"):
            assert item[member] == ""
            at, expected[member] = _grown(body, at, item["id"], index, f"response.{kind}", member, None)
    if item["type"] in ("message", "reasoning"):
        assert item["content"] == []
        expected["content"] = parts
    if "encrypted_content" in body[at]["item"]:
        assert item["type"] == "reasoning"
        expected["encrypted_content"] = body[at]["item"]["encrypted_content"]
    end = body[at]
    assert end["type"] == "response.output_item.done"
    assert end["output_index"] == index
    if "status" in item:
        assert item["status"] == "in_progress"
        expected["status"] = end["item"]["status"]
        assert expected["status"] in ("completed", "incomplete")
    assert end["item"] == expected
    items.append(end["item"])
    return at + 1


def _grown(
    body: list[dict[str, Any]], at: int, id: str, index: int, name: str, member: str, part: int | None
) -> tuple[int, str]:
    pieces: list[str] = []
    while True:
        event = body[at]
        assert (event["item_id"], event["output_index"], event.get("content_index")) == (id, index, part)
        at += 1
        if event["type"] == f"{name}.done":
            assert event[member] == "".join(pieces)
            return at, "".join(pieces)
        assert event["type"] == f"{name}.delta"
        assert event["delta"]
        pieces.append(event["delta"])
