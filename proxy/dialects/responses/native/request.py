"""A client's request to the stateful API -> the one that a stateless upstream of the same API is sent.

What names stored things, or says what becomes of the response, is the proxy's to do and does not travel; every other
member does, with its bytes, whoever knows it.
"""

from collections.abc import Mapping

import msgspec

from proxy.dialects.responses.fields import flag, parsed, refuse, some_text, written
from proxy.dialects.responses.native.listing import listed, resolved, sent
from proxy.dialects.responses.native.write import PROXYS, included, object_of
from proxy.dialects.responses.state import MEMBERS, echo_of, read_state
from proxy.framing.members import Members

Object = dict[str, object]

_DEFAULTS: Object = {
    "instructions": None, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "temperature": 1.0,
    "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "max_output_tokens": None, "max_tool_calls": None,
    "metadata": {}, "prompt_cache_key": None, "safety_identifier": None, "service_tier": "auto", "top_logprobs": 0,
    "user": None, "text": {"format": {"type": "text"}}, "reasoning": {"effort": None, "summary": None},
}  # fmt: skip
"""Members of the Response object that repeat the request, as they are where it does not say them."""
_FUNCTION: Object = {"description": None, "parameters": None, "strict": None}
_KEPT = ("metadata", "instructions")
"""Those that are told as the client said them, whatever the upstream says."""
_READ = MEMBERS | {"model", "stream", "input"}


class Asked(msgspec.Struct, frozen=True):
    """See `proxy.dialects.contract.Asked`."""

    chat: bytes
    """The body of the stateless request. It names what the client goes on from only where it has no input, which
    `Dialect.write` leaves out."""
    model: str
    stream: bool
    store: bool
    background: bool
    previous: str
    conversation: str
    truncates: bool | None
    items: tuple[bytes, ...]
    echo: Object
    """Members of the Response object before the upstream has told of it."""
    fixed: Object
    """Those of them that the upstream cannot know."""
    instructions: bytes = b""
    """They stay where they are, and are not carried over anyway."""


def read(body: bytes, id: str, known: Mapping[str, bytes]) -> Asked:
    """See `Translation.read`."""
    members = Members(body)
    raw = {name: each for name in members.names() if (each := members.get(name)) is not None and each != b"null"}
    said = {name: parsed(each, name) for name, each in raw.items() if name in _READ or name in _DEFAULTS}
    model = some_text(said["model"], "model") if "model" in said else ""
    stream = flag(said.get("stream", False), "stream")
    state = read_state(said)
    empty = said.get("input") in (None, [])
    if empty and not (state.previous or state.conversation or "prompt" in raw):
        refuse("input", "is missing; send a string or a list of items")
    values = resolved(said.get("input", []), raw.get("input", b"[]"), known, "input")
    items = listed(values, id, "input")
    changed: dict[str, bytes] = {}
    if not empty:
        changed["input"] = sent(values, raw["input"])
    if state.store:
        changed["store"] = b"false"
        if (include := included(raw.get("include"))) is not None:
            changed["include"] = include
    kept = {name: members.get(name) or b"null" for name in members.names() if name not in PROXYS or empty}
    kept.pop("background", None)
    about = echo_of(state)
    echo = {**_DEFAULTS, **{name: said[name] for name in _DEFAULTS if name in said}, **about}
    if isinstance(tools := echo["tools"], list):
        echo["tools"] = [{**_FUNCTION, **each} if _is_function(each) else each for each in tools]
    # the Response object wraps it twice, in an event
    written([[echo]], "tools")
    del about["truncation"]
    return Asked(
        chat=object_of({**kept, **changed}),
        model=model,
        stream=stream,
        store=state.store,
        background=state.background,
        previous=state.previous,
        conversation=state.conversation,
        truncates=state.truncates,
        items=items,
        echo=echo,
        fixed={**about, **{name: said[name] for name in _KEPT if name in said}},
    )


def _is_function(tool: object) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "function"
