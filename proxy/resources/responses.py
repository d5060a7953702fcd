"""The Responses API over a stateless dialect: a response is an entry, its id a name for it that never moves.

A request is turned into one of the upstream's and goes the way of every exchange; what comes back is turned into a
response before the client sees it. What a client may ask for again is kept as a note with the entry; of a response that
is still being made, or never came to its end, as the state of its run.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
import orjson

from proxy.context.contract import Window
from proxy.dialects.contract import Asked, Call, Dialect, Translation
from proxy.errors import (
    IdempotencyKeyReused,
    InvalidBody,
    InvalidHeader,
    NotFound,
    Overloaded,
    ProxyError,
    StoreUnavailable,
)
from proxy.exchange.contract import Client, Request
from proxy.exchange.house import House
from proxy.exchange.identify import Identity, Own, recorded
from proxy.exchange.record import ExchangeRecord
from proxy.exchange.retry import Attempt, attempt
from proxy.exchange.run import run_as
from proxy.exchange.turnstile import Visit
from proxy.policy import Policy
from proxy.resources import notes
from proxy.resources.alone import alone
from proxy.resources.ids import entry_of, entry_of_item, response_id
from proxy.resources.live import Live
from proxy.resources.paging import page, paged
from proxy.resources.places import Place, Places, not_found
from proxy.resources.repeats import Repeats
from proxy.resources.runs import Runs
from proxy.resources.speaker import Nobody, Speaker
from proxy.resources.telling import Telling
from proxy.stores.contract import Replay

CANCEL_S = 10.0
"""How long a cancellation waits for the owner to notice."""


class Responses:
    """`dialect`: what the upstream speaks."""

    def __init__(self, house: House, dialect: Dialect, translation: Translation, runs: Runs) -> None:
        self._house = house
        self._dialect = dialect
        self._translation = translation
        self.runs = runs
        self._repeats = Repeats(house.store)
        self._parents: Counter[tuple[str, str]] = Counter()
        """Entries that responses go on from right now."""
        self._deleted: set[tuple[str, str]] = set()
        """Those of them whose responses were deleted meanwhile."""
        self.places = Places(house, runs, self._repeats)
        self._telling = Telling(house, translation, runs, self.places)

    async def create(self, request: Request, client: Client, record: ExchangeRecord) -> None:
        """Answers `POST …/responses`. Raises ProxyError while nothing has been sent."""
        tenant = request.tenant().name
        place = await self.places.of(request)
        asked = await self.read(request, place)
        call = self.call(asked)
        policy = self.policy(request, asked)
        keeps = asked.store and recorded(request.headers)
        if asked.background and not keeps:
            raise InvalidHeader(
                "background can only be used when the response is recorded; leave X-Session-Record out."
            )
        tried = attempt(request.headers, request.body)
        again = tried if asked.background and tried is not None and tried.again else None
        if again is not None and await self._begun_before(place, asked, again, client):
            return
        echo: notes.Object = {} if keeps or not asked.store else {"store": False}
        if asked.truncates is None and policy.window is not None:
            echo["truncation"] = "auto"

        def begin(state: bytes) -> Live | None:
            if not keeps:
                return None
            live = self.runs.begin(place.ref, place.entry, policy.ttl_s, state, announced=asked.background)
            live.visit = own.visit
            return live

        to = Nobody() if asked.background else client
        key = tried.request if tried is not None and tried.sticky else b""
        speaker = Speaker(to, asked, place.digits, call, self._dialect, self._translation, begin, echo, key)
        own = _Visits(self.runs, tenant, place.entry)
        who = Identity(place.session, policy, keeps, own=self._own(place, asked, speaker, key, own))
        chat = self.chat(request, asked)
        if asked.background:
            await self._begun(client, asked, tried, place, chat, call, who, speaker, record)
            return

        def waits(visit: Visit) -> None:
            client.on_gone(lambda: self._house.turnstile.client_left(visit))

        if not await self.places.made(place, policy, waits) or client.gone:
            return
        async with self._going_on(place):
            try:
                await run_as(self._dialect, chat, call, who, self._house, speaker, record)
            finally:
                left = speaker.close(recorded=record.recorded not in ("", "failed"))
                if left is not None and policy.session.on_disconnect == "discard":
                    await self.runs.drop(left)
        self._repeats.ended(request, place.entry, client)

    async def _begun(
        self,
        client: Client,
        asked: Asked,
        tried: Attempt | None,
        place: Place,
        chat: Request,
        call: Call,
        who: Identity,
        speaker: Speaker,
        record: ExchangeRecord,
    ) -> None:
        """Answers at once, and leaves the response to a task of its own."""
        if self.runs.full:
            raise Overloaded("Too many responses are being made in the background; send it again later.")
        if tried is not None:
            if tried.again and (first := self._repeats.first(place.ref, tried)):
                # it came while this one was looked for
                await self._told_before(place, first, asked, tried, client)
                return
            self._repeats.begin(place.ref, place.id, tried)
        live, made = speaker.announce()
        log = msgspec.structs.replace(record)
        try:
            if not await self.runs.announce(live):
                if tried is not None:
                    self._repeats.failed(place.ref, tried)
                    if await self._begun_before(place, asked, tried, client):
                        # another process has begun it meanwhile
                        return
                raise NotFound("The response, or what it belongs to, was deleted meanwhile.")
            self.runs.spawn(lambda: self._background(place, chat, call, who, speaker, live, log))
        except ProxyError as error:
            if tried is not None:
                self._repeats.failed(place.ref, tried)
            if isinstance(error, Overloaded):
                await self.runs.drop(live)
            raise
        record.kind, record.status = "background", 200
        await self._telling.begins(live, notes.encode(made), client, stream=asked.stream)
        if tried is not None and not client.gone:
            self._repeats.told(place.ref, tried)

    async def _begun_before(self, place: Place, asked: Asked, tried: Attempt, client: Client) -> bool:
        """The same request once more, for a response that nobody waits for: it is told how far that is. Others wait for
        the first one on the exchange's way. Raises IdempotencyKeyReused."""
        first = self._repeats.first(place.ref, tried)
        if first is None and tried.sticky and (said := await self._telling.begun(place)) is not None:
            first = place.id, said
        if first is not None:
            await self._told_before(place, first, asked, tried, client)
        return first is not None

    async def _told_before(
        self, place: Place, first: tuple[str, bytes], asked: Asked, tried: Attempt, client: Client
    ) -> None:
        id, said = first
        if said and said != tried.request:
            raise _reused()
        await self._telling.again(place.ref.tenant, id, client, stream=asked.stream)

    @asynccontextmanager
    async def _going_on(self, place: Place) -> AsyncIterator[None]:
        """What the response goes on from is not erased meanwhile, though its id may be deleted; then it is erased
        afterwards, if nothing goes on from it after all."""
        parent = place.ref.tenant, place.parent or ""
        self._parents[parent] += 1
        try:
            yield
        finally:
            self._parents[parent] -= 1
            if not self._parents[parent]:
                del self._parents[parent]
                if parent in self._deleted:
                    self._deleted.remove(parent)
                    await self._house.store.prune(place.ref, parent[1])

    async def _background(
        self,
        place: Place,
        chat: Request,
        call: Call,
        who: Identity,
        speaker: Speaker,
        live: Live,
        record: ExchangeRecord,
    ) -> None:
        """Never raises: the response says what became of it."""
        try:
            await speaker.opened()
            if not await self.places.made(place, who.policy, live.made_by):
                await speaker.break_off("cancelled")
                return
            speaker.go()
            async with self._going_on(place):
                await run_as(self._dialect, chat, call, who, self._house, speaker, record)
            if not live.ended:
                await speaker.break_off("cancelled" if live.cancelled else record.error)
        except ProxyError as error:
            record.status, record.error = error.status, error.code
            await speaker.fail(error.message)
        except Exception as error:  # noqa: BLE001 - a bug must not leave a response in progress for ever
            record.status, record.error = 500, ProxyError.code
            self._house.broke(error)
            await speaker.fail("The proxy failed inside; its log says where.")
        finally:
            self._house.observe(record)

    async def resume(
        self, tenant: str, id: str, query: Mapping[str, str], client: Client, record: ExchangeRecord
    ) -> None:
        """See `Telling`."""
        await self._telling.resume(tenant, id, query, client, record)

    async def retrieve(self, tenant: str, id: str) -> bytes:
        """See `Telling.response`."""
        return await self._telling.response(tenant, id)

    async def delete(self, tenant: str, id: str) -> bytes:
        """Its id is unknown from now on; responses that go on from it keep their context."""
        entry, tag = entry_of(id) or ("", "")
        run = await self.runs.find(tenant, tag, entry) if entry else None
        if isinstance(run, Live) and run.recording:
            try:
                async with asyncio.timeout(CANCEL_S):
                    await run.over()
            except TimeoutError as error:
                raise StoreUnavailable("The response is still being recorded; delete it again in a while.") from error
        elif run is not None and not run.ended:
            # its owner, which is elsewhere, might record it before it finds it gone
            run = await self.runs.cancel(run, CANCEL_S)
        if run is not None:
            await self.runs.drop(run)
        noted = await self.places.found(tenant, id)
        if noted is None and run is None:
            raise not_found(id)
        if noted is not None and noted.ref.kind == "conversation":
            async with alone(self._house, noted.ref, self._house.policies.default):
                noted = await self.places.found(tenant, id)
                if noted is not None:
                    left = msgspec.structs.replace(notes.read(noted.note), response=notes.NONE)
                    await self._house.store.annotate(noted.ref, noted.entry.id, notes.encode(left))
        elif noted is not None and (noted.ref.kind == "session" or (tenant, entry) in self._parents):
            if noted.ref.kind == "chain":
                self._deleted.add((tenant, entry))
            await self._house.store.annotate(noted.ref, noted.entry.id, b"")
        elif noted is not None:
            await self._house.store.prune(noted.ref, noted.entry.id)
        return orjson.dumps({"id": id, "object": "response", "deleted": True})

    async def cancel(self, tenant: str, id: str) -> bytes:
        """Raises NotFound, InvalidBody for one that is not made in the background."""
        made = await self.retrieve(tenant, id)
        if not msgspec.json.decode(made, type=_Background).background:
            raise InvalidBody("Cannot cancel a synchronous response.")
        entry, tag = entry_of(id) or ("", "")
        run = await self.runs.find(tenant, tag, entry)
        if run is not None and not run.ended:
            await self.runs.cancel(run, CANCEL_S)
        return await self.retrieve(tenant, id)

    async def input_items(self, tenant: str, id: str, query: Mapping[str, str]) -> bytes:
        """The response's own input, a page of it. Raises NotFound, InvalidBody."""
        kept = await self._telling.note(tenant, id)
        if not kept.answers:
            raise not_found(id)
        return paged(kept.input, [*map(notes.item_id, kept.input)], page(query))

    async def read(self, request: Request, place: Place) -> Asked:
        """The body, with the stored items that it refers to. Raises InvalidBody, NotFound."""
        tenant, known = request.tenant().name, {}
        for id in self._translation.references(request.body):
            if (item := await self.item(tenant, id)) is not None:
                known[id] = item
        return self._translation.read(request.body, place.digits, known)

    async def item(self, tenant: str, id: str) -> bytes | None:
        """A stored item of any response or conversation of the tenant."""
        parts = entry_of_item(id)
        noted = await self._house.store.find(tenant, parts[1], parts[0]) if parts else None
        if noted is None or not noted.note:
            return None
        kept = notes.read(noted.note)
        return next((bytes(item) for item in (*kept.input, *kept.output) if notes.item_id(item) == id), None)

    def call(self, asked: Asked) -> Call:
        """As the dialect reads it. In this API a trailing message of the assistant is one like others."""
        call = self._dialect.read(asked.chat)
        if call.prefill is not None:
            call = msgspec.structs.replace(call, messages=(*call.messages, call.prefill), prefill=None)
        return call

    def chat(self, request: Request, asked: Asked) -> Request:
        """The request that goes the way of every exchange."""
        path, mark, query = request.target.partition("?")
        base = path.rstrip("/").partition("/responses")[0]
        return msgspec.structs.replace(
            request,
            target=f"{base}{self._translation.path}{mark}{query}",
            body=asked.chat,
            raw=asked.chat,
            encoding="",
        )

    def policy(self, request: Request, asked: Asked) -> Policy:
        policy = self.places.policy(request)
        if asked.truncates is False:
            # all of it or nothing: the window only tells whether it fits
            policy = msgspec.structs.replace(policy, window=Window("fit"), summary=None, recall=None)
        return policy

    def _own(self, place: Place, asked: Asked, speaker: Speaker, request: bytes, visits: "_Visits") -> Own:
        """`request`: see `notes.Note`."""

        async def again(replay: Replay) -> bool:
            noted = await self._house.store.find(place.ref.tenant, place.digits[32:], replay.entry)
            kept = notes.read(noted.note) if noted else notes.Note()
            made = notes.response(kept)
            if made is None:
                raise not_found(response_id(replay.entry, place.ref))
            if kept.request and kept.request != request:
                # what the upstream is asked is the same, but not what the response says of it
                raise _reused()
            return await speaker.again(made)

        return Own(
            ref=place.ref,
            parent=place.parent,
            entry=place.entry,
            lead=asked.instructions,
            truncates=asked.truncates is not False,
            began=visits.began,
            recorded=speaker.recorded,
            again=again,
        )


def _reused() -> IdempotencyKeyReused:
    return IdempotencyKeyReused("This Idempotency-Key was used for another request; send a new key.")


class _Visits:
    """The exchange that makes a response, for those who may end it."""

    def __init__(self, runs: Runs, tenant: str, entry: str) -> None:
        self._runs, self._tenant, self._entry = runs, tenant, entry
        self.visit: Visit | None = None

    def began(self, visit: Visit) -> None:
        self.visit = visit
        live = self._runs.live(self._tenant, self._entry)
        if live is not None:
            live.made_by(visit)


class _Background(msgspec.Struct):
    background: bool | None = None
