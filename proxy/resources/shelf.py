"""Where a stored completion is kept: a ref without entries, named by the upstream's id; its label holds it all."""

import time
from collections.abc import Callable

import msgspec
import orjson

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Call
from proxy.exchange.record import LOGGED_CHARS, ExchangeRecord
from proxy.framing.members import Members
from proxy.resources.accumulate import Raws
from proxy.stores.contract import Ref, Store

ID_CHARS = 256
TRIES = 3
"""How often an id that is taken is freed before whoever takes it at the same time is left to have it."""


class Kept(msgspec.Struct, frozen=True):
    """The label of a stored completion."""

    completion: msgspec.Raw
    """Without its metadata; the bytes of an object that is not empty."""
    messages: tuple[msgspec.Raw, ...]
    """As the client sent them."""
    metadata: dict[str, str]
    models: tuple[str, ...]
    """The model's names: the upstream's, and the one that was asked for."""


read = msgspec.json.Decoder(Kept).decode
encode = msgspec.json.Encoder().encode
_messages = msgspec.json.Decoder(tuple[msgspec.Raw, ...]).decode


def usable(id: str) -> bool:
    """It can stand in a path and in any store."""
    return 0 < len(id) <= ID_CHARS and id.isprintable()


def ref_of(tenant: str, id: str) -> Ref:
    return Ref(tenant, "completion", id)


def string(raw: bytes | msgspec.Raw | None) -> str:
    """The decoded JSON string; "" for anything else."""
    try:
        value: object = orjson.loads(bytes(raw)) if raw is not None else None
    except orjson.JSONDecodeError:
        return ""
    return value if isinstance(value, str) else ""


class Shelf:
    """Where the completion of one request is put."""

    def __init__(
        self,
        store: Store,
        tenant: str,
        call: Call,
        said: dict[str, str],
        ttl_s: int | None,
        record: ExchangeRecord,
        say: Callable[[str], None],
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._call = call
        self._said = said
        self._ttl_s = ttl_s
        self._record = record
        self._say = say
        self._at = int(time.time())
        self._told = False
        self._written = b""

    async def keep(self, members: Raws, reply: Reply) -> None:
        """See `storing.Keep`. A completion that is given again is not stored again."""
        record, stateless = self._record, self._record.kind == "completion"
        if stateless:
            record.finish = reply.finish[:LOGGED_CHARS]
            record.prompt_tokens, record.completion_tokens = reply.prompt_tokens, reply.completion_tokens
        id = string(members.get("id"))
        if not usable(id):
            if not self._told:
                self._told = True
                self._say("a completion that was to be stored came without a usable id: it was not stored")
            return
        members.pop("metadata", None)
        members.setdefault("object", msgspec.Raw(b'"chat.completion"'))
        members.setdefault("created", msgspec.Raw(b"%d" % self._at))
        members.setdefault("model", msgspec.Raw(encode(self._call.model)))
        completion = encode(members)
        if self._written:
            await self._complete(ref_of(self._tenant, id), completion)
        else:
            models = tuple({string(members["model"]): None, self._call.model: None})
            kept = Kept(msgspec.Raw(completion), _listed(self._call.members), self._said, models)
            await self._put(ref_of(self._tenant, id), kept)
        self._written = completion
        if stateless:
            record.recorded = "whole"

    async def _put(self, ref: Ref, kept: Kept) -> None:
        store, label = self._store, encode(kept)
        for _ in range(TRIES):
            if await store.label(ref, label, new=True, ttl_s=self._ttl_s) or self._record.recorded == "replayed":
                return
            there = await store.labelled(ref)
            if there is not None:
                had = read(there.label)
                if bytes(had.completion) == bytes(kept.completion) and had.messages == kept.messages:
                    return
                await store.erase(ref)

    async def _complete(self, ref: Ref, completion: bytes) -> None:
        """More has come of a completion that is stored already; what became of it meanwhile stays."""
        there = await self._store.labelled(ref) if completion != self._written else None
        if there is not None:
            kept = read(there.label)
            if bytes(kept.completion) == self._written:
                kept = msgspec.structs.replace(kept, completion=msgspec.Raw(completion))
                await self._store.label(ref, encode(kept), new=False)


def _listed(members: Members) -> tuple[msgspec.Raw, ...]:
    raw = members.get("messages") or b""
    return _messages(raw) if raw.startswith(b"[") else ()
