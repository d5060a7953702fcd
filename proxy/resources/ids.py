"""Ids that clients hold: what an entry is called, with what a store needs to find it."""

import re

from proxy.stores.contract import Ref, tag

_ID = re.compile(r"resp_([0-9a-f]{32})([0-9a-f]{16})").fullmatch


def response_id(entry: str, ref: Ref) -> str:
    """`resp_` and 48 hex digits: the entry's id and the tag of the ref that it is on."""
    return f"resp_{entry}{tag(ref)}"


def entry_of(id: str) -> tuple[str, str] | None:
    """(the entry's id, the ref's tag); None for what is no response's id."""
    found = _ID(id)
    return (found[1], found[2]) if found else None
