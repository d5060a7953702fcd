"""What travels through a client as `encrypted_content`, to be read again when it comes back.

It is not secret: base64 of JSON, behind a word that says who wrote it. Remora keeps no key for it, and what another
provider sealed cannot be read here.
"""

import base64
import binascii
import json

import orjson

from proxy.dialects.responses.fields import refuse, text

SUMMARY = "remora-summary-1."
REASONING = "remora-reasoning-1."
OPAQUE = ("reasoning_details", "thinking_blocks")
"""Members of a chat message that hold reasoning in an upstream's own form, with what must come back as it is
(signatures, encrypted data)."""


def seal(kind: str, value: object) -> str:
    try:
        held = orjson.dumps(value)
    except orjson.JSONEncodeError:
        # large numbers, and surrogate pairs that a server cut in two; what stays alone of them is replaced
        whole = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
        held = whole.decode("utf-16-le", "replace").encode()
    return kind + base64.b64encode(held).decode()


def is_sealed(kind: str, value: object) -> bool:
    return isinstance(value, str) and value.startswith(kind)


def unseal(kind: str, value: object, member: str) -> object:
    """Raises InvalidBody for what was not sealed here, or was changed on its way."""
    sealed = text(value, member)
    if not sealed.startswith(kind):
        refuse(member, "was not made by this proxy, which cannot read it; send the items themselves")
    try:
        held: object = orjson.loads(base64.b64decode(sealed[len(kind) :], validate=True))
    except (binascii.Error, ValueError):
        refuse(member, "is damaged; send it as it was given")
    return held
