"""Checks replies and stream events against the OpenAPI document of Open Responses and the SDK's types, both at once.

Where the two contradict each other the SDK's shape is sent, and mended here before the document is asked:
the document names reasoning deltas `response.reasoning.*` and puts an error event's members into `error`.
What only the SDK knows (custom tools and their calls) is taken out.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from openai.types.shared import ErrorObject
from pydantic import BaseModel, TypeAdapter

from tests.dialects.responses import grammar

Json = dict[str, Any]
_FILE = Path(__file__).with_suffix(".json")
_RENAMED = {
    "response.reasoning_text.delta": "response.reasoning.delta",
    "response.reasoning_text.done": "response.reasoning.done",
}
_ONLY_THE_SDK = {"custom_tool_call", "custom_tool_call_output", "custom"}
"""Types of items, tools and tool choices."""
ERROR = {"type", "code", "message", "param"}


@cache
def document() -> Json:
    made: Json = json.loads(_FILE.read_bytes())
    # a JSON schema is an object, there as in `JsonSchemaResponseFormatParam`; the document allows nothing but null
    made["components"]["schemas"]["JsonSchemaResponseFormat"]["properties"]["schema"] = {"type": ["object", "null"]}
    return made


@cache
def _named(name: str) -> Validator:
    Draft202012Validator.check_schema(document()["components"]["schemas"][name])
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document()["components"]})


@cache
def _events() -> dict[str, str]:
    """The schema of each type of event."""
    stream = document()["paths"]["/responses"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    found = {}
    for one in stream["schema"]["oneOf"]:
        name = one["$ref"].rpartition("/")[2]
        [kind] = document()["components"]["schemas"][name]["properties"]["type"]["enum"]
        found[kind] = name
    return found


def valid(name: str, value: Json) -> None:
    """Fails with every place where the value breaks the named schema."""
    broken = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in _named(name).iter_errors(value)
    ]
    assert not broken, (name, broken, value)


def check_reply(body: bytes) -> Json:
    """A response object."""
    made = grammar.check_response(json.loads(body))
    valid("ResponseResource", _known(made))
    return made


def check_stream(body: bytes) -> Json:
    """A whole stream, with its grammar; gives its last response."""
    for event in grammar.events(body):
        check_event(event)
    return grammar.check(body)


def check_event(event: Json) -> None:
    kind = event["type"]
    if kind.startswith("response.custom_tool_call") or (event.get("item") or {}).get("type") in _ONLY_THE_SDK:
        return
    mended = dict(event)
    if kind in _RENAMED:
        mended["type"] = _RENAMED[kind]
    if kind == "error":
        # the SDK's event has no `type` of its own for the kind of error
        mended = {"type": kind, "sequence_number": event["sequence_number"]}
        mended["error"] = {"type": "", **{name: event[name] for name in ("code", "message", "param")}}
    if "response" in event:
        mended["response"] = _known(event["response"])
    valid(_events()[mended["type"]], mended)


def check_error(body: bytes) -> Json:
    """The body of a refusal."""
    said = json.loads(body)
    assert set(said) == {"error"}, said
    ErrorObject.model_validate(said["error"], strict=True)
    assert set(said["error"]) == ERROR, said
    assert said["error"]["message"]
    valid("ErrorPayload", said["error"])
    return dict(said["error"])


def check_type(kind: Any, value: object) -> None:
    """Fails unless the value is strictly of a type of the SDK, and holds nothing that the type does not know."""
    read = TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    _nothing_more(read)


def _nothing_more(read: object) -> None:
    if isinstance(read, BaseModel):
        assert not read.model_extra, (type(read).__name__, read.model_extra)
        for each in read.__dict__.values():
            _nothing_more(each)
    elif isinstance(read, list):
        for each in read:
            _nothing_more(each)


def _known(response: Json) -> Json:
    """Without what only the SDK knows."""
    made = dict(response)
    for member in ("output", "tools"):
        made[member] = [each for each in response[member] if each["type"] not in _ONLY_THE_SDK]
    choice = response["tool_choice"]
    if isinstance(choice, dict) and choice["type"] in _ONLY_THE_SDK:
        made["tool_choice"] = "auto"
    return made
