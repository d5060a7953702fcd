"""What the model answered: the one place where deltas become messages."""

import msgspec

from proxy.conversation.message import Message

UNREADABLE = "unreadable"
"""`Reply.error` of what claims to be a completion and cannot be kept as one."""


class Reply(msgspec.Struct, frozen=True):
    """A reply as far as it was read."""

    message: Message | None
    """Its first choice, in the valid input form, joined to the call's prefill; None: nothing to record was read."""
    whole: bool
    """It is a completion, it has come to its end, and it holds no error."""
    finish: str = ""
    """The finish reason of the first choice, "" if none came."""
    model: str = ""
    """As the upstream named it."""
    prompt_tokens: int = 0
    """As the upstream reported; 0: it did not."""
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that came from the provider's cache."""
    error: str = ""
    """An error object stood in the stream: its code or type, no content."""
    cache_write_tokens: int = 0
    """Prompt tokens that were put into the provider's cache."""
    reasoning_tokens: int = 0
    """Completion tokens that were reasoning."""
    service_tier: str = ""
    """As the upstream named it."""
    logprobs: tuple[dict[str, object], ...] = ()
    """Of the text's tokens, as they came."""
    original: bytes = b""
    """The upstream's own JSON object of the reply, where its API has one that says more than all this; of a reply that
    was cut, as far as it was told."""


class Pieces(list[str]):
    """A string that comes in pieces; joined at the end, so that a long reply does not cost its square."""


class Parts:
    """Content that comes as text, as a list of parts, or first the one and then the other."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Pieces | list[object] | None = None
        """None: no content came."""

    def add(self, delta: object) -> None:
        """A piece of text or a list of parts; null adds nothing. Neighbouring pieces of text become one part."""
        if isinstance(delta, str):
            if isinstance(self.value, Pieces):
                self.value.append(delta)
            elif self.value is None:
                self.value = Pieces([delta])
            elif delta:
                fold(self.value, [{"type": "text", "text": delta}])
        elif isinstance(delta, list):
            if isinstance(self.value, Pieces):
                text = "".join(self.value)
                self.value = [{"type": "text", "text": Pieces([text])}] if text else []
            elif self.value is None:
                self.value = []
            fold(self.value, delta)


class Calls:
    """Tool calls that come in pieces: ids and names late, arguments bit by bit, several calls side by side."""

    __slots__ = ("_at", "_calls")

    def __init__(self) -> None:
        self._calls: list[dict[str, object]] = []
        self._at: dict[object, dict[str, object]] = {}
        """The newest call of each index, and of each id."""

    def add(self, delta: dict[str, object]) -> None:
        """A piece of one call. Its `index` says of which; without one, its id, else it goes on with the last call.

        A piece that brings another id and a name starts a call of its own even under an index that is taken: there
        are servers that number all their calls 0."""
        index = index if isinstance(index := delta.get("index"), int) else None
        id = id if isinstance(id := delta.get("id"), str) else ""
        body = delta.get("function") or delta.get("custom")
        name = body.get("name") if isinstance(body, dict) else None
        if index is not None:
            call = self._at.get(index)
        elif id:
            call = self._at.get(id)
        else:
            call = self._calls[-1] if self._calls else None
        if call is not None and (
            (id and name and call.get("id") not in (id, None, ""))
            or (index is None and not id and name and _name(call))
        ):
            call = None
        if call is None:
            call = {}
            self._calls.append(call)
        if index is not None:
            self._at[index] = call
        if id:
            self._at.setdefault(id, call)
        for member, value in delta.items():
            if member == "index":
                continue
            if member in ("id", "type"):
                if value and not call.get(member):
                    call[member] = value
                else:
                    call.setdefault(member, value)
            elif member in ("function", "custom") and isinstance(value, dict):
                _fold_function(call, member, value)
            else:
                call[member] = fold(call.get(member), value)

    def whole(self) -> list[dict[str, object]]:
        """The calls in the order in which they began; each string is still in `Pieces`."""
        return self._calls


def _name(call: dict[str, object]) -> str:
    body = call.get("function") or call.get("custom")
    name = body.get("name") if isinstance(body, dict) else ""
    return name if isinstance(name, str) else ""


def _fold_function(call: dict[str, object], member: str, delta: dict[str, object]) -> None:
    held = call.setdefault(member, {})
    if not isinstance(held, dict):
        return
    for key, value in delta.items():
        if key == "name":
            # there are servers that repeat the name with every piece, and others that send it in pieces
            name = held.get("name") or ""
            held["name"] = name if value == name else name + value if isinstance(value, str) else name
        else:
            held[key] = fold(held.get(key), value)


_LAST = frozenset({"id", "type", "index", "format", "name", "role", "signature", "thought_signature", "expires_at"})
"""Members of objects whose newest value counts where other strings are joined."""
_GROWING = frozenset({"text", "thinking", "reasoning.text", "reasoning.summary"})
"""Types of list items that come in pieces."""
_SIDE_BY_SIDE = 32
"""How many list items may grow at the same time: looking further back would cost the square of a long list."""


def fold(held: object, delta: object) -> object:
    """Adds a delta to what is held and returns it (lists and objects are changed in place).

    Strings are joined, lists extended, objects folded member by member; of everything else the newest value that is
    not null counts. A list item of a type that comes in pieces is joined to the item of its `index`, or where there is
    none to the last item, if that has its type.
    """
    if delta is None:
        return held
    if isinstance(delta, str) and isinstance(held, Pieces):
        held.append(delta)
        return held
    if isinstance(delta, dict) and isinstance(held, dict):
        for key, value in delta.items():
            held[key] = (value if value is not None else held.get(key)) if key in _LAST else fold(held.get(key), value)
        return held
    if isinstance(delta, list) and isinstance(held, list) and not isinstance(held, Pieces):
        for item in delta:
            place = _place(held, item)
            if place is None:
                held.append(_own(item))
            else:
                fold(place, item)
        return held
    return _own(delta)


def _place(held: list[object], item: object) -> dict[str, object] | None:
    if not isinstance(item, dict) or not isinstance(kind := item.get("type"), str) or kind not in _GROWING:
        return None
    index = item.get("index")
    for other in held[: -_SIDE_BY_SIDE - 1 if index is not None else -2 : -1]:
        if isinstance(other, dict) and other.get("index") == index:
            mine, its = item.get("id"), other.get("id")
            return other if other.get("type") == kind and (mine is None or its is None or mine == its) else None
    return None


def _own(value: object) -> object:
    """A value to which deltas can be added."""
    if isinstance(value, str):
        return Pieces([value])
    if isinstance(value, dict):
        return {key: each if key in _LAST else _own(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_own(each) for each in value]
    return value


def joined(value: object) -> object:
    """The value with every string in pieces joined."""
    if isinstance(value, Pieces):
        return "".join(value)
    if isinstance(value, dict):
        return {key: joined(each) for key, each in value.items()}
    if isinstance(value, list):
        return [joined(each) for each in value]
    return value
