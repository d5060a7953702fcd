"""What ties a Responses request to stored things: whether it is kept, and what it goes on from."""

from collections.abc import Mapping

import msgspec

from proxy.dialects.responses.fields import flag, object_, one_of, only, refuse, some_text
from proxy.errors import InvalidBody, MutuallyExclusive

MEMBERS = frozenset({
    "background", "context_management", "conversation", "conversation_id", "previous_response_id", "store",
    "truncation",
})  # fmt: skip
"""The members of a request that are read here."""


class State(msgspec.Struct, frozen=True):
    store: bool
    background: bool
    previous: str
    """"" for none."""
    conversation: str
    """"" for none."""
    truncates: bool | None
    """None: it was not said."""


def read_state(said: Mapping[str, object]) -> State:
    """From the parsed members that are not null. Raises InvalidBody."""
    store = flag(said.get("store", True), "store")
    background = flag(said.get("background", False), "background")
    if background and not store:
        raise InvalidBody("background can only be used when `store` is true", param="background")
    if said.get("context_management", []) != []:
        refuse("context_management", "is not for a request to say here: compaction happens by itself, as `[summary]` "
               "of the policy file says; leave it out")  # fmt: skip
    previous = _named(said, "previous_response_id")
    conversation = _conversation(said)
    if previous and conversation:
        raise MutuallyExclusive(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only providing "
            "one of: 'previous_response_id' or 'conversation'."
        )
    truncates = None
    if "truncation" in said:
        truncates = one_of(said["truncation"], "truncation", ("auto", "disabled")) == "auto"
    return State(store, background, previous, conversation, truncates)


def echo_of(state: State) -> dict[str, object]:
    """What the Response object says of it."""
    echo: dict[str, object] = {
        "store": state.store,
        "background": state.background,
        "previous_response_id": state.previous or None,
        "truncation": "auto" if state.truncates else "disabled",
    }
    if state.conversation:
        echo |= {"conversation": {"id": state.conversation}, "conversation_id": state.conversation}
    return echo


def _conversation(said: Mapping[str, object]) -> str:
    named = _named(said, "conversation_id")
    if "conversation" not in said:
        return named
    value = said["conversation"]
    if isinstance(value, dict):
        only(value, "conversation", frozenset({"id"}))
        id = some_text(value.get("id"), "conversation.id")
    elif isinstance(value, str):
        id = some_text(value, "conversation")
    else:
        object_(value, "conversation")
        id = ""
    if named and named != id:
        refuse("conversation_id", "is not the same as `conversation`; send one of them")
    return id


def _named(said: Mapping[str, object], member: str) -> str:
    return some_text(said[member], member) if member in said else ""
