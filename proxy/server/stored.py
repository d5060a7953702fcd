"""What is asked of stored things -> who answers it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from proxy.errors import UpgradeRequired
from proxy.exchange.contract import Client, Request
from proxy.exchange.record import ExchangeRecord
from proxy.resources.asides import Asides
from proxy.resources.conversations import Conversations
from proxy.resources.responses import Responses
from proxy.server.paths import Asked

Go = Callable[[Request, Client, ExchangeRecord], Awaitable[None]]
"""Answers a request in the form of its API."""


class Stored(NamedTuple):
    """The Responses and Conversations APIs."""

    responses: Responses
    conversations: Conversations
    asides: Asides

    def exchange(self, asked: Asked, query: Mapping[str, str]) -> Go | None:
        """For what takes its time, or streams; None for what `answer` answers."""
        match asked.what:
            case "responses.create":
                return self.responses.create
            case "responses.compact":
                return self.asides.compact
            case "conversations.add_items":
                return lambda request, client, record: self.conversations.add_items(request, asked.id, client, record)
            case "responses.retrieve" if query.get("stream", "").lower() in ("true", "1"):
                return lambda request, client, record: self.responses.resume(
                    request.tenant().name, asked.id, query, client, record
                )
        return None

    async def answer(self, asked: Asked, request: Request, query: Mapping[str, str]) -> bytes:
        """JSON. Raises ProxyError."""
        tenant, responses, conversations = request.tenant().name, self.responses, self.conversations
        match asked.what:
            case "responses.retrieve":
                return await responses.retrieve(tenant, asked.id)
            case "responses.delete":
                return await responses.delete(tenant, asked.id)
            case "responses.cancel":
                return await responses.cancel(tenant, asked.id)
            case "responses.input_items":
                return await responses.input_items(tenant, asked.id, query)
            case "responses.input_tokens":
                return await self.asides.input_tokens(request)
            case "conversations.create":
                return await conversations.create(request)
            case "conversations.retrieve":
                return await conversations.retrieve(request, asked.id)
            case "conversations.update":
                return await conversations.update(request, asked.id)
            case "conversations.delete":
                return await conversations.delete(request, asked.id)
            case "conversations.list_items":
                return await conversations.list_items(request, asked.id, query)
            case "conversations.item":
                return await conversations.item(request, asked.id, asked.item)
            case "conversations.delete_item":
                return await conversations.delete_item(request, asked.id, asked.item)
        raise UpgradeRequired("This API has no WebSocket here; send POST …/responses, with `stream` for events.")
