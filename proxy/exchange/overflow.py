"""An upstream says that the context is too long: recognised in each provider's words, and what to send instead. Pure.

The words were collected from the providers' documentation and public bug reports. What cannot be recognised is relayed
as it is, so a provider that is missing here costs nothing but the second try.
"""

import re
from typing import NamedTuple

import orjson

STATUSES = frozenset({400, 413, 422, 500})
"""Of replies that may say so: llama.cpp once did with a 500, TGI does with a 422."""
READ_AT_MOST = 64 * 1024
"""Bytes of an error's body that are looked at; a longer one says something else."""

_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size_error"
    r"|(?:maximum|max|available|configured|model'?s) (?:context|model|prompt|sequence) (?:length|size|window|limit)"
    r"|(?:context|prompt|input|sequence)(?: length| size| window| limit)?"
    r" (?:is |was |has been )?(?:exceed|too long|too large)"
    r"|exceeds? (?:the )?(?:available |maximum |model'?s )*(?:context|prompt|sequence|input)"
    r"|(?:input|prompt|request|messages?) (?:token(?:s| count) |length |\(\D*\d+ tokens\) )?"
    r"(?:\(\d+\) )?(?:exceeds?|is too long|is longer than|are too long)"
    r"|prompt \(length \d+\) is longer than|prompt contains \d+ tokens|`?inputs`? (?:tokens \+|must have less than)"
    r"|context length of only|total number of tokens in the prompt cannot exceed|reduce the length of the messages",
    re.IGNORECASE,
)
_OTHERWISE = re.compile(r"rate.?limit|per minute|\bTPM\b|quota|number of (?!tokens)", re.IGNORECASE)
"""Too much at once is another matter, and so are too many images: less history would not help."""

_N = r"[\"'`*: ]*(?:of |is |to |only |about |a total of )*(\d[\d,_]{2,})"
_SAID = ("message", "code", "type", "error_type", "detail", "msg", "error")
_COUNTED = ("n_ctx", "n_prompt_tokens")
_LIMIT = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\"n_ctx\"{_N}",
        r"\d[\d,_]* \+ \d[\d,_]* > ?(\d[\d,_]{2,})",
        rf"(?:context|prompt|model|sequence) (?:length|size|window|limit) ?(?:is|of|:|\()?{_N}",
        rf"(?:configured|context) limit{_N}",
        r"> ?(\d[\d,_]{2,}) (?:maximum|tokens)",
        r"(?:must be <=|must have less than|cannot exceed|longer than the maximum model length of) ?(\d[\d,_]{2,})",
        r"maximum number of tokens allowed \(?(\d[\d,_]{2,})",
        r"model with (\d[\d,_]{2,}) maximum context",
        r"context length \((\d[\d,_]{2,}) tokens\)",
        r"only (\d[\d,_]{2,}) tokens",
    )
)
_SENT = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\"n_prompt_tokens\"{_N}",
        r"(\d[\d,_]{2,}) (?:tokens )?(?:in the messages|from the input|of text input|in your prompt|input tokens)",
        r"(\d[\d,_]{2,}) `inputs` tokens",
        rf"(?:resulted in|requested|contains|received|given:?){_N}",
        r"(?:too long: ?|token count \(|request \(|input \(|prompt \(length )(\d[\d,_]{2,})",
        r"exceed context limit: ?(\d[\d,_]{2,})",
        r"first (\d[\d,_]{2,}) tokens",
    )
)


class Overflow(NamedTuple):
    """What the upstream said."""

    limit: int | None
    """Tokens that it holds, prompt and reply together as a rule; None: it did not say."""
    sent: int | None
    """Tokens that it was sent, in its own count."""

    @property
    def words(self) -> str:
        """For the plan, in figures."""
        sent = f"{self.sent} tokens" if self.sent else "the context"
        return f"{sent} > {self.limit}" if self.limit else f"{sent} is too long"


def overflow(status: int, body: bytes) -> Overflow | None:
    """None if the reply says anything else."""
    if status not in STATUSES or len(body) > READ_AT_MOST:
        return None
    text = _words(body)
    if not _TOO_LONG.search(text) or _OTHERWISE.search(text):
        return None
    return Overflow(_first(_LIMIT, text), _first(_SENT, text))


def fitting(said: Overflow, *, kept: int, estimated: int, reserve: int) -> int:
    """Tokens of history to send instead, in the counter's own units. `kept`: of history in the context that was
    refused, `estimated`: of all of it, `reserve`: that the request keeps for the reply, in the upstream's."""
    if said.limit is None:
        return kept // 2
    room = prompt(said, estimated=estimated, reserve=reserve) - (estimated - kept)
    # where it should have fitted by this count, the count is wrong
    return kept // 2 if room >= kept else max(0, room)


def prompt(said: Overflow, *, estimated: int, reserve: int) -> int:
    """Tokens of a prompt that the upstream takes beside `reserve` for the reply, in the counter's own units."""
    limit = said.limit or 0
    ratio = min(max(said.sent / estimated, 0.2), 5.0) if said.sent and estimated else 1.0
    # a little less, because what a message weighs beside its text is known to nobody
    return int((limit - (reserve if reserve < limit else 0)) / ratio * 0.98)


def _words(body: bytes) -> str:
    """What the error itself says: some servers repeat the request beside it, whose words are the client's."""
    try:
        tree: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
    said: list[str] = []
    for part in (tree, tree.get("error") if isinstance(tree, dict) else None):
        if isinstance(part, dict):
            said += [part[name] for name in _SAID if isinstance(part.get(name), str)]
            said += [f'"{name}":{part[name]}' for name in _COUNTED if isinstance(part.get(name), int)]
    details = tree.get("detail") if isinstance(tree, dict) else None
    for each in details if isinstance(details, list) else ():
        if isinstance(each, dict) and isinstance(each.get("msg"), str):
            said.append(each["msg"])
    return "\n".join(said)


def _first(patterns: "tuple[re.Pattern[str], ...]", text: str) -> int | None:
    for pattern in patterns:
        if found := pattern.search(text):
            return int(found[1].replace(",", "").replace("_", ""))
    return None
