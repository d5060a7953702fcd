"""A JSON object's body as raw members: each value keeps its exact bytes and its place; one can be replaced.

Only what stands on the top level is looked at, so the cost hardly grows with the body. Two members of one name are
refused: which one counts would differ between this proxy and the upstream.
"""

import re

import msgspec

from proxy.errors import InvalidBody

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_name = msgspec.json.Decoder(str).decode
_MEMBER = re.compile(rb'[ \t\n\r]*[{,][ \t\n\r]*"([^"\\]*(?:\\.[^"\\]*)*)"[ \t\n\r]*:[ \t\n\r]*', re.DOTALL).match
_END = re.compile(rb"[ \t\n\r]*(?:\{[ \t\n\r]*)?\}[ \t\n\r]*").fullmatch


class Members:
    """The members of one JSON object."""

    __slots__ = ("_spaces", "_spans", "_values", "body")

    def __init__(self, body: bytes) -> None:
        """Raises InvalidBody if `body` is not one JSON object in UTF-8 (a lone surrogate is not), or names a member
        twice. What stands inside values is checked for form, not decoded."""
        if not body.isascii():
            try:
                body.decode()
            except UnicodeDecodeError as error:
                raise InvalidBody(f"The body is not valid UTF-8 (byte {error.start}); send JSON in UTF-8.") from None
        try:
            values = _split(body)
        except msgspec.DecodeError as error:
            raise InvalidBody(f"The body is not a JSON object in valid Unicode: {error}.") from None
        except RecursionError:
            raise InvalidBody("The body is nested too deeply; send a flatter JSON object.") from None
        self.body = body
        self._values = values
        self._spans: dict[str, tuple[int, int]] | None = None
        # An object with these names and values cannot be shorter than this; one that is just as short has no white
        # space, no escapes in names and, what matters, no member whose value the decoder has thrown away.
        shortest = sum(map(len, values.values())) + sum(map(len, values)) + 4 * len(values) + 1
        self._spaces = len(body) - shortest
        if self._spaces and not (self._spaces == 2 * len(values) - 1 and _spaced(values) == body):
            self._spans = _walk(body, values)

    def get(self, name: str) -> bytes | None:
        """The raw bytes of a member's value, None if there is no such member."""
        raw = self._values.get(name)
        return None if raw is None else bytes(raw)

    def names(self) -> list[str]:
        """In their order in the body."""
        return list(self._values)

    def replace(self, name: str, value: bytes) -> bytes:
        """The body with another value for a member that it has; every other byte stays. KeyError if it has none."""
        start, end = self._spans[name] if self._spans is not None else self._span(name)
        return b"".join((self.body[:start], value, self.body[end:]))

    def _span(self, name: str) -> tuple[int, int]:
        """Where the value stands in a body without white space, or with a space after each comma and colon. The names
        of such a body are ASCII, or its size would not have been the one that was expected."""
        size = len(self._values[name])
        colon, comma = (3, 3) if self._spaces else (2, 2)
        start = 2
        for other, raw in self._values.items():
            start += len(other) + colon
            if other == name:
                break
            start += len(raw) + comma
        return start, start + size


def _spaced(values: dict[str, msgspec.Raw]) -> bytes:
    """As `json.dumps` of Python writes it. Equal to the body only if the body says just that: a name that had to be
    escaped there is not escaped here."""
    pieces: list[bytes | msgspec.Raw] = []
    for name, raw in values.items():
        pieces += (b', "', name.encode(), b'": ', raw)
    pieces[0] = b'{"'
    pieces.append(b"}")
    return b"".join(pieces)


def _walk(body: bytes, values: dict[str, msgspec.Raw]) -> dict[str, tuple[int, int]]:
    """Where each value stands. Raises InvalidBody unless `body` holds these members in this order and nothing else:
    the decoder keeps the last of two members of one name at the place of the first."""
    spans = {}
    at = 0
    for name, raw in values.items():
        member = _MEMBER(body, at)
        if member is None or _decoded(member[1]) != name or not body.startswith(raw, start := member.end()):
            raise _twice()
        at = start + len(raw)
        spans[name] = start, at
    if _END(body, at) is None:
        raise _twice()
    return spans


def _decoded(name: bytes) -> str:
    return str(_name(b'"%b"' % name)) if b"\\" in name else name.decode()


def _twice() -> InvalidBody:
    return InvalidBody("The body names a member twice; name each member once.")
