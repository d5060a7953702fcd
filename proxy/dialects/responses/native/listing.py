"""Items that a client sends: as they are listed, each with an id, and as they go to the upstream.

Types that are not known here are listed as they are.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import orjson

from proxy.dialects.responses.fields import object_, present, refuse, some_text, text, written
from proxy.dialects.responses.items import HEADING, PREFIXES, refers, stored
from proxy.dialects.responses.native.items import encode
from proxy.dialects.responses.native.rename import prefix_of
from proxy.dialects.responses.sealed import SUMMARY, is_sealed, unseal
from proxy.errors import InvalidBody

_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_WITH_STATUS = frozenset(PREFIXES) - {"reasoning", "compaction"}


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Shape(msgspec.Struct):
    """What every listed item keeps to, so that all of them can be read again in the same way."""

    id: str = ""
    type: str = ""
    content: list[_Part] | str | None = None


class Given(NamedTuple):
    """An item, a reference replaced by what it names."""

    value: dict[str, object]
    raw: bytes
    """As it goes upstream."""
    replaced: bool
    """The bytes are not the client's."""


def resolved(value: object, raw: bytes, known: Mapping[str, bytes], member: str) -> tuple[Given, ...]:
    """The items of `value`, whose bytes are `raw`; a string is a user's message. Raises InvalidBody, NotFound."""
    if isinstance(value, str):
        item: dict[str, object] = {"type": "message", "role": "user", "content": value}
        return (Given(item, raw, replaced=False),)
    if not isinstance(value, list):
        refuse(member, "is neither a string nor a list of items; send one of these")
    return tuple(_given(each, bytes(one), known, f"{member}[{at}]") for at, (each, one) in enumerate(zip(
        value, _raws(raw), strict=True
    )))  # fmt: skip


def sent(items: Sequence[Given], raw: bytes) -> bytes:
    """The member `input`: the client's own bytes, if nothing had to be replaced."""
    return b"[%b]" % b",".join([item.raw for item in items]) if any(item.replaced for item in items) else raw


def listed(items: Sequence[Given], id: str, member: str, *, ours: bool = False) -> tuple[bytes, ...]:
    """Each as JSON with an id, made from `id` (48 hex digits) where it has none, or `ours`. Raises InvalidBody."""
    made: list[bytes] = []
    seen: set[str] = set()
    for at, item in enumerate(items):
        place = f"{member}[{at}]"
        one = _listed(present(item.value), place)
        if ours or "id" not in one:
            kind = one["type"]
            prefix = PREFIXES.get(str(kind)) or prefix_of(encode(one.get("id")))
            one["id"] = f"{prefix}_{id}{at:02x}i"
        mine = some_text(one["id"], f"{place}.id")
        if mine in seen:
            raise InvalidBody(
                f"Duplicate item found with id {mine[:100]}. Remove duplicate items from your input and try again.",
                param=member,
            )
        seen.add(mine)
        try:
            msgspec.convert(one, _Shape)
        except msgspec.ValidationError:
            refuse(f"{place}.content", "has not the form of an item's content; send a string or a list of parts")
        made.append(written(one, place))
    return tuple(made)


def readable(item: bytes) -> bytes:
    """The item as an upstream can read it: of a summary that was sealed here, what it says."""
    value = orjson.loads(item) if b'"compaction"' in item else None
    return _opened(value, "items") or item if isinstance(value, dict) else item


def _given(value: object, raw: bytes, known: Mapping[str, bytes], member: str) -> Given:
    item = object_(value, member)
    replaced = refers(item)
    if replaced:
        id = some_text(item.get("id"), f"{member}.id")
        raw = stored(id, known, member)
        item = object_(orjson.loads(raw), member)
    opened = _opened(item, member)
    return Given(item, opened or raw, replaced or bool(opened))


def _opened(item: Mapping[str, object], member: str) -> bytes:
    """A summary that was sealed here as a message, b"" for any other item."""
    held = item.get("encrypted_content")
    if item.get("type") != "compaction" or not is_sealed(SUMMARY, held):
        return b""
    place = f"{member}.encrypted_content"
    summary = text(unseal(SUMMARY, held, place), place)
    return orjson.dumps({"type": "message", "role": "user", "content": f"{HEADING}\n{summary}"})


def _listed(item: dict[str, object], member: str) -> dict[str, object]:
    kind = item.get("type", "message" if "role" in item else None)
    if not isinstance(kind, str):
        refuse(f"{member}.type", "is of no known type; name the item's type")
    if kind == "message":
        item = {**item, "type": kind, "content": _parts(item.get("content"), item.get("role"))}
    return {**item, "status": item.get("status", "completed")} if kind in _WITH_STATUS else item


def _parts(content: object, role: object) -> object:
    if not isinstance(content, str | None):
        return content
    part: dict[str, object] = {"type": "input_text", "text": content or ""}
    return [{**part, "type": "output_text", "annotations": []} if role == "assistant" else part]
