"""A Responses request -> the chat request that it makes, and what the Response object repeats of it.

Every member of `ResponseCreateParams` of the public SDK stands in `HONOURED` or in `REFUSED`. What neither
specification knows travels upstream with its exact bytes, and so do the sampling members that only chat knows
(`stop`, `seed`, `logit_bias`). Members that are null count as left out.
"""

import re
from collections.abc import Mapping

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
from proxy.dialects.responses.items import NOTHING, read_input
from proxy.dialects.responses.state import MEMBERS, echo_of, read_state
from proxy.dialects.responses.tools import read_tools
from proxy.framing.members import Members

HONOURED = frozenset({
    *MEMBERS, "include", "input", "instructions", "max_output_tokens", "metadata", "model", "parallel_tool_calls",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning", "safety_identifier",
    "service_tier", "stream", "stream_options", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p",
    "user", "presence_penalty", "frequency_penalty",
})  # fmt: skip
"""Members that are done as they say; values of theirs that cannot be are refused."""

REFUSED = {
    "access_programs": "is a programme of OpenAI's own; leave it out",
    "image": "needs a service that the upstream lacks; leave it out",
    "max_tool_calls": "limits calls of hosted tools, which the upstream lacks; leave it out",
    "moderation": "needs a service that the upstream lacks; leave it out",
    "prompt": "needs stored prompt templates, which the upstream lacks; send `instructions` and `input`",
}
"""Members that are refused, and why."""

_CHAT_NAMES = {
    "messages": "input", "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format", "verbosity": "text.verbosity", "reasoning_effort": "reasoning.effort",
    "functions": "tools", "function_call": "tool_choice", "n": "", "logprobs": "", "modalities": "", "audio": "",
    "web_search_options": "",
}  # fmt: skip
"""Members of chat that would stand beside the ones made here, or change the form of the reply; with what to send."""

_AS_THEY_ARE = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_TEXTS = ("user", "safety_identifier", "prompt_cache_key")
_SEALED, _LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"
_INCLUDE = (_SEALED, _LOGPROBS, "message.input_image.image_url")
"""The last stands in the listed items anyhow."""
TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_DEFAULTS: dict[str, object] = {
    "temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "max_output_tokens": None,
    "max_tool_calls": None, "metadata": {}, "parallel_tool_calls": True, "prompt_cache_key": None,
    "prompt_cache_retention": None, "safety_identifier": None, "service_tier": "auto", "top_logprobs": 0,
    "user": None,
}  # fmt: skip
_counts_reasoning = re.compile(r"(?:.*/)?(?:gpt-5|o[134])", re.DOTALL).match
"""Models that refuse `max_tokens`."""


class Asked(msgspec.Struct, frozen=True):
    """What a Responses request asks for."""

    chat: bytes
    """The body of the Chat Completions request; its messages are those of `input`, without `instructions`. They may
    be none when `previous` or `conversation` is given."""
    instructions: bytes
    """One chat system message as JSON, b"" for none."""
    model: str
    stream: bool
    store: bool
    background: bool
    previous: str
    """`previous_response_id`, "" for none."""
    conversation: str
    """The id of the conversation that it is part of, "" for none."""
    truncates: bool | None
    """`truncation` is auto (True) or disabled (False); None: it was left out."""
    echo: dict[str, object]
    """The members of the Response object that repeat the request, with their defaults."""
    items: tuple[bytes, ...]
    """The input's items, each as JSON with an id."""
    seals: bool = False
    """`reasoning.encrypted_content` is wanted."""
    logprobs: bool = False
    """Of the text's tokens."""
    obfuscates: bool = False
    """Deltas of a stream are padded, so that their sizes do not tell what they say."""


def read(body: bytes, id: str, known: Mapping[str, bytes] = NOTHING) -> Asked:
    """`id`: 48 hex digits, from which ids are made for the items that have none; `known`: the stored items that are
    referred to. Raises InvalidBody that names the member, NotFound for a reference. The body may be hostile."""
    members = Members(body)
    raw = {name: each for name in members.names() if (each := members.get(name)) is not None and each != b"null"}
    for name in raw:
        if name in REFUSED:
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
    state = read_state(said)
    if not (state.previous or state.conversation) and said.get("input") in (None, []):
        refuse("input", "is missing; send a string or a list of items")
    messages, items = read_input(said.get("input", []), id, known, ours=bool(state.conversation))
    if not (messages or state.previous or state.conversation):
        refuse("input", "holds nothing that can be sent; send a message as well")
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
    for name, values in (("service_tier", TIERS), ("prompt_cache_retention", ("in_memory", "24h"))):
        if name in said:
            echo[name] = one_of(said[name], name, values)
            chat[name] = raw[name]
    form = _text(said.get("text", {}), chat)
    reasoning = _reasoning(said.get("reasoning", {}), chat)
    if "metadata" in said:
        echo["metadata"] = _metadata(said["metadata"])
    wanted = _include(said.get("include", []))
    if "top_logprobs" in said:
        echo["top_logprobs"] = count(said["top_logprobs"], "top_logprobs", most=20)
    if logprobs := _LOGPROBS in wanted or bool(echo["top_logprobs"]):
        chat["logprobs"] = b"true"
        if echo["top_logprobs"]:
            chat["top_logprobs"] = raw["top_logprobs"]
    if "prompt_cache_options" in said:
        echo["prompt_cache_options"] = _cache_options(said["prompt_cache_options"])
        chat["prompt_cache_options"] = raw["prompt_cache_options"]
    obfuscates = _stream_options(said.get("stream_options", {}))
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
        **echo_of(state),
    }
    # the Response object wraps it twice, in an event
    written([[echo]], "tools")
    return Asked(
        chat=b"{%b}" % b",".join([b"%b:%b" % (orjson.dumps(name), each) for name, each in chat.items()]),
        instructions=orjson.dumps({"role": "system", "content": instructions}) if instructions else b"",
        model=model,
        stream=stream,
        store=state.store,
        background=state.background,
        previous=state.previous,
        conversation=state.conversation,
        truncates=state.truncates,
        echo=echo,
        items=items,
        seals=_SEALED in wanted,
        logprobs=logprobs,
        obfuscates=obfuscates,
    )


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


def _include(value: object) -> list[object]:
    if not isinstance(value, list):
        refuse("include", "is not a list; send a list of strings")
    for at, each in enumerate(value):
        if each not in _INCLUDE:
            refuse(f"include[{at}]", f"names what cannot be given here; of use are {', '.join(_INCLUDE)}")
    return value


def _stream_options(value: object) -> bool:
    said = present(object_(value, "stream_options"))
    only(said, "stream_options", frozenset({"include_obfuscation"}))
    return flag(said.get("include_obfuscation", False), "stream_options.include_obfuscation")


def _cache_options(value: object) -> dict[str, object]:
    """As the Response object repeats them; chat has the same."""
    member = "prompt_cache_options"
    said = present(object_(value, member))
    only(said, member, frozenset({"mode", "ttl"}))
    return {
        "mode": one_of(said.get("mode", "implicit"), f"{member}.mode", ("implicit", "explicit")),
        "ttl": one_of(said.get("ttl", "30m"), f"{member}.ttl", ("30m",)),
    }
