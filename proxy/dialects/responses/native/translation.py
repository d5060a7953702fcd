"""The stateful API over an upstream that speaks the same API and keeps nothing, as one value."""

import time
from collections.abc import Mapping, Sequence
from typing import cast

import orjson

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Asked, Piece, Transcoder, Translation
from proxy.dialects.responses import compaction as compacting
from proxy.dialects.responses import items as reading
from proxy.dialects.responses.native import events, listing, request, runs
from proxy.dialects.responses.native import response as making
from proxy.dialects.responses.reply import blank, failed
from proxy.errors import InvalidBody


class NativeResponses:
    """See `Translation`."""

    path = "/responses"

    def references(self, body: bytes) -> tuple[str, ...]:
        return reading.referred(body)

    def read(self, body: bytes, id: str, known: Mapping[str, bytes]) -> Asked:
        return request.read(body, id, known)

    def read_items(self, items: object, id: str, known: Mapping[str, bytes], *, member: str) -> tuple[bytes, ...]:
        given = listing.resolved(items, orjson.dumps(items), known, member)
        made = listing.listed(given, id, member, ours=True)
        try:
            self.pieces(made)
        except InvalidBody as error:
            named = (error.param or member).replace("input", member, 1)
            raise InvalidBody(error.message.replace("`input", f"`{member}", 1), param=named) from None
        return made

    def pieces(self, items: Sequence[bytes]) -> tuple[Piece, ...]:
        return runs.pieces([*map(listing.readable, items)])

    def answer(
        self, asked: Asked, id: str, created_at: int, answer: Reply, *, status: str | None = None
    ) -> dict[str, object]:
        now = max(created_at, int(time.time()))
        return making.response(cast("request.Asked", asked), id, created_at, answer, status=status, completed_at=now)

    def unfinished(self, asked: Asked, id: str, created_at: int, status: str) -> dict[str, object]:
        made = blank(cast("request.Asked", asked), id, created_at, status)
        return failed(made, "server_error", "No reply was made.") if status == "failed" else made

    def failed(self, answer: dict[str, object], code: str, message: str) -> dict[str, object]:
        return failed(answer, code, message)

    def settled(self, answer: Reply, id: str) -> Reply:  # noqa: ARG002 - the contract's
        """A call without an id is none of this API: such a reply is not recorded."""
        return answer

    def transcoder(self, asked: Asked, id: str, created_at: int) -> Transcoder:
        return events.Transcoder(cast("request.Asked", asked), id, created_at)

    def whole(self, answer: dict[str, object]) -> bytes:
        return events.whole(answer)

    def compaction(
        self, items: Sequence[bytes], summary: str, id: str, created_at: int, usage: Reply
    ) -> dict[str, object]:
        return compacting.compacted(items, summary, id, created_at, usage)


NATIVE_RESPONSES: Translation = NativeResponses()
