"""Words for messages: as long as real ones, no two alike, so that no cache keyed by text answers for a tokenizer."""

import random

_TOPICS = (
    "please tell me how the invoice for the third quarter was settled and whether our customer in Lisbon has answered "
    "the letter about late delivery because finance wants to close its books before Friday while support still waits "
    "on an explanation of why two parcels went back to the warehouse without any note or number anyone could read"
)
_VOCABULARY = _TOPICS.split(" ")
_random = random.Random(7)
_SHORT = [" ".join(_random.choices(_VOCABULARY, k=24)).encode() for _ in range(509)]
_LONG = [" ".join(_random.choices(_VOCABULARY, k=54)).encode() for _ in range(509)]


def user_text(serial: int) -> bytes:
    """A question of about thirty tokens, for one live request."""
    return b"%b, case %09d?" % (_SHORT[serial % 509], serial % 1_000_000_000)


def stored_text(serial: int) -> str:
    """About sixty tokens, for one seeded message."""
    return f"{_LONG[serial % 509].decode()}, case {serial % 1_000_000_000:09d}."
