"""Chat Completions, written: a call's body with another history, as the upstream's chat template can take it.

Messages that no quirk concerns keep their bytes, and in a changed message each member that is not concerned keeps
its own. A leading assistant message is left alone: there is nothing to put before it that somebody has said.
"""

from collections.abc import Iterable, Sequence

import msgspec
import orjson

from proxy.conversation.quirks import Quirks
from proxy.dialects.chat.read import FUNCTION, NO_ID
from proxy.dialects.contract import Call

_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode

Fields = dict[str, msgspec.Raw]
"""A message by its raw members."""
_LEADING = ("system", "developer")
_CALLS = ("tool_calls", "function_call")
_EMPTY = (b"null", b'""', b"[]")


def write(call: Call, preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks) -> bytes:
    """See `Dialect.write`."""
    if call.prefill is not None:
        messages = (*messages, call.prefill.wire)
    return call.members.replace("messages", array(preamble, messages, quirks))


def array(preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks) -> bytes:
    """The member `messages`: runs of messages' bytes, in the form that `quirks` asks for."""
    runs = [run for run in (*preamble, *messages) if run]
    if quirks.alternate or quirks.one_system or quirks.developer != "developer":
        lead = sum(1 for run in preamble if run)
        runs = adapt(_split(runs[:lead]), _split(runs[lead:]), quirks)
    return b"[%b]" % b",".join(runs)


def no_result(call_id: str) -> bytes:
    """See `Dialect.no_result`."""
    content = "No result: the call was not answered."
    if call_id.startswith(FUNCTION):
        return orjson.dumps({"role": "function", "name": call_id.removeprefix(FUNCTION), "content": content})
    return orjson.dumps({"role": "tool", "tool_call_id": "" if call_id == NO_ID else call_id, "content": content})


def adapt(preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks) -> list[bytes]:
    """The bytes of each message to send, preamble first, in the form that `quirks` asks for.

    Merged messages have their texts joined by an empty line (lists of parts are concatenated), all members of the
    first, and those members of the later ones that the first has not.
    """
    lead = [_renamed(each, quirks) for each in preamble]
    if quirks.one_system and len(lead) > 1:
        role = "system" if any(role == "system" for role, _ in lead) else lead[0][0]
        merged = _merged([wire for _, wire in lead])
        lead = [(role, _with_role(merged, role))]
    rest = [_renamed(each, quirks) for each in messages]
    if quirks.one_system:
        rest = [("user", _with_role(wire, "user")) if role in _LEADING else (role, wire) for role, wire in rest]
    return [wire for _, wire in (*lead, *(_alternating(rest) if quirks.alternate else rest))]


def _alternating(messages: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Merges neighbours that are both the user's, or both the assistant's unless the first makes calls."""
    out: list[tuple[str, bytes]] = []
    run: list[bytes] = []
    before = ""
    for role, wire in messages:
        if run and role == before and not (role == "assistant" and _calling(run[-1])):
            run.append(wire)
            continue
        if run:
            out.append((before, _merged(run)))
        if role in ("user", "assistant"):
            run, before = [wire], role
        else:
            run, before = [], role
            out.append((role, wire))
    if run:
        out.append((before, _merged(run)))
    return out


def _calling(wire: bytes) -> bool:
    fields = _fields(wire)
    return any(bytes(fields[name]) not in _EMPTY for name in _CALLS if name in fields)


def _renamed(wire: bytes, quirks: Quirks) -> tuple[str, bytes]:
    """(role, bytes); a developer's message under the name that is wanted."""
    role = _text(_fields(wire)["role"])
    if role == "developer" and quirks.developer != "developer":
        return quirks.developer, _with_role(wire, quirks.developer)
    return role, wire


def _with_role(wire: bytes, role: str) -> bytes:
    return _encode({**_fields(wire), "role": msgspec.Raw(orjson.dumps(role))})


def _merged(wires: Sequence[bytes]) -> bytes:
    if len(wires) == 1:
        return wires[0]
    fields = [_fields(wire) for wire in wires]
    whole: Fields = {}
    for each in fields:
        for name, raw in each.items():
            if name not in whole or bytes(whole[name]) in _EMPTY:
                whole[name] = raw
    for name in ("content", "refusal"):
        said = [bytes(each[name]) for each in fields if name in each and bytes(each[name]) not in _EMPTY]
        if len(said) > 1:
            whole[name] = msgspec.Raw(join_contents(said, "\n\n"))
    return _encode(whole)


def join_contents(contents: Sequence[bytes], between: str) -> bytes:
    """Raw contents as one: texts joined by `between`; if there is a list of parts among them, a list of parts."""
    if all(content.startswith(b'"') for content in contents):
        return _encode(between.join(map(_text, contents)))
    parts: list[msgspec.Raw] = []
    for content in contents:
        if content.startswith(b'"'):
            parts.append(msgspec.Raw(b'{"type":"text","text":%b}' % content))
        else:
            parts += _raws(content)
    return _encode(parts)


def _split(runs: Sequence[bytes]) -> list[bytes]:
    return [bytes(raw) for raw in _raws(b"[%b]" % b",".join(runs))]
