"""Items -> messages: what the model said in one go is one message, however many items it takes.

Such a run are neighbouring items of the model's: reasoning, texts, calls. Its bytes are the items' bytes, joined by
commas. Reasoning that nothing follows is left out: OpenAI refuses it "without its required following item".
"""

from collections.abc import Iterable, Sequence

import msgspec
import orjson

from proxy.conversation.message import Message
from proxy.dialects.contract import Piece
from proxy.dialects.responses.native.items import Item, encode, read_item
from proxy.errors import InvalidBody

_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode

SILENCE = b'{"type":"message","role":"assistant","content":""}'
"""Stands for a run of which nothing can be sent."""


class Aside(msgspec.Struct, frozen=True):
    """`Message.aside` of a run. Places count the items of the run as it came."""

    left_out: dict[str, msgspec.Raw] = {}
    """Items that are not sent, by place."""
    instead: dict[str, msgspec.Raw] = {}
    """Items of which something is not sent, by place."""
    count: int = 0
    """How many items the run has."""


_aside = msgspec.json.Decoder(Aside).decode


def read_list(raw: bytes) -> list[Message]:
    """The messages that a JSON list of items holds. Raises InvalidBody.

    A list inside the list is one message: that is how `full` shows a run."""
    try:
        values = orjson.loads(raw)
        wires = _raws(raw) if isinstance(values, list) else ()
    except (orjson.JSONDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidBody(f"`input` is not valid JSON: {error}.", param="input") from None
    if not isinstance(values, list):
        raise InvalidBody("`input` is neither a string nor a list of items; send one of these.", param="input")
    return _grouped(values, wires)


def _grouped(values: Sequence[object], wires: Sequence[msgspec.Raw]) -> list[Message]:
    messages: list[Message] = []
    run: list[Item] = []
    for at, (value, wire) in enumerate(zip(values, wires, strict=True)):
        raw = bytes(wire)
        if (
            type(value) is dict
            and type(text := value.get("content")) is str
            and value.get("role") == "user"
            and "id" not in value
            and value.get("type", "message") == "message"
        ):
            if run:
                messages.append(joined(run))
                run = []
            messages.append(Message("user", raw, text))
            continue
        if isinstance(value, list) and value:
            messages += [joined(run)] if run else []
            messages.append(joined([read_item(*each, at) for each in zip(value, map(bytes, _raws(raw)), strict=True)]))
            run = []
            continue
        item = read_item(value, raw, at)
        if item.of_run:
            run.append(item)
            continue
        if run:
            messages.append(joined(run))
            run = []
        messages.append(Message(item.role, item.wire, item.text, item.media, answers=item.answers))
    if run:
        messages.append(joined(run, last=True))
    return messages


def pieces(items: Sequence[bytes]) -> tuple[Piece, ...]:
    """See `Translation.pieces`. Raises InvalidBody."""
    made: list[Piece] = []
    run: list[tuple[int, Item]] = []

    def close(*, last: bool = False) -> None:
        if run:
            made.append(Piece(joined([item for _, item in run], last=last).wire, tuple(at for at, _ in run)))
            run.clear()

    for at, raw in enumerate(items):
        item = read_item(orjson.loads(raw), raw, at)
        if item.of_run:
            run.append((at, item))
            continue
        close()
        made.append(Piece(item.wire, (at,)))
    close(last=True)
    return tuple(made)


def joined(run: Sequence[Item], *, last: bool = False) -> Message:
    """The message that a run makes. `last`: the model is to go on with it, so reasoning at its end stays."""
    kept = [at for at, item in enumerate(run) if item.wire]
    while kept and not last and run[kept[-1]].reasons:
        kept.pop()
    sent = [run[at] for at in kept]
    aside = b""
    if len(kept) < len(run) or any(item.shown for item in sent):
        aside = encode(_put_aside(run, kept))
    return Message(
        "assistant",
        b",".join([item.wire for item in sent]) or SILENCE,
        "".join([item.text for item in sent]),
        tuple([media for item in sent for media in item.media]),
        tuple([call for item in sent for call in item.calls]),
        aside=aside,
    )


def _put_aside(run: Sequence[Item], kept: Sequence[int]) -> Aside:
    left_out = [at for at in range(len(run)) if at not in kept]
    return Aside(
        {str(at): msgspec.Raw(run[at].shown or run[at].wire) for at in left_out},
        {str(at): msgspec.Raw(run[at].shown) for at in kept if run[at].shown},
        len(run),
    )


def split(wires: Iterable[bytes]) -> list[bytes]:
    """The bytes of each item in these runs."""
    return [bytes(raw) for raw in _raws(b"[%b]" % b",".join(wires))]


def full(wire: bytes, aside: bytes) -> bytes:
    """See `Dialect.full`: the item of a message that is one, else the list of its items."""
    items = split((wire,))
    if aside:
        more = _aside(aside)
        sent = iter(items)
        items = []
        for at in map(str, range(more.count)):
            if (left_out := more.left_out.get(at)) is not None:
                items.append(bytes(left_out))
            elif (each := next(sent, None)) is not None:
                items.append(bytes(more.instead.get(at, each)))
    return items[0] if len(items) == 1 else b"[%b]" % b",".join(items)
