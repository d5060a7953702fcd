"""Durations and sizes as people write them in settings and policy files. Ground floor: imports nothing of the house."""

import re

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d{1,15})\s*([kmg]?i?b)?", re.ASCII | re.IGNORECASE)
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

LONGEST_S = 100 * 365 * 86400
"""A hundred years: whatever is longer is a slip of the keyboard, and overflows clocks."""


def duration_s(text: str) -> float:
    """`10s`, `2m`, `1h`, `30d`, `250ms`, or plain seconds -> seconds, more than 0 and at most LONGEST_S.

    Raises ValueError that says what to write."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no duration; write 10s, 2m, 1h, 30d or plain seconds")
    seconds = float(found[1]) * _SECONDS[found[2] or "s"]
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(f"{text!r} is out of range; write more than 0s and at most {LONGEST_S // 86400}d")
    return seconds


def size_bytes(text: str) -> int:
    """`32MiB`, `512KiB`, `1GiB` (or decimal `32MB`), or plain bytes -> bytes, at least 1.

    Raises ValueError that says what to write."""
    found = _SIZE.fullmatch(text.strip())
    unit = _BYTES.get((found[2] or "b").lower()) if found else None
    if found is None or unit is None:
        raise ValueError(f"{text!r} is no size; write 32MiB, 512KiB, 1GiB or plain bytes")
    if not (size := int(found[1]) * unit):
        raise ValueError(f"{text!r} is out of range; write at least 1")
    return size
