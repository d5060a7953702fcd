"""The translation as one value."""

import time
from collections.abc import Mapping, Sequence
from typing import cast

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Asked, Piece, Transcoder, Translation
from proxy.dialects.responses import compaction as compacting
from proxy.dialects.responses import events, reply, request
from proxy.dialects.responses import items as reading


class Responses:
    """See `Translation`."""

    path = "/chat/completions"

    def references(self, body: bytes) -> tuple[str, ...]:
        return reading.referred(body)

    def read(self, body: bytes, id: str, known: Mapping[str, bytes]) -> Asked:
        return request.read(body, id, known)

    def read_items(self, items: object, id: str, known: Mapping[str, bytes], *, member: str) -> tuple[bytes, ...]:
        return reading.read_input(items, id, known, member=member, ours=True)[1]

    def pieces(self, items: Sequence[bytes]) -> tuple[Piece, ...]:
        return reading.pieces(items)

    def answer(
        self, asked: Asked, id: str, created_at: int, answer: Reply, *, status: str | None = None
    ) -> dict[str, object]:
        now = max(created_at, int(time.time()))
        return reply.response(cast("request.Asked", asked), id, created_at, answer, status=status, completed_at=now)

    def unfinished(self, asked: Asked, id: str, created_at: int, status: str) -> dict[str, object]:
        made = reply.blank(cast("request.Asked", asked), id, created_at, status)
        return reply.failed(made, "server_error", "No reply was made.") if status == "failed" else made

    def failed(self, answer: dict[str, object], code: str, message: str) -> dict[str, object]:
        return reply.failed(answer, code, message)

    def settled(self, answer: Reply, id: str) -> Reply:
        return reply.settled(answer, id)

    def transcoder(self, asked: Asked, id: str, created_at: int) -> Transcoder:
        return events.Transcoder(cast("request.Asked", asked), id, created_at)

    def whole(self, answer: dict[str, object]) -> bytes:
        return events.whole(answer)

    def compaction(
        self, items: Sequence[bytes], summary: str, id: str, created_at: int, usage: Reply
    ) -> dict[str, object]:
        return compacting.compacted(items, summary, id, created_at, usage)


RESPONSES: Translation = Responses()
