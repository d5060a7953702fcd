"""A Responses request, written: a call's body with another history, for an upstream that keeps nothing.

`store` becomes false, and with it the sealed form of reasoning is asked for, by which it survives. What names stored
things is the proxy's to answer and does not travel.
"""

from collections.abc import Mapping, Sequence

import msgspec
import orjson

from proxy.conversation.quirks import Quirks
from proxy.dialects.contract import Call
from proxy.dialects.responses.native.items import ANSWERED, BLANK, encode, fields_of
from proxy.dialects.responses.native.read import said_by_user
from proxy.dialects.responses.native.runs import split
from proxy.framing.members import Members

_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode

SEALED = b'"reasoning.encrypted_content"'
PROXYS = ("previous_response_id", "conversation", "conversation_id", "background")
"""Members that the proxy answers."""
_LEADING = ("system", "developer")
_MERGED = ("user", "assistant")
_MESSAGE = b'"message"'
_NO_RESULT = "No result: the call was not answered."
_NO_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsZ0LgAAAAABJRU5ErkJggg=="
)

Fields = dict[str, msgspec.Raw]


def write(call: Call, preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks) -> bytes:
    """See `Dialect.write`."""
    if call.prefill is not None:
        messages = (*messages, call.prefill.wire)
    members = call.members
    changed: dict[str, bytes] = {}
    instructions = members.get("instructions") or b"null"
    if quirks.one_system and instructions.startswith(b'"') and (merged := _instructed(instructions, preamble)):
        changed["instructions"], preamble = merged, ()
    changed["input"] = input_of(preamble, messages, quirks, members.get("input"))
    if members.get("store") != b"false":
        changed["store"] = b"false"
        if (include := included(members.get("include"))) is not None:
            changed["include"] = include
    names = members.names()
    if len(changed) == 1 and "input" in names and not any(name in names for name in PROXYS):
        return members.replace("input", changed["input"])
    return rewritten(members, changed)


def rewritten(members: Members, changed: Mapping[str, bytes]) -> bytes:
    """The body with these values, without what is the proxy's; the other members keep their bytes and their order."""
    out: dict[str, bytes] = {}
    for name in members.names():
        if name not in PROXYS:
            out[name] = changed[name] if name in changed else members.get(name) or b"null"
    return object_of({**out, **changed})


def object_of(members: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join([b"%b:%b" % (orjson.dumps(name), raw) for name, raw in members.items()])


def input_of(preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks, given: bytes | None = None) -> bytes:
    """The member `input`: runs of messages' bytes, in the form that `quirks` asks for. `given`, the client's own, stays
    if it is a string that says the same."""
    runs = [run for run in (*preamble, *messages) if run]
    if quirks.alternate or quirks.one_system or quirks.developer != "developer":
        lead = sum(1 for run in preamble if run)
        runs = _adapted(split(runs[:lead]), split(runs[lead:]), quirks)
    if given is not None and given.startswith(b'"') and len(runs) == 1 and runs[0] == said_by_user(given):
        return given
    return b"[%b]" % b",".join(runs)


def no_result(call_id: str) -> bytes:
    """See `Dialect.no_result`."""
    kind, id = "function_call", call_id
    for other, prefix in ANSWERED.items():
        if prefix and call_id.startswith(prefix):
            kind, id = other, call_id.removeprefix(prefix)
    match kind:
        case "mcp_approval_request":
            return orjson.dumps({"type": "mcp_approval_response", "approval_request_id": id, "approve": False})
        case "computer_call":
            shown = {"type": "computer_screenshot", "image_url": _NO_PICTURE}
            return orjson.dumps({"type": "computer_call_output", "call_id": id, "output": shown})
        case "local_shell_call":
            return orjson.dumps({"type": "local_shell_call_output", "id": id, "output": _NO_RESULT})
        case "apply_patch_call":
            failed = {"status": "failed", "output": _NO_RESULT}
            return orjson.dumps({"type": "apply_patch_call_output", "call_id": id, **failed})
    return orjson.dumps({"type": f"{kind}_output", "call_id": id, "output": _NO_RESULT})


def included(raw: bytes | None) -> bytes | None:
    """The member `include` (raw) with the sealed reasoning; None: it needs no change, or is none of ours to judge."""
    if raw is None or raw in (b"null", b"[]"):
        return b"[%b]" % SEALED
    if not raw.startswith(b"["):
        return None
    listed = _raws(raw)
    return None if SEALED in map(bytes, listed) else b"[%b]" % b",".join([*map(bytes, listed), SEALED])


def _instructed(instructions: bytes, preamble: Sequence[bytes]) -> bytes | None:
    """The instructions with the preamble's texts before them: together they are the one system message. None: there
    are none, or they are not only texts."""
    contents = [bytes(fields_of(item).get("content", b"null")) for item in split([run for run in preamble if run])]
    if not contents or not all(content.startswith(b'"') for content in contents):
        return None
    return join_contents([*contents, instructions])


def _adapted(preamble: Sequence[bytes], items: Sequence[bytes], quirks: Quirks) -> list[bytes]:
    lead = [_renamed(each, quirks) for each in preamble]
    if quirks.one_system and len(lead) > 1:
        role = "system" if any(role == "system" for role, _ in lead) else lead[0][0]
        lead = [(role, _with_role(_merge([wire for _, wire in lead]), role))]
    rest = [_renamed(each, quirks) for each in items]
    if quirks.one_system:
        rest = [("user", _with_role(wire, "user")) if role in _LEADING else (role, wire) for role, wire in rest]
    if quirks.alternate:
        rest = _alternating(rest)
    return [wire for _, wire in (*lead, *rest)]


def _alternating(items: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Merges neighbouring messages of one role. Reasoning and calls are no neighbours: the upstream makes one message
    of them and the text beside them."""
    out: list[tuple[str, list[bytes]]] = []
    for role, wire in items:
        if out and role in _MERGED and out[-1][0] == role:
            out[-1][1].append(wire)
        else:
            out.append((role, [wire]))
    return [(role, _merge(wires)) for role, wires in out]


def _renamed(wire: bytes, quirks: Quirks) -> tuple[str, bytes]:
    """(role, "" for what is no message; bytes); a developer's message under the name that is wanted."""
    fields = fields_of(wire)
    role = _text(fields["role"]) if bytes(fields.get("type", _MESSAGE)) == _MESSAGE else ""
    if role == "developer" and quirks.developer != "developer":
        return quirks.developer, _with_role(wire, quirks.developer)
    return role, wire


def _with_role(wire: bytes, role: str) -> bytes:
    return encode({**fields_of(wire), "role": msgspec.Raw(orjson.dumps(role))})


def _merge(wires: Sequence[bytes]) -> bytes:
    if len(wires) == 1:
        return wires[0]
    fields = [fields_of(wire) for wire in wires]
    whole: Fields = {}
    for each in fields:
        for name, raw in each.items():
            whole.setdefault(name, raw)
    said = [content for each in fields if (content := bytes(each.get("content", b"null"))) not in BLANK]
    kind = "output_text" if bytes(whole.get("role", b"")) == b'"assistant"' else "input_text"
    return encode({**whole, "content": msgspec.Raw(join_contents(said, kind) if said else b'""')})


def join_contents(contents: Sequence[bytes], kind: str = "input_text") -> bytes:
    """Raw contents as one: texts with an empty line between; if there is a list of parts among them, a list of parts,
    in which texts are of type `kind`."""
    if all(content.startswith(b'"') for content in contents):
        return encode("\n\n".join(map(_text, contents)))
    parts: list[msgspec.Raw] = []
    for content in contents:
        if content.startswith(b'"'):
            more = b',"annotations":[]' if kind == "output_text" else b""
            parts.append(msgspec.Raw(b'{"type":"%b","text":%b%b}' % (kind.encode(), content, more)))
        else:
            parts += _raws(content)
    return encode(parts)
