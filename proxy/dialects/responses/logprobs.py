"""Log probabilities of a text's tokens: those of chat -> those of a Response, which must name each token's bytes.

The public SDK's types of events have no bytes; Open Responses requires them there too.
"""

from collections.abc import Iterable

_MOST = 1e300
"""JSON knows no infinity."""


def shaped(listed: Iterable[object]) -> list[dict[str, object]]:
    """As output texts and their events hold them; what is no log probability is left out."""
    found: list[dict[str, object]] = []
    for each in listed:
        if (one := _one(each)) is not None and isinstance(each, dict):
            top = each.get("top_logprobs")
            ranked = [_one(other) for other in (top if isinstance(top, list) else ())]
            found.append({**one, "top_logprobs": [other for other in ranked if other is not None]})
    return found


def _one(value: object) -> dict[str, object] | None:
    if not isinstance(value, dict):
        return None
    token, logprob, held = value.get("token"), value.get("logprob"), value.get("bytes")
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return None
    if not abs(logprob) < _MOST:
        return None
    # half a surrogate pair can be a token; no JSON parser would take it
    said = token.encode(errors="replace")
    whole = isinstance(held, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in held)
    return {
        "token": said.decode(),
        "bytes": held if whole else list(said),
        "logprob": float(logprob),
    }
