"""The chunks of a streamed chat completion -> the completion object that they add up to, as SDKs add them up.

Unlike a dialect's Reply, which is one message in the form in which it is sent again, this is the reply as it was given:
all choices, log probabilities, sound, and members that nobody knows.
"""

import json

import msgspec
import orjson

from proxy.conversation.reply import Calls, Parts, fold, joined
from proxy.framing import sse

Raws = dict[str, msgspec.Raw]

_raws = msgspec.json.Decoder(Raws).decode
_OF_CHUNKS = frozenset({"choices", "object", "obfuscation"})
"""Members of chunks that a completion has in another form, or not at all."""


class _Choice:
    __slots__ = ("calls", "content", "message", "others")

    def __init__(self) -> None:
        self.content = Parts()
        self.calls = Calls()
        self.message: dict[str, object] = {}
        self.others: dict[str, object] = {"logprobs": None, "finish_reason": None}

    def add(self, choice: dict[str, object]) -> None:
        for member, value in choice.items():
            if value is None or member in ("index", "delta", "message", "obfuscation"):
                continue
            self.others[member] = fold(self.others[member], value) if member == "logprobs" else value
        delta = choice.get("delta")
        delta = choice.get("message") if delta is None else delta
        for member, value in delta.items() if isinstance(delta, dict) else ():
            if value is None:
                continue
            if member == "content":
                self.content.add(value)
            elif member == "tool_calls" and isinstance(value, list):
                for call in value:
                    if isinstance(call, dict):
                        self.calls.add(call)
            elif member == "role":
                self.message[member] = value
            else:
                self.message[member] = fold(self.message.get(member), value)

    def whole(self, index: int) -> dict[str, object]:
        message = {"role": "assistant", "content": self.content.value, "refusal": None} | self.message
        if calls := self.calls.whole():
            for call in calls:
                if not call.get("type"):
                    call["type"] = "custom" if "custom" in call else "function"
            message["tool_calls"] = calls
        return {"index": index, "message": joined(message)} | {name: joined(each) for name, each in self.others.items()}


def from_stream(data: bytes) -> Raws:
    """The members of the completion; {} if no chunk was read."""
    members: dict[str, object] = {}
    choices: dict[int, _Choice] = {}
    for _, event in sse.events(data):
        if event.startswith(b"[DONE]"):
            break
        chunk = _loaded(event)
        if not isinstance(chunk, dict):
            continue
        for member, value in chunk.items():
            # some servers put an empty id into the first chunk, and the true one into those that follow
            if value is not None and member not in _OF_CHUNKS and (member != "id" or not members.get("id")):
                members[member] = value
        listed = chunk.get("choices")
        for choice in listed if isinstance(listed, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                at = index if isinstance(index, int) else 0
                choices.setdefault(at, _Choice()).add(choice)
    if not members and not choices:
        return {}
    members["object"] = "chat.completion"
    members["choices"] = [choices[at].whole(at) for at in sorted(choices)]
    return _raws(_dumped(members))


def from_body(body: bytes) -> Raws:
    """The members of a plain completion, each with its bytes; {} if it is none."""
    try:
        return _raws(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _loaded(body)
        return _raws(_dumped(value)) if isinstance(value, dict) else {}


def _loaded(data: bytes) -> object:
    """None for what is no JSON."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        # there are servers that cut a surrogate pair in two; the halves are joined when all is read
        return json.loads(data.decode())
    except (ValueError, RecursionError):
        return None


def _dumped(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=False)
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
