"""What is kept with an entry for the APIs that name it: a response, and its items, each stored once."""

from collections.abc import Iterator, Sequence

import msgspec
import orjson

from proxy.dialects.contract import Translation

Object = dict[str, object]

NONE = msgspec.Raw(b"null")


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """Kept as the entry's note, and as the state of a run."""

    input: tuple[msgspec.Raw, ...] = ()
    """Items, each with an id."""
    places: tuple[int, ...] = ()
    """Of a conversation: the message of the entry that says each of `input`, -1 for none."""
    output: tuple[msgspec.Raw, ...] = ()
    response: msgspec.Raw = NONE
    """The response without its output; `NONE`: nobody may ask for it (any more)."""
    request: bytes = b""
    """Of a response whose request had an idempotency key: the hash of the body."""

    @property
    def answers(self) -> bool:
        """There is a response that may be asked for."""
        return self.response != NONE


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Item(msgspec.Struct):
    id: str = ""
    type: str = ""
    content: list[_Part] | str | None = None


_note = msgspec.json.Decoder(Note).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_item = msgspec.json.Decoder(_Item).decode
encode = msgspec.json.Encoder().encode


def note(response: Object | None, input: Sequence[bytes], places: tuple[int, ...] = (), request: bytes = b"") -> bytes:
    """`response` as clients see it, with its output."""
    if response is None:
        return encode(Note(tuple(map(msgspec.Raw, input)), places))
    listed = response["output"]
    items = tuple(msgspec.Raw(orjson.dumps(item)) for item in (listed if isinstance(listed, list) else ()))
    bare = msgspec.Raw(orjson.dumps({**response, "output": [], "output_text": ""}))
    return encode(Note(tuple(map(msgspec.Raw, input)), places, items, bare, request))


def places(input: Sequence[bytes], translation: Translation) -> tuple[int, ...]:
    """For each item the message that says it, -1 for none."""
    found = [-1] * len(input)
    for place, piece in enumerate(translation.pieces(input)):
        for item in piece.items:
            found[item] = place
    return tuple(found)


def read(raw: bytes) -> Note:
    return _note(raw) if raw else Note()


def response(kept: Note) -> bytes | None:
    """The response as it was given, JSON; None if nobody may ask for it."""
    if not kept.answers:
        return None
    members = _members(bytes(kept.response))
    members["output"] = msgspec.Raw(encode(kept.output))
    members["output_text"] = msgspec.Raw(encode("".join(_texts(kept.output))))
    return encode(members)


def failed(state: bytes, translation: Translation, why: str) -> bytes:
    """The note of a response that will never come to its end."""
    kept = read(state)
    made = orjson.loads(response(kept) or b"{}")
    made = translation.failed(made, "server_error", why)
    return note(made, [*map(bytes, kept.input)], kept.places, kept.request)


def item_id(item: msgspec.Raw) -> str:
    return _item(bytes(item)).id


def _texts(items: Sequence[msgspec.Raw]) -> Iterator[str]:
    for raw in items:
        item = _item(bytes(raw))
        if item.type == "message" and isinstance(item.content, list):
            yield from (part.text for part in item.content if part.type == "output_text")
