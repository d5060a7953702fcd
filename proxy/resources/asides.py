"""What can be asked of an input without making a response of it: how many tokens it is, and what it comes down to."""

import time

import msgspec
import orjson

from proxy.context import summary as rolling
from proxy.context.contract import Summarise
from proxy.conversation.reply import Reply
from proxy.dialects.contract import Asked, Call, Dialect, Translation
from proxy.errors import InvalidBody, UpstreamError
from proxy.exchange.assemble import Prepared, assemble
from proxy.exchange.contract import Client, Request
from proxy.exchange.converse import ask
from proxy.exchange.decoded import decoded
from proxy.exchange.house import House
from proxy.exchange.identify import Identity, Own
from proxy.exchange.record import ExchangeRecord
from proxy.exchange.turnstile import Visit
from proxy.resources import notes
from proxy.resources.places import Place
from proxy.resources.responses import Responses
from proxy.resources.speaker import JSON
from proxy.stores.contract import Replay


class Asides:
    """`dialect`: what the upstream speaks."""

    def __init__(self, house: House, dialect: Dialect, translation: Translation, responses: Responses) -> None:
        self._house = house
        self._dialect = dialect
        self._translation = translation
        self._responses = responses

    async def input_tokens(self, request: Request) -> bytes:
        """The size of the context that a response with this body would be made from, as counted here. Raises as
        `Responses.create` does."""
        place, asked = await self._read(request)
        prepared = await self._prepared(request, place, asked, self._responses.call(asked))
        return orjson.dumps({"object": "response.input_tokens", "input_tokens": prepared.estimated})

    async def compact(self, request: Request, client: Client, record: ExchangeRecord) -> None:
        """Answers with an item that stands for all that was said. The upstream's model writes it; its refusal is
        relayed. Raises as `Responses.create` does, and UpstreamError."""
        record.kind = "compact"
        place, asked = await self._read(request)
        if not asked.model:
            raise InvalidBody("`model` is missing; name the model that writes the summary.", param="model")
        call = self._responses.call(asked)
        settings = self._responses.policy(request, asked).summary or Summarise()
        question = self._dialect.said("user", rolling.prompt(settings.prompt, settings.max_tokens))
        call = msgspec.structs.replace(call, messages=(*call.messages, *self._dialect.messages(question)), stream=False)
        prepared = await self._prepared(request, place, asked, call)
        chat = self._responses.chat(request, asked)
        chat.upstream_headers["Accept-Encoding"] = "identity"
        reply = decoded(await ask(chat, prepared.body, self._house, record))
        reader = self._dialect.reader(call, stream=False)
        try:
            while chunk := await reply.read():
                reader.feed(chunk)
        finally:
            reply.close()
        reader.end()
        said = reader.reply()
        if not 200 <= reply.status < 300:
            await client.send(reply.status, reply.reason, reply.headers, (), reader.release())
            return
        if said.message is None or said.message.calls or not said.message.text.strip():
            raise UpstreamError("The upstream's model wrote no summary; send the request again.")
        made = self._translation.compaction(asked.items, said.message.text, place.digits, int(time.time()), said)
        await client.send(200, "", reply.headers, JSON, notes.encode(made))

    async def _read(self, request: Request) -> tuple[Place, Asked]:
        place = await self._responses.places.of(request)
        await self._responses.places.made(place, self._responses.places.policy(request), _began)
        return place, await self._responses.read(request, place)

    async def _prepared(self, request: Request, place: Place, asked: Asked, call: Call) -> Prepared:
        own = Own(
            ref=place.ref,
            parent=place.parent,
            entry=place.entry,
            lead=asked.instructions,
            truncates=asked.truncates is not False,
            began=_began,
            recorded=_recorded,
            again=_again,
        )
        policy = self._responses.policy(request, asked)
        who = Identity(session=place.session, policy=policy, record=False, own=own)
        return await assemble(self._dialect, self._responses.chat(request, asked), call, who, self._house)


def _began(_: Visit) -> None:
    """Nobody interrupts it."""


def _recorded(reply: Reply, _: bytes) -> tuple[Reply, bytes]:
    return reply, b""


async def _again(_: Replay) -> bool:
    return False
