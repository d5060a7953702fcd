"""What a stateless upstream takes as input: the public SDK's types, the Open Responses schema, and OpenAI's rules."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
from openai.types.responses import ResponseInputContentParam, ResponseInputItemParam, ResponseOutputRefusalParam
from pydantic import TypeAdapter

_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseInputItemParam)
_PART: TypeAdapter[Any] = TypeAdapter(ResponseInputContentParam)
_REFUSAL: TypeAdapter[Any] = TypeAdapter(ResponseOutputRefusalParam)

_SCHEMAS = json.loads((Path(__file__).parents[3] / "support" / "openresponses.json").read_text(encoding="utf-8"))
_OPEN = jsonschema.Draft202012Validator({**_SCHEMAS, "$ref": "#/components/schemas/ItemParam"})


def check_item(item: dict[str, Any]) -> None:
    """By the SDK's types, as a server that validates by them would, but for refusals: nobody but OpenAI makes them, and
    OpenAI demands no id."""
    assert None not in item.values()
    parts = item.get("content")
    if item["type"] == "reasoning" and item.get("encrypted_content"):
        # the SDK's type demands the id that neither OpenAI nor the specification does
        item = {**item, "id": "rs_1"}
    if "custom" not in item["type"] and not (item["type"] == "reasoning" and parts):
        _OPEN.validate(item)
    if item.get("role") and isinstance(parts, list):
        for part in parts:
            if part["type"] != "output_text":
                (_REFUSAL if part["type"] == "refusal" else _PART).validate_python(part)
        if any(part["type"] == "refusal" for part in parts):
            return
    _ITEM.validate_python(item)


def check_input(items: Sequence[dict[str, Any]]) -> None:
    """Each item is valid; each call is answered before anything else is said, by its own kind; no id that a stateless
    upstream would look up; reasoning is followed by what it led to."""
    open_calls: dict[str, str] = {}
    for at, item in enumerate(items):
        check_item(item)
        kind = item.get("type", "message")
        if kind.endswith("_output"):
            assert open_calls.pop(item["call_id"]) == kind.removesuffix("_output")
        elif kind.endswith("_call"):
            assert item["call_id"] not in open_calls
            open_calls[item["call_id"]] = kind
        elif kind == "message" and item["role"] != "assistant":
            assert not open_calls, "a call was walked past"
        elif kind == "reasoning":
            assert item.get("encrypted_content") or item.get("content")
            follower = items[at + 1]
            assert follower.get("role", "assistant") == "assistant"
            assert not follower["type"].endswith("_output")
        assert "id" not in item or (kind == "reasoning" and not item.get("encrypted_content"))
    assert not open_calls


def items_of(body: bytes) -> list[dict[str, Any]]:
    found = json.loads(body)["input"]
    assert isinstance(found, list)
    return found
