"""An upstream says that the context is too long: recognised in each provider's words, and what to send instead. Pure.

The words were collected from the providers' documentation and public bug reports. What cannot be recognised is relayed
as it is, so a provider that is missing here costs nothing but the second try.
"""

import re
from typing import NamedTuple

STATUSES = frozenset({400, 413, 422, 500})
"""Of replies that may say so: llama.cpp once did with a 500, TGI does with a 422."""
READ_AT_MOST = 64 * 1024
"""Bytes of an error's body that are looked at; a longer one says something else."""

_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size_error|string_above_max_length"
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
_OTHERWISE = re.compile(r"rate.?limit|per minute|\bTPM\b|quota", re.IGNORECASE)
"""Too much at once is another matter: less history would not help for long."""

_N = r"[\"'`*: ]*(?:of |is |to |only |about |a total of )*(\d[\d,_]{2,})"
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
    text = body.decode(errors="replace")
    if not _TOO_LONG.search(text) or _OTHERWISE.search(text):
        return None
    return Overflow(_first(_LIMIT, text), _first(_SENT, text))


def fitting(said: Overflow, *, kept: int, estimated: int, reserve: int) -> tuple[int, int | None]:
    """(tokens of history to send instead, tokens that this model is now known to take as a prompt: None if it was not
    said), both in the counter's own units. `kept`: of history in the context that was refused, `estimated`: of all of
    it, `reserve`: that the request keeps for the reply, in the upstream's."""
    if said.limit is None:
        return kept // 2, None
    ratio = min(max(said.sent / estimated, 0.2), 5.0) if said.sent and estimated else 1.0
    reserve = reserve if reserve < said.limit else 0
    # a little less, because what a message weighs beside its text is known to nobody
    prompt = int((said.limit - reserve) / ratio * 0.98)
    room = prompt - (estimated - kept)
    if room >= kept:
        # by this count it should have fitted: the count is wrong
        return kept // 2, None
    return max(0, room), prompt


def _first(patterns: "tuple[re.Pattern[str], ...]", text: str) -> int | None:
    for pattern in patterns:
        if found := pattern.search(text):
            return int(found[1].replace(",", "").replace("_", ""))
    return None
