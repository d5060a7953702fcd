"""Transcripts: exported sessions, or JSON Lines of bare chat messages -> conversations as exchanges, one at a time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec

from proxy.cli.lines import BY_NAME, NOTHING, Line, decode, unstamp
from proxy.conversation.message import Message
from proxy.dialects.contract import Dialect
from proxy.errors import ProxyError, SettingsError
from proxy.tokens import counter

_BARE = BY_NAME["chat"]
_SYSTEM = frozenset({"system", "developer"})


class Weighed(NamedTuple):
    """A message and its tokens."""

    message: Message
    tokens: int


class Exchange(msgspec.Struct, frozen=True):
    """One request and its reply, as they were."""

    id: str
    parent: str
    """The id of the exchange that it went on from, "" for none."""
    at_s: float | None
    """When; None: the transcript does not say."""
    model: str
    dialect: Dialect
    preamble: tuple[Weighed, ...]
    """The one in force."""
    new: tuple[Weighed, ...]
    """What the client said."""
    reply: tuple[Weighed, ...]
    """One message, or none where the model did not answer."""


class Conversation(msgspec.Struct, frozen=True):
    name: str
    exchanges: tuple[Exchange, ...]
    """At least one; a parent stands before its children."""
    size: int
    """Bytes that it takes up in its file."""


def read(path: Path, model: str) -> Iterator[Conversation]:
    """The conversations of a file, as they stand there: one where it holds bare messages. `model` stands in where none
    is named. Raises SettingsError, one line that names the file and the line."""
    try:
        with path.open("rb") as file:
            lines = _Lines(path, file)
            first = lines.peek()
            if first is None:
                raise SettingsError(f"{path}: holds no messages.")
            if _is_exported(first):
                yield from _exported(lines, model)
            else:
                yield _bare(lines, path.name, model)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}.") from None


class _Lines:
    """The lines of a file that hold something, with where they stand for what is wrong with them."""

    def __init__(self, path: Path, file: Iterable[bytes]) -> None:
        self._path = path
        self._lines = ((number, raw) for number, raw in enumerate(file, 1) if raw.strip())
        self._ahead: tuple[int, bytes] | None = None

    def peek(self) -> bytes | None:
        self._ahead = next(self._lines, None)
        return self._ahead[1] if self._ahead else None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        if self._ahead:
            yield self._ahead
        yield from self._lines

    def wrong(self, number: int, what: object) -> SettingsError:
        return SettingsError(f"{self._path}: line {number}: {' '.join(str(what).split()).rstrip('.')}.")


class _Kind(msgspec.Struct):
    session: msgspec.Raw = NOTHING
    entry: msgspec.Raw = NOTHING


_kind = msgspec.json.Decoder(_Kind).decode


def _is_exported(raw: bytes) -> bool:
    """Whatever else is wrong with the line is told by who reads it."""
    try:
        found = _kind(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return found.session is not NOTHING and found.entry is not NOTHING


class _Numbered(NamedTuple):
    number: int
    size: int
    line: Line


def _exported(lines: _Lines, model: str) -> Iterator[Conversation]:
    for (_, session), own in groupby(_decoded(lines), key=lambda each: (each.line.tenant, each.line.session)):
        exchanges: dict[str, Exchange] = {}
        size = 0
        for entry, grouped in groupby(own, key=lambda each: each.line.entry):
            group = list(grouped)
            size += sum(each.size for each in group)
            try:
                exchange = _exchange([each.line for each in group], exchanges, model)
            except (ValueError, ProxyError) as error:
                raise lines.wrong(group[0].number, error) from None
            exchanges.setdefault(entry, exchange)
        yield Conversation(session, tuple(exchanges.values()), size)


def _decoded(lines: _Lines) -> Iterator[_Numbered]:
    for number, raw in lines:
        try:
            yield _Numbered(number, len(raw), decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise lines.wrong(number, f"is no exported message: {error}") from None


def _exchange(group: Sequence[Line], before: dict[str, Exchange], model: str) -> Exchange:
    first = group[0]
    dialect = BY_NAME.get(first.dialect)
    if dialect is None:
        raise ValueError(f"the dialect {first.dialect!r} is not spoken; there is {', '.join(BY_NAME)}")
    if first.parent and first.parent not in before:
        raise ValueError(f"the parent {first.parent} is not above; export the whole session")
    own = [line for line in group if not line.preamble]
    if not own or (own[-1].of and own[-1].of != len(own)):
        raise ValueError(f"entry {first.entry} is cut off; {len(own)} of its messages are here, export it again")
    used = first.model or model
    preamble = before[first.parent].preamble if first.parent else ()
    if len(own) < len(group):
        wires = [bytes(line.message) for line in group if line.preamble]
        preamble = _weighed(dialect, [wire for wire in wires if wire != b"null"], used)
    messages = _weighed(dialect, [bytes(line.sent or line.message) for line in own], used)
    replied = messages[-1].message.role == "assistant"
    return Exchange(
        id=first.entry,
        parent=first.parent,
        at_s=unstamp(first.at) / 1000,
        model=used,
        dialect=dialect,
        preamble=preamble,
        new=messages[:-1] if replied else messages,
        reply=messages[-1:] if replied else (),
    )


def _weighed(dialect: Dialect, wires: Iterable[bytes], model: str) -> tuple[Weighed, ...]:
    return tuple(
        Weighed(message, counter.count(message, model)) for wire in wires for message in dialect.messages(wire)
    )


def _bare(lines: _Lines, name: str, model: str) -> Conversation:
    """Each assistant message that follows another's is taken for the reply to what stands before it."""
    preamble: list[Weighed] = []
    new: list[Weighed] = []
    exchanges: list[Exchange] = []
    size = 0

    def close(reply: tuple[Weighed, ...]) -> None:
        number = len(exchanges)
        exchanges.append(
            Exchange(
                id=f"{number + 1:032x}",
                parent=exchanges[-1].id if exchanges else "",
                at_s=None,
                model=model,
                dialect=_BARE,
                preamble=tuple(preamble),
                new=tuple(new),
                reply=reply,
            )
        )
        new.clear()

    for number, raw in lines:
        size += len(raw)
        try:
            (weighed,) = _weighed(_BARE, [raw.strip()], model)
        except ProxyError as error:
            raise lines.wrong(number, f"is no chat message: {str(error).replace('`messages[0]`', 'it')}") from None
        except ValueError:
            raise lines.wrong(number, "is no chat message: write one JSON object a line") from None
        role = weighed.message.role
        if role in _SYSTEM and not new and not exchanges:
            preamble.append(weighed)
        elif role == "assistant" and any(each.message.role != "assistant" for each in new):
            close((weighed,))
        else:
            new.append(weighed)
    if new or not exchanges:
        if not new:
            raise lines.wrong(number, "nobody but the system says anything")
        close(())
    return Conversation(name, tuple(exchanges), size)
