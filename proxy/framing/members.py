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

    __slots__ = ("_spans", "body")

    def __init__(self, body: bytes) -> None:
        """Raises InvalidBody if `body` is not one JSON object in UTF-8 (a lone surrogate is not), or names a member
        twice. What stands inside values is checked for form, not decoded."""
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise InvalidBody(f"The body is not valid UTF-8 (byte {error.start}); send JSON in UTF-8.") from None
        try:
            values = _split(body)
        except msgspec.DecodeError as error:
            raise InvalidBody(f"The body is not a JSON object in valid Unicode: {error}.") from None
        self.body = body
        self._spans: dict[str, tuple[int, int]] = {}
        at = 0
        for name, raw in values.items():
            value = bytes(raw)
            member = _MEMBER(body, at)
            if member is None or _decoded(member[1]) != name or not body.startswith(value, start := member.end()):
                raise _twice()
            at = start + len(value)
            self._spans[name] = start, at
        if _END(body, at) is None:
            raise _twice()

    def get(self, name: str) -> bytes | None:
        """The raw bytes of a member's value, None if there is no such member."""
        span = self._spans.get(name)
        return self.body[span[0] : span[1]] if span else None

    def names(self) -> list[str]:
        return list(self._spans)

    def replace(self, name: str, value: bytes) -> bytes:
        """The body with another value for a member that it has; every other byte stays. KeyError if it has none."""
        start, end = self._spans[name]
        return b"".join((self.body[:start], value, self.body[end:]))


def _decoded(name: bytes) -> str:
    return str(_name(b'"%b"' % name)) if b"\\" in name else name.decode()


def _twice() -> InvalidBody:
    # the decoder keeps the last of two members of one name, so the walk along the body finds another than it expects
    return InvalidBody("The body names a member twice; name each member once.")
