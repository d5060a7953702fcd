"""How far a response is, told to whoever asks: as it is, or its events as they come."""

import asyncio
from collections.abc import Mapping
from functools import partial

import msgspec

from proxy.dialects.contract import Translation
from proxy.errors import InvalidBody, NotFound
from proxy.exchange.contract import NO_HEADERS, Client
from proxy.exchange.house import House
from proxy.exchange.record import ExchangeRecord
from proxy.resources import notes
from proxy.resources.ids import entry_of
from proxy.resources.live import Live
from proxy.resources.places import Place, Places, not_found
from proxy.resources.runs import Runs
from proxy.resources.speaker import EVENTS, JSON
from proxy.stores.contract import Run


class Telling:
    """Every method raises StoreUnavailable."""

    def __init__(self, house: House, translation: Translation, runs: Runs, places: Places) -> None:
        self._store = house.store
        self._translation = translation
        self._runs = runs
        self._places = places

    async def note(self, tenant: str, id: str) -> notes.Note:
        """What is known of a response that is made, or is being made, or failed. Raises NotFound."""
        parts = entry_of(id)
        if parts is None:
            raise not_found(id)
        live = self._runs.live(tenant, parts[0])
        if live is not None and not live.recorded and not live.lost:
            return notes.read(live.state)
        noted = await self._places.found(tenant, id)
        if noted is not None:
            return notes.read(noted.note)
        run = await self._store.find_run(tenant, parts[1], parts[0])
        if run is None:
            raise not_found(id)
        return notes.read(run.state)

    async def begun(self, place: Place) -> bytes | None:
        """The hash of the request that the response is made for, b"" where it was not kept; None if there is no such
        response."""
        try:
            return (await self.note(place.ref.tenant, place.id)).request
        except NotFound:
            return None

    async def response(self, tenant: str, id: str) -> bytes:
        """As it was given, or as far as it is. Raises NotFound."""
        made = notes.response(await self.note(tenant, id))
        if made is None:
            raise not_found(id)
        return made

    async def begins(self, live: Live, made: bytes, client: Client, *, stream: bool) -> None:
        """One that is made in the background from now on."""
        if stream:
            await self._follow(live, -1, client)
        else:
            await client.send(200, "", NO_HEADERS, JSON, made)

    async def again(self, tenant: str, id: str, client: Client, *, stream: bool) -> None:
        """One that was asked for before. Raises NotFound."""
        made = await self.response(tenant, id)
        if not stream:
            await client.send(200, "", NO_HEADERS, JSON, made)
            return
        entry, tag = entry_of(id) or ("", "")
        run = await self._runs.find(tenant, tag, entry)
        if run is not None and (not run.ended or await self._runs.kept(run)):
            await self._follow(run, -1, client)
            return
        events = self._translation.whole(msgspec.json.decode(made, type=notes.Object))
        await client.send(200, "", NO_HEADERS, EVENTS, events)

    async def resume(
        self, tenant: str, id: str, query: Mapping[str, str], client: Client, record: ExchangeRecord
    ) -> None:
        """Answers `GET …/responses/{id}?stream=true`: the events with numbers above `starting_after`, as they were
        first sent. Raises NotFound, InvalidBody while nothing has been sent."""
        record.kind = "resume"
        after = query.get("starting_after", "-1")
        if not (after == "-1" or (after.isascii() and after.isdigit() and len(after) < 10)):
            raise InvalidBody("starting_after is the sequence number of an event.", param="starting_after")
        await self.response(tenant, id)
        entry, tag = entry_of(id) or ("", "")
        run = await self._runs.streamed(tenant, tag, entry)
        if run is None:
            raise InvalidBody(
                "This response has no stream (any more); leave `stream` out, and create it with `stream` next time.",
                param="stream",
            )
        await self._follow(run, int(after), client)

    async def _follow(self, run: Live | Run, after: int, client: Client) -> None:
        self._runs.following()
        following = asyncio.current_task()
        assert following is not None
        client.on_gone(partial(_end, following))
        await client.start(200, "", NO_HEADERS, EVENTS, sized=False)
        async for event in self._runs.follow(run, after):
            if client.gone:
                return
            await client.write(event)
        await client.finish()


def _end(task: asyncio.Task[object]) -> None:
    task.cancel()
