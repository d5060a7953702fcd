"""The translation as one value."""

from typing import cast

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Asked, Transcoder, Translation
from proxy.dialects.responses import events, reply, request


class Responses:
    """See `Translation`."""

    def read(self, body: bytes, id: str) -> Asked:
        return request.read(body, id)

    def answer(self, asked: Asked, id: str, created_at: int, answer: Reply) -> dict[str, object]:
        return reply.response(cast("request.Asked", asked), id, created_at, answer)

    def transcoder(self, asked: Asked, id: str, created_at: int) -> Transcoder:
        return events.Transcoder(cast("request.Asked", asked), id, created_at)

    def whole(self, answer: dict[str, object]) -> bytes:
        return events.whole(answer)


RESPONSES: Translation = Responses()
