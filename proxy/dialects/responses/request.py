"""A Responses request -> the chat request that it makes, and what the Response object repeats of it.

Every member of `ResponseCreateParams` of the public SDK stands in `HONOURED` or in `REFUSED`. What neither
specification knows travels upstream with its exact bytes, and so do the sampling members that only chat knows
(`stop`, `seed`, `logit_bias`). Members that are null count as left out.
"""

import re

import msgspec
import orjson

from proxy.dialects.responses.fields import (
    count,
    flag,
    number,
    object_,
    one_of,
    only,
    optional_text,
    parsed,
    present,
    refuse,
    some_text,
    text,
    written,
)
from proxy.dialects.responses.items import read_input
from proxy.dialects.responses.tools import read_tools
from proxy.framing.members import Members

HONOURED = frozenset({
    "include", "input", "instructions", "max_output_tokens", "metadata", "model", "parallel_tool_calls",
    "previous_response_id", "prompt_cache_key", "prompt_cache_retention", "reasoning", "safety_identifier",
    "service_tier", "store", "stream", "stream_options", "temperature", "text", "tool_choice", "tools", "top_p",
    "truncation", "user", "presence_penalty", "frequency_penalty",
})  # fmt: skip
"""Members that are done as they say; values of theirs that cannot be are refused."""

REFUSED = {
    "access_programs": "is a programme of OpenAI's own; leave it out",
    "background": "is not supported yet; leave it out, or send false",
    "context_management": "is not supported yet; leave it out",
    "conversation": "is not supported yet; use `previous_response_id`",
    "conversation_id": "is not supported yet; use `previous_response_id`",
    "image": "needs a service that the upstream lacks; leave it out",
    "max_tool_calls": "limits calls of hosted tools, which the upstream lacks; leave it out",
    "moderation": "needs a service that the upstream lacks; leave it out",
    "prompt": "needs stored prompt templates, which the upstream lacks; send `instructions` and `input`",
    "prompt_cache_options": "is not supported yet; leave it out",
    "top_logprobs": "is not supported yet; leave it out",
}
"""Members that are refused, and why. Values that ask for nothing (`HARMLESS`) are taken."""

HARMLESS: dict[str, tuple[bytes, ...]] = {
    "background": (b"false",), "context_management": (b"[]",), "top_logprobs": (b"0",)
}  # fmt: skip

_CHAT_NAMES = {
    "messages": "input", "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format", "verbosity": "text.verbosity", "reasoning_effort": "reasoning.effort",
    "functions": "tools", "function_call": "tool_choice", "n": "", "logprobs": "", "modalities": "", "audio": "",
    "web_search_options": "",
}  # fmt: skip
"""Members of chat that would stand beside the ones made here, or change the form of the reply; with what to send."""

_AS_THEY_ARE = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_TEXTS = ("user", "safety_identifier", "prompt_cache_key")
_INCLUDE = ("reasoning.encrypted_content", "message.input_image.image_url")
"""Of these, everything that there is stands in the reply and in the listed items anyhow."""
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_DEFAULTS: dict[str, object] = {
    "temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "max_output_tokens": None,
    "max_tool_calls": None, "metadata": {}, "parallel_tool_calls": True, "prompt_cache_key": None,
    "prompt_cache_retention": None, "safety_identifier": None, "service_tier": "auto", "top_logprobs": 0,
    "truncation": "disabled", "user": None, "background": False,
}  # fmt: skip
_counts_reasoning = re.compile(r"(?:.*/)?(?:gpt-5|o[134])", re.DOTALL).match
"""Models that refuse `max_tokens`."""


class Asked(msgspec.Struct, frozen=True):
    """What a Responses request asks for."""

    chat: bytes
    """The body of the Chat Completions request; its messages are those of `input`, without `instructions`. They may
    be none when `previous` is given."""
    instructions: bytes
    """One chat system message as JSON, b"" for none."""
    model: str
    stream: bool
    store: bool
    previous: str
    """`previous_response_id`, "" for none."""
    echo: dict[str, object]
    """The members of the Response object that repeat the request, with their defaults."""
    items: tuple[bytes, ...]
    """The input's items, each as JSON with an id."""
    prefill: str = ""
    """The text of the assistant message that `input` ends with: a chat reply is recorded as joined to it, a Response
    is not."""


def read(body: bytes, id: str) -> Asked:
    """`id`: 48 hex digits, from which ids are made for the items that have none. Raises InvalidBody that names the
    member. The body may be hostile."""
    members = Members(body)
    raw = {name: each for name in members.names() if (each := members.get(name)) is not None and each != b"null"}
    for name, each in raw.items():
        if name in REFUSED and each not in HARMLESS.get(name, ()):
            refuse(name, REFUSED[name])
        if name in _CHAT_NAMES:
            instead = _CHAT_NAMES[name]
            refuse(name, f"is no member of this API; {f'use `{instead}`' if instead else 'leave it out'}")
    said = {name: parsed(each, name) for name, each in raw.items() if name in HONOURED}
    echo = dict(_DEFAULTS)
    chat: dict[str, bytes] = {}

    model = some_text(said["model"], "model") if "model" in said else ""
    if model:
        chat["model"] = raw["model"]
    previous = some_text(said.get("previous_response_id", "-"), "previous_response_id")
    previous = previous if "previous_response_id" in said else ""
    if not previous and said.get("input") in (None, []):
        refuse("input", "is missing; send a string or a list of items")
    messages, items = read_input(said.get("input", []), id)
    chat["messages"] = written(messages, "input")
    instructions = optional_text(said.get("instructions"), "instructions")

    tools = read_tools(said.get("tools"), said.get("tool_choice"))
    parallel = flag(said.get("parallel_tool_calls", True), "parallel_tool_calls")
    if tools.chat_tools is not None:
        chat["tools"] = written(tools.chat_tools, "tools")
        if tools.chat_choice is not None:
            chat["tool_choice"] = written(tools.chat_choice, "tool_choice")
        if "parallel_tool_calls" in said:
            chat["parallel_tool_calls"] = raw["parallel_tool_calls"]

    for name in _AS_THEY_ARE:
        if name in said:
            echo[name] = number(said[name], name)
            chat[name] = raw[name]
    for name in _TEXTS:
        if name in said:
            echo[name] = text(said[name], name)
            chat[name] = raw[name]
    if "max_output_tokens" in said:
        echo["max_output_tokens"] = count(said["max_output_tokens"], "max_output_tokens", least=1)
        limit = "max_completion_tokens" if _counts_reasoning(model) else "max_tokens"
        chat[limit] = raw["max_output_tokens"]
    for name, known in (("service_tier", _TIERS), ("prompt_cache_retention", ("in_memory", "24h"))):
        if name in said:
            echo[name] = one_of(said[name], name, known)
            chat[name] = raw[name]
    form = _text(said.get("text", {}), chat)
    reasoning = _reasoning(said.get("reasoning", {}), chat)
    if "metadata" in said:
        echo["metadata"] = _metadata(said["metadata"])
    if "truncation" in said:
        echo["truncation"] = one_of(said["truncation"], "truncation", ("auto", "disabled"))
    _include(said.get("include", []))
    _stream_options(said.get("stream_options", {}))
    store = flag(said.get("store", True), "store")
    if stream := flag(said.get("stream", False), "stream"):
        chat |= {"stream": b"true", "stream_options": b'{"include_usage":true}'}
    chat |= {name: each for name, each in raw.items() if name not in HONOURED and name not in REFUSED}
    echo |= {
        "instructions": instructions,
        "tools": tools.tools,
        "tool_choice": tools.choice,
        "parallel_tool_calls": parallel,
        "text": form,
        "reasoning": reasoning,
        "store": store,
        "previous_response_id": previous or None,
    }
    # the Response object wraps it twice, in an event
    written([[echo]], "tools")
    return Asked(
        chat=b"{%b}" % b",".join([b"%b:%b" % (orjson.dumps(name), each) for name, each in chat.items()]),
        instructions=orjson.dumps({"role": "system", "content": instructions}) if instructions else b"",
        model=model,
        stream=stream,
        store=store,
        previous=previous,
        echo=echo,
        items=items,
        prefill=_prefill(messages[-1]) if messages else "",
    )


def _prefill(last: dict[str, object]) -> str:
    content = last.get("content")
    return content if last["role"] == "assistant" and "tool_calls" not in last and isinstance(content, str) else ""


def _text(value: object, chat: dict[str, bytes]) -> dict[str, object]:
    """As the Response object repeats it; puts into `chat` what it makes there."""
    said = present(object_(value, "text"))
    only(said, "text", frozenset({"format", "verbosity"}))
    form = present(object_(said.get("format", {"type": "text"}), "text.format"))
    member = "text.format"
    kind = one_of(form.get("type"), f"{member}.type", ("text", "json_object", "json_schema"))
    echo: dict[str, object] = {"type": kind}
    if kind == "json_schema":
        only(form, member, frozenset({"type", "name", "schema", "strict", "description"}))
        schema: dict[str, object] = {
            "name": some_text(form.get("name"), f"{member}.name"),
            "schema": object_(form.get("schema"), f"{member}.schema"),
        }
        if "description" in form:
            schema["description"] = text(form["description"], f"{member}.description")
        if "strict" in form:
            schema["strict"] = flag(form["strict"], f"{member}.strict")
        chat["response_format"] = written({"type": kind, kind: schema}, member)
        echo |= {"description": None, "strict": False, **schema}
    else:
        only(form, member, frozenset({"type"}))
        if kind == "json_object":
            chat["response_format"] = b'{"type":"json_object"}'
    whole: dict[str, object] = {"format": echo}
    if "verbosity" in said:
        whole["verbosity"] = one_of(said["verbosity"], "text.verbosity", ("low", "medium", "high"))
        chat["verbosity"] = orjson.dumps(whole["verbosity"])
    return whole


def _reasoning(value: object, chat: dict[str, bytes]) -> dict[str, object]:
    said = present(object_(value, "reasoning"))
    effort = None
    if "effort" in said:
        effort = one_of(said["effort"], "reasoning.effort", _EFFORTS)
        chat["reasoning_effort"] = orjson.dumps(effort)
    for name in ("summary", "generate_summary"):
        if name in said:
            refuse(f"reasoning.{name}", "asks for a summary, which the upstream does not make; leave it out")
    if said.get("mode", "standard") != "standard":
        refuse("reasoning.mode", 'cannot be served by this upstream; leave it out, or send "standard"')
    only(said, "reasoning", frozenset({"effort", "mode"}))
    return {"effort": effort, "summary": None}


def _metadata(value: object) -> dict[str, object]:
    said = object_(value, "metadata")
    if len(said) > 16:
        refuse("metadata", "has more than 16 members; send fewer")
    for name, each in said.items():
        if len(name) > 64:
            refuse("metadata", "has a name of more than 64 characters; shorten it")
        if len(text(each, f"metadata.{name}")) > 512:
            refuse(f"metadata.{name}", "has more than 512 characters; shorten it")
    return said


def _include(value: object) -> None:
    if not isinstance(value, list):
        refuse("include", "is not a list; send a list of strings")
    for at, each in enumerate(value):
        if each not in _INCLUDE:
            refuse(f"include[{at}]", f"names what cannot be given here; of use are {' and '.join(_INCLUDE)}")


def _stream_options(value: object) -> None:
    said = present(object_(value, "stream_options"))
    only(said, "stream_options", frozenset({"include_obfuscation"}))
    if flag(said.get("include_obfuscation", False), "stream_options.include_obfuscation"):
        refuse("stream_options.include_obfuscation", "is not supported; leave it out, or send false")
