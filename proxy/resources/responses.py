"""The Responses API over Chat Completions: a response is an entry, its id a name for it that never moves.

A request is turned into one of Chat Completions and goes the way of every exchange; what comes back is turned into a
response before the client sees it. What a client may ask for again is kept as a note with the entry.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
import orjson

from proxy.conversation.entry import new_id
from proxy.conversation.reply import Reply
from proxy.dialects.contract import Asked, Dialect, Translation
from proxy.errors import InvalidBody, NotFound, PreviousResponseNotFound
from proxy.exchange.contract import Client, Headers, Marks, Request
from proxy.exchange.house import House
from proxy.exchange.identify import POLICY_HEADER, Identity, Own, recorded, session_of
from proxy.exchange.record import ExchangeRecord
from proxy.exchange.run import run_as
from proxy.framing.members import Members
from proxy.resources.ids import entry_of, response_id
from proxy.stores.contract import Noted, Ref

JSON = (("Content-Type", "application/json"),)
EVENTS = (("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-cache"))
PAGE, PAGE_AT_MOST = 20, 100

Object = dict[str, object]


class _Note(msgspec.Struct, frozen=True):
    """What is kept of a response."""

    response: msgspec.Raw
    input: tuple[msgspec.Raw, ...]


_note = msgspec.json.Decoder(_Note).decode
_encode = msgspec.json.Encoder().encode


class Responses:
    """`dialect`: what the upstream speaks."""

    def __init__(self, house: House, dialect: Dialect, translation: Translation) -> None:
        self._house = house
        self._dialect = dialect
        self._translation = translation

    async def create(self, request: Request, client: Client, record: ExchangeRecord) -> None:
        """Answers `POST …/responses`. Raises ProxyError while nothing has been sent."""
        tenant = request.tenant()
        entry = new_id()
        previous = _previous(request.body)
        session = session_of(request.headers, request.path_session, self._house.policies)
        ref, parent = Ref(tenant.name, "chain", entry), ""
        if session:
            ref = Ref(tenant.name, "session", session)
        if previous:
            found = await self._found(tenant.name, previous)
            if found is None or (session and found.ref != ref):
                raise PreviousResponseNotFound(
                    f"Previous response with id '{previous[:100]}' not found (previous_response_not_found).",
                    param="previous_response_id",
                )
            ref, parent = found.ref, found.entry.id
        id = response_id(entry, ref)
        asked = self._translation.read(request.body, id.removeprefix("resp_"))
        call = self._dialect.read(asked.chat)
        named = request.headers.get(POLICY_HEADER)
        policies = self._house.policies
        policy = policies.named(named) if named is not None else policies.matching(asked.model)
        speaker = _Speaker(client, asked, id.removeprefix("resp_"), self._dialect, self._translation)
        who = Identity(
            session=session or "",
            policy=policy,
            record=asked.store and recorded(request.headers),
            own=Own(
                ref=ref,
                parent=parent if previous or not session else None,
                entry=entry,
                lead=asked.instructions,
                note=speaker.note,
            ),
        )
        path, mark, query = request.target.partition("?")
        chat = msgspec.structs.replace(
            request,
            target=path.rstrip("/").removesuffix("/responses") + "/chat/completions" + mark + query,
            body=asked.chat,
            raw=asked.chat,
            encoding="",
        )
        await run_as(self._dialect, chat, call, who, self._house, speaker, record)

    async def retrieve(self, tenant: str, id: str) -> bytes:
        """The response as it was given. Raises NotFound, StoreUnavailable."""
        return bytes((await self._kept(tenant, id))[1].response)

    async def delete(self, tenant: str, id: str) -> bytes:
        """Its id is unknown from now on; responses that go on from it keep their context."""
        noted, _ = await self._kept(tenant, id)
        await self._house.store.annotate(noted.ref, noted.entry.id, b"")
        return orjson.dumps({"id": id, "object": "response", "deleted": True})

    async def input_items(self, tenant: str, id: str, query: Mapping[str, str]) -> bytes:
        """The response's own input, a page of it. Raises NotFound, InvalidBody."""
        _, note = await self._kept(tenant, id)
        order = query.get("order", "desc")
        limit = query.get("limit", str(PAGE))
        if order not in ("asc", "desc"):
            raise InvalidBody("order is asc or desc.", param="order")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:4]) <= PAGE_AT_MOST):
            raise InvalidBody(f"limit is a number from 1 to {PAGE_AT_MOST}.", param="limit")
        items: Sequence[msgspec.Raw] = note.input if order == "asc" else note.input[::-1]
        ids = [str(orjson.loads(bytes(item))["id"]) for item in items]
        if (after := query.get("after")) is not None:
            if after not in ids:
                raise InvalidBody(f"There is no item '{after[:100]}' to go on after.", param="after")
            items, ids = items[ids.index(after) + 1 :], ids[ids.index(after) + 1 :]
        more = len(items) > int(limit)
        items, ids = items[: int(limit)], ids[: int(limit)]
        return _encode(
            {
                "object": "list",
                "data": items,
                "first_id": ids[0] if ids else None,
                "last_id": ids[-1] if ids else None,
                "has_more": more,
            }
        )

    async def _found(self, tenant: str, id: str) -> Noted | None:
        parts = entry_of(id)
        noted = await self._house.store.find(tenant, parts[1], parts[0]) if parts else None
        return noted if noted and noted.note and noted.entry.facts.state != "failed" else None

    async def _kept(self, tenant: str, id: str) -> tuple[Noted, _Note]:
        noted = await self._found(tenant, id)
        if noted is None:
            raise NotFound(f"Response with id '{id[:100]}' not found.")
        return noted, _note(noted.note)


def _previous(body: bytes) -> str:
    raw = Members(body).get("previous_response_id") or b"null"
    value = orjson.loads(raw)
    if value is None:
        return ""
    if not isinstance(value, str) or not value:
        raise InvalidBody("previous_response_id is the id of a response.", param="previous_response_id")
    return value


class _Speaker:
    """A client of the Responses API, to whom the exchange speaks Chat Completions. Implements `Client`."""

    def __init__(self, client: Client, asked: Asked, id: str, dialect: Dialect, translation: Translation) -> None:
        self._client = client
        self._asked = asked
        self._id = id
        self._at = int(time.time())
        self._response: Object | None = None
        self._reader = dialect.reader(dialect.read(asked.chat), stream=True)
        self._plain = dialect.reader(dialect.read(asked.chat), stream=False)
        self._translation = translation
        self._transcoder = translation.transcoder(asked, id, self._at)
        self._translates = False
        self._head: tuple[str, Headers, Marks] | None = None
        """Of a stream that the upstream sent and nobody asked for: it becomes a plain reply at its end."""

    @property
    def gone(self) -> bool:
        return self._client.gone

    @property
    def started(self) -> bool:
        return self._client.started

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._client.on_gone(callback)

    def note(self, reply: Reply) -> bytes:
        """What is kept with the entry: the response, and its own input."""
        self._response = self._made(reply)
        return _encode(_Note(msgspec.Raw(_encode(self._response)), tuple(map(msgspec.Raw, self._asked.items))))

    async def send(self, status: int, reason: str, headers: Headers, marks: Marks, body: bytes) -> bool:
        if not 200 <= status < 300:
            return await self._client.send(status, reason, headers, marks, body)
        self._plain.feed(body)
        self._plain.end()
        reply = self._plain.reply()
        if reply.message is None:
            return await self._client.send(status, reason, headers, marks, body)
        made = self._response or self._made(reply)
        if not self._asked.stream:
            return await self._client.send(status, reason, headers, (*marks, *JSON), _encode(made))
        await self._client.start(status, reason, headers, (*marks, *EVENTS), sized=False)
        await self._client.write(self._translation.whole(made))
        return await self._client.finish()

    async def start(self, status: int, reason: str, headers: Headers, marks: Marks, *, sized: bool) -> None:
        self._translates = 200 <= status < 300 and not sized
        if not self._translates:
            await self._client.start(status, reason, headers, marks, sized=sized)
        elif self._asked.stream:
            await self._client.start(status, reason, headers, (*marks, *EVENTS), sized=False)
            await self._client.write(self._transcoder.begin())
        else:
            self._head = reason, headers, marks

    async def write(self, data: bytes) -> None:
        if not self._translates:
            await self._client.write(data)
            return
        self._reader.feed(data)
        if self._head is None:
            await self._client.write(self._transcoder.feed(data))

    async def finish(self) -> bool:
        if not self._translates:
            return await self._client.finish()
        self._reader.end()
        made = self._response or self._made(self._reader.reply())
        if self._head is not None:
            reason, headers, marks = self._head
            return await self._client.send(200, reason, headers, (*marks, *JSON), _encode(made))
        await self._client.write(self._transcoder.end(made))
        return await self._client.finish()

    def break_off(self) -> None:
        self._client.break_off()

    def _made(self, reply: Reply) -> Object:
        return self._translation.answer(self._asked, self._id, self._at, reply)
