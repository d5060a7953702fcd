"""Stored chat completions: what a client asked to `store` can be listed, read, labelled with metadata and deleted.

A stored completion is a ref without entries, named by the id that the upstream gave; its label holds the completion,
the messages that the client itself sent (not the history that a session put before them), and the metadata. An
upstream that gives the same id again (there are some that draw it from a thousand) replaces what was stored under it:
whoever has just seen a reply finds that one. What has no id that can be asked for is not stored, and the log says so.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote

import msgspec
import orjson

from proxy.dialects.contract import Call, Dialect
from proxy.errors import InvalidBody, NotFound
from proxy.exchange.contract import Client, Request
from proxy.exchange.house import House
from proxy.exchange.identify import POLICY_HEADER, identify, recorded
from proxy.exchange.record import ExchangeRecord
from proxy.exchange.run import run_as
from proxy.framing.members import Members
from proxy.resources.accumulate import from_body
from proxy.resources.metadata import metadata
from proxy.resources.paging import listing, page, paged, unknown_after
from proxy.resources.shelf import Kept, Shelf, encode, read, ref_of, string, usable
from proxy.resources.storing import Storing
from proxy.stores.contract import Label, Ref

SCAN = 25
"""Labels that are read at a time; each may be as large as a request."""
_PATH = re.compile(r".*/chat/completions(?:/(?P<id>[^/]+)(?P<messages>/messages)?)?").fullmatch
_FILTER = re.compile(r"metadata\[(.*)\]", re.DOTALL).fullmatch


def completion_path(method: str, path: str) -> tuple[str, str] | None:
    """(`list`, `retrieve`, `messages`, `update` or `delete`, the completion's id) that this method and path ask of
    stored completions; None for anything else."""
    found = _PATH(path.rstrip("/"))
    if found is None:
        return None
    id = unquote(found["id"] or "")
    if found["messages"]:
        return ("messages", id) if method == "GET" else None
    if not id:
        return ("list", "") if method == "GET" else None
    what = {"GET": "retrieve", "POST": "update", "DELETE": "delete"}.get(method)
    return (what, id) if what else None


def stores(body: bytes) -> bool:
    """The body asks for its completion to be stored. False too for what is no JSON object."""
    try:
        return _wanted(Members(body))
    except InvalidBody:
        return False


class Completions:
    """`dialect`: Chat Completions. `say` writes a line of the log."""

    def __init__(self, house: House, dialect: Dialect, say: Callable[[str], None]) -> None:
        self._house = house
        self._dialect = dialect
        self._say = say

    async def create(self, request: Request, client: Client, record: ExchangeRecord) -> None:
        """Answers `POST …/chat/completions`, of a session or not; stores the completion if the request says so, unless
        `X-Session-Record` says no. Raises ProxyError while nothing has been sent."""
        policies = self._house.policies
        call = _call(request.body)
        who = identify(request.headers, request.path_session, call, policies)
        if who is not None:
            call = self._dialect.read(request.body)
        if _wanted(call.members) and recorded(request.headers):
            tenant = request.tenant()
            said = metadata(call.members.get("metadata") or b"null")
            if who is not None:
                policy = who.policy
            else:
                named = request.headers.get(POLICY_HEADER)
                policy = policies.named(named) if named is not None else policies.matching(call.model)
                record.kind, record.tenant, record.policy = "completion", tenant.shown, policy.name
                request.upstream_headers["Accept-Encoding"] = "identity"
            shelf = Shelf(self._house.store, tenant.name, call, said, policy.ttl_s, record, self._say)
            client = Storing(client, self._dialect, call, shelf.keep, record)
        await run_as(self._dialect, request, call, who, self._house, client, record)

    async def retrieve(self, tenant: str, id: str) -> bytes:
        """The completion as it was given, a streamed one as a whole, with its metadata. Raises NotFound,
        StoreUnavailable, as all that follow."""
        return _shown((await self._found(tenant, id))[1])

    async def list(self, tenant: str, query: Mapping[str, str]) -> bytes:
        """A page of them, by `model` and `metadata[key]` too. Raises InvalidBody."""
        asked = page(query, order="asc")
        model, wanted = query.get("model"), _filters(query)
        found: list[tuple[str, Kept]] = []
        after = asked.after
        most = SCAN if model is not None or wanted else min(asked.limit + 1, SCAN)
        while len(found) <= asked.limit:
            labels = await self._labels(tenant, after, most, newest_first=asked.newest_first)
            if not labels and after is not None and after == asked.after:
                await self._known(tenant, after)
            for each in labels:
                kept = read(each.label)
                if (model is None or model in kept.models) and wanted.items() <= kept.metadata.items():
                    found.append((each.ref.name, kept))
            if len(labels) < most:
                break
            after = labels[-1].ref.name
        shown = found[: asked.limit]
        return listing([_shown(kept) for _, kept in shown], [id for id, _ in shown], len(found) > asked.limit)

    async def messages(self, tenant: str, id: str, query: Mapping[str, str]) -> bytes:
        """A page of the messages that the client sent. Raises InvalidBody."""
        asked = page(query, order="asc")
        _, kept = await self._found(tenant, id)
        ids = [f"{id}-{at}" for at in range(len(kept.messages))]
        return paged([_message(*each) for each in zip(ids, kept.messages, strict=True)], ids, asked)

    async def update(self, tenant: str, id: str, body: bytes) -> bytes:
        """Replaces the metadata. Raises InvalidBody."""
        members = Members(body)
        raw = members.get("metadata")
        if raw is None:
            raise InvalidBody("The body has no metadata; send an object of strings.", param="metadata")
        for name in members.names():
            if name != "metadata":
                raise InvalidBody("Of a stored completion only the metadata can be changed.", param=name[:100])
        said = metadata(raw)
        ref, kept = await self._found(tenant, id)
        kept = msgspec.structs.replace(kept, metadata=said)
        if not await self._house.store.label(ref, encode(kept), new=False):
            raise _unknown(id)
        return _shown(kept)

    async def delete(self, tenant: str, id: str) -> bytes:
        """Its content is gone for good."""
        if not usable(id) or not await self._house.store.erase(ref_of(tenant, id)):
            raise _unknown(id)
        return orjson.dumps({"object": "chat.completion.deleted", "id": id, "deleted": True})

    async def _labels(self, tenant: str, after: str | None, most: int, *, newest_first: bool) -> Sequence[Label]:
        if after is not None and not usable(after):
            return ()
        return await self._house.store.labels(tenant, "completion", after=after, most=most, newest_first=newest_first)

    async def _known(self, tenant: str, after: str) -> None:
        if not usable(after) or await self._house.store.labelled(ref_of(tenant, after)) is None:
            raise unknown_after(after)

    async def _found(self, tenant: str, id: str) -> tuple[Ref, Kept]:
        label = await self._house.store.labelled(ref_of(tenant, id)) if usable(id) else None
        if label is None:
            raise _unknown(id)
        return label.ref, read(label.label)


def _call(body: bytes) -> Call:
    """What must be known of a request that is relayed as it came; its messages are the upstream's to judge. Raises
    InvalidBody."""
    members = Members(body)
    count = members.get("n") or b""
    return Call(
        members=members,
        model=string(members.get("model")),
        stream=members.get("stream") == b"true",
        choices=max(1, int(count)) if count.isdigit() and len(count) <= 4 else 1,
        preamble=(),
        messages=(),
        prefill=None,
        reserve=None,
        overhead=b"",
    )


def _wanted(members: Members) -> bool:
    return members.get("store") == b"true"


def _shown(kept: Kept) -> bytes:
    return b'%b,"metadata":%b}' % (bytes(kept.completion)[:-1], encode(kept.metadata))


def _message(id: str, wire: msgspec.Raw) -> bytes:
    """In the form of `ChatCompletionStoreMessage`: content that came in parts stands in a member of its own."""
    members = from_body(bytes(wire))
    content = members.pop("content", msgspec.Raw(b"null"))
    parts, null = bytes(content).startswith(b"["), msgspec.Raw(b"null")
    shown = {"id": id, "content": null if parts else content, "content_parts": content if parts else null}
    return encode({**members, **shown})


def _filters(query: Mapping[str, str]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for name, value in query.items():
        if found := _FILTER(name):
            wanted[found[1]] = value
        elif name.startswith("metadata"):
            raise InvalidBody("A filter by metadata is metadata[key]=value.", param="metadata")
    return wanted


def _unknown(id: str) -> NotFound:
    return NotFound(f"Chat completion with id '{id[:100]}' not found.")
