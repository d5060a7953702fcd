"""Which request asks something of the stored things: responses, conversations."""

import re
from typing import NamedTuple
from urllib.parse import unquote

_RESPONSES = re.compile(r".*/responses(?:/(?P<id>[^/]+)(?:/(?P<of>input_items|cancel))?)?").fullmatch
_CONVERSATIONS = re.compile(r".*/conversations(?:/(?P<id>[^/]+)(?:/(?P<items>items)(?:/(?P<item>[^/]+))?)?)?").fullmatch


class Asked(NamedTuple):
    what: str
    """`responses.create`, `conversations.list_items` and the like; `responses.connect` is a WebSocket."""
    id: str = ""
    item: str = ""


def response_path(method: str, path: str, *, upgrade: bool) -> Asked | None:
    """What is asked of the Responses or the Conversations API; None for anything else. `upgrade`: the connection shall
    become a WebSocket."""
    path = path.rstrip("/")
    if found := _RESPONSES(path):
        return _response(method, unquote(found["id"] or ""), found["of"], upgrade=upgrade)
    if found := _CONVERSATIONS(path):
        return _conversation(method, unquote(found["id"] or ""), found["items"], unquote(found["item"] or ""))
    return None


def _response(method: str, id: str, of: str | None, *, upgrade: bool) -> Asked | None:
    match method, id, of:
        case "GET", "", _ if upgrade:
            return Asked("responses.connect")
        case "POST", "", _:
            return Asked("responses.create")
        case "POST", "input_tokens" | "compact", None:
            return Asked(f"responses.{id}")
        case "POST", _, "cancel":
            return Asked("responses.cancel", id)
        case "GET", _, "input_items":
            return Asked("responses.input_items", id)
        case "GET", str(), None if id:
            return Asked("responses.retrieve", id)
        case "DELETE", str(), None if id:
            return Asked("responses.delete", id)
    return None


def _conversation(method: str, id: str, items: str | None, item: str) -> Asked | None:
    match method, bool(id), bool(items), bool(item):
        case "POST", False, _, _:
            return Asked("conversations.create")
        case "GET", True, False, _:
            return Asked("conversations.retrieve", id)
        case "POST", True, False, _:
            return Asked("conversations.update", id)
        case "DELETE", True, False, _:
            return Asked("conversations.delete", id)
        case "POST", True, True, False:
            return Asked("conversations.add_items", id)
        case "GET", True, True, False:
            return Asked("conversations.list_items", id)
        case "GET", True, True, True:
            return Asked("conversations.item", id, item)
        case "DELETE", True, True, True:
            return Asked("conversations.delete_item", id, item)
    return None
