"""Ids that clients hold: what an entry is called, with what a store needs to find it."""

import re

from proxy.conversation.entry import new_id
from proxy.stores.contract import Ref, tag

_RESPONSE = re.compile(r"resp_([0-9a-f]{32})([0-9a-f]{16})").fullmatch
_ITEM = re.compile(r"[a-z]+_([0-9a-f]{32})([0-9a-f]{16})[0-9a-f]{2,8}i?").fullmatch
_CONVERSATION = re.compile(r"conv_([0-9a-f]{32})").fullmatch


def response_id(entry: str, ref: Ref) -> str:
    """`resp_` and 48 hex digits: the entry's id and the tag of the ref that it is on."""
    return f"resp_{entry}{tag(ref)}"


def entry_of(id: str) -> tuple[str, str] | None:
    """(the entry's id, the ref's tag); None for what is no response's id."""
    found = _RESPONSE(id)
    return (found[1], found[2]) if found else None


def entry_of_item(id: str) -> tuple[str, str] | None:
    """As `entry_of`, for the id of an item that the entry holds."""
    found = _ITEM(id)
    return (found[1], found[2]) if found else None


def new_conversation() -> str:
    return f"conv_{new_id()}"


def conversation_ref(tenant: str, id: str) -> Ref | None:
    """None for what is no conversation's id."""
    found = _CONVERSATION(id)
    return Ref(tenant, "conversation", found[1]) if found else None
