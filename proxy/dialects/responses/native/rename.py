"""An upstream's response under the proxy's own ids: the Response object, and each event of a stream.

The id of an item says at which place of which response's output it stands, so that events and the finished response
agree whatever ids the upstream gave (there are servers that give other ones in the two).
"""

import re
from collections.abc import Mapping

import msgspec
import orjson

from proxy.dialects.responses.items import PREFIXES
from proxy.dialects.responses.native.items import encode, fields_of
from proxy.dialects.responses.reply import item_id
from proxy.framing import sse

_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_prefix = re.compile(r"[a-z]{1,16}(?=_)").match
_item_id = re.compile(rb'"item_id"[ \t]*:[ \t]*("[^"\\]*")').search
_output_index = re.compile(rb'"output_index"[ \t]*:[ \t]*(\d{1,9})(?![\d.eE])').search
_surrogate = re.compile(rb"\\u([dD])")
_MASK = rb"\ufdd0"
_DECODED = "\ufdd0".encode()
_BOM = b"\xef\xbb\xbf"
_ANSWERED_BY_ID = b'"mcp_approval_request"'
"""The type of the one item whose answer names it by its id, which the upstream must know again."""
_OTHER = "item"
"""Starts the id of an item whose own says nothing."""

Object = dict[str, object]


def renamed(response: Object, id: str, echo: Mapping[str, object]) -> Object:
    """The response as `resp_<id>` (48 hex digits), its items named by it, and the members of `echo` as they are given
    there (`previous_response_id`, `conversation`, `store`, `background`, …)."""
    made: Object = orjson.loads(_response(encode(response), id, _raw(echo), {}))
    return made


def renamed_body(body: bytes, id: str, echo: Mapping[str, object]) -> bytes:
    """A plain reply's body, see `renamed`; the other members keep their bytes. What is no JSON object stays."""
    try:
        return _response(body, id, _raw(echo), {})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body


class Renamer:
    """Does the same to a stream: in each event that names the response or an item the names change, others stay."""

    def __init__(self, id: str, echo: Mapping[str, object]) -> None:
        self._id = id
        self._echo = _raw(echo)
        self._cutter = sse.Cutter()
        self._rest: list[bytes] = []
        self._prefixes: dict[int, str] = {}
        """What the ids of the items at these places start with."""

    def feed(self, data: bytes) -> bytes:
        """Bytes of the stream, cut anywhere -> what has become whole of it, renamed."""
        whole = self._cutter.feed(data)
        if len(whole) < len(data) or self._rest:
            self._rest.append(data)
            if not whole:
                return b""
            rest = b"".join(self._rest)[len(whole) :]
            self._rest = [rest] if rest else []
        if whole.endswith(b"\n\n") and whole.count(b"\n\n") == 1 and b"\r" not in whole:
            return self._frame(whole)
        return b"".join(map(self._frame, sse.frames(whole)))

    def end(self) -> bytes:
        """What was left of an event whose empty line did not come."""
        rest, self._rest = b"".join(self._rest), []
        return self._frame(rest) if rest else b""

    def _frame(self, frame: bytes) -> bytes:
        if b'"item"' not in frame and b'"response"' not in frame:
            if b'"item_id"' not in frame:
                return frame
            if quick := self._delta(frame):
                return quick
        text = frame.rstrip(b"\r\n")
        lines = re.split(rb"\r\n|\n|\r", text.removeprefix(_BOM))
        found = [line.partition(b":")[2].removeprefix(b" ") for line in lines if line.partition(b":")[0] == b"data"]
        made = self._event(b"\n".join(found)) if found else None
        if made is None:
            return frame
        kept = [line for line in lines if line.partition(b":")[0] != b"data"]
        return b"\n".join([*kept, b"data: " + made]) + frame[len(text) :]

    def _delta(self, frame: bytes) -> bytes:
        """An event that names an item and its place once each, which is nearly every event, with only that changed;
        b"" if it is none. A quote in a text has a backslash before it, so that no text looks like a member."""
        if frame.count(b'"item_id"') != 1 or frame.count(b'"output_index"') != 1:
            return b""
        named, place = _item_id(frame), _output_index(frame)
        if named is None or place is None:
            return b""
        at = int(place[1])
        prefix = self._prefixes.get(at)
        if prefix is None:
            prefix = self._prefixes[at] = prefix_of(named[1])
        return b"".join(
            (frame[: named.start(1)], b'"%b"' % item_id(prefix, self._id, at).encode(), frame[named.end(1) :])
        )

    def _event(self, data: bytes) -> bytes | None:
        """None: it is no event, or names nothing."""
        try:
            fields = fields_of(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._with_half_a_pair(data)
        changed: dict[str, bytes] = {}
        at = _place(fields)
        if (item := fields.get("item")) is not None and at is not None and bytes(item).startswith(b"{"):
            changed["item"] = _item(bytes(item), self._id, at, self._prefixes)
        if (named := fields.get("item_id")) is not None and at is not None:
            prefix = self._prefixes.setdefault(at, prefix_of(bytes(named)))
            changed["item_id"] = orjson.dumps(item_id(prefix, self._id, at))
        if (response := fields.get("response")) is not None and bytes(response).startswith(b"{"):
            changed["response"] = _response(bytes(response), self._id, self._echo, self._prefixes)
        if not changed:
            return None
        return encode({**fields, **{name: msgspec.Raw(raw) for name, raw in changed.items()}})

    def _with_half_a_pair(self, data: bytes) -> bytes | None:
        """An event that holds half a surrogate pair, the other half of which comes in the next: to the parser it is
        shown as other characters, and goes on as it came."""
        if _MASK in data or not _surrogate.search(data):
            return None
        made = self._event(_surrogate.sub(lambda found: _MASK + found[1], data))
        # in a member's name it was decoded, and cannot be told from what stood there
        return None if made is None or _DECODED in made else made.replace(_MASK, b"\\u")


def _response(raw: bytes, id: str, echo: Mapping[str, msgspec.Raw], prefixes: dict[int, str]) -> bytes:
    fields = fields_of(raw)
    output = bytes(fields.get("output", b""))
    if output.startswith(b"["):
        items = [_item(bytes(item), id, at, prefixes) for at, item in enumerate(_items(output))]
        fields["output"] = msgspec.Raw(b"[%b]" % b",".join(items))
    return encode({**fields, "id": msgspec.Raw(b'"resp_%b"' % id.encode()), **echo})


def _item(raw: bytes, id: str, at: int, prefixes: dict[int, str]) -> bytes:
    if not raw.startswith(b"{"):
        return raw
    fields = fields_of(raw)
    if bytes(fields.get("type", b"")) == _ANSWERED_BY_ID:
        return raw
    prefix = PREFIXES.get(_string(fields.get("type"))) or prefixes.get(at) or prefix_of(bytes(fields.get("id", b"")))
    prefixes[at] = prefix
    return encode({**fields, "id": msgspec.Raw(orjson.dumps(item_id(prefix, id, at)))})


def prefix_of(raw: bytes) -> str:
    """What an id (raw JSON) starts with."""
    found = _prefix(_string(msgspec.Raw(raw)))
    return found[0] if found else _OTHER


def _string(raw: msgspec.Raw | None) -> str:
    if raw is None or not bytes(raw).startswith(b'"'):
        return ""
    return str(orjson.loads(bytes(raw)))


def _place(fields: Mapping[str, msgspec.Raw]) -> int | None:
    raw = bytes(fields.get("output_index", b""))
    return int(raw) if raw.isdigit() and len(raw) < 10 else None


def _raw(echo: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(encode(value)) for name, value in echo.items()}
