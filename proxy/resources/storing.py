"""A client whose completion is stored before it sees the end of it: the reply is read along on its way out.

What is held here is held for the store alone, by the rules of the exchange: a plain reply until it is stored, a stream
from its first terminal event on. Where an exchange holds the same bytes for its own record, they come here when that
is done, and are held once more.
"""

from collections.abc import Awaitable, Callable

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Call, Dialect, Reader
from proxy.errors import ProxyError, UpstreamBroken, UpstreamReplyTooLarge
from proxy.exchange.contract import Client, Headers, Marks
from proxy.exchange.decoded import REPLY_AT_MOST
from proxy.exchange.record import ExchangeRecord
from proxy.framing.inflate import ENCODINGS, Inflate, TooMuch
from proxy.resources.accumulate import Raws, from_body, from_stream

Keep = Callable[[Raws, Reply], Awaitable[None]]
"""Stores a completion, given as its members; called again when more of the same has come. Raises StoreUnavailable."""


_NOTHING = frozenset({b"", b"data: [DONE]", b"data:[DONE]"})


class _Head(msgspec.Struct, frozen=True):
    """Of a plain reply, which is held."""

    status: int
    reason: str
    headers: Headers
    marks: Marks
    sized: bool


class Storing:
    """Implements `Client`. If storing fails, a plain reply is not sent: StoreUnavailable is raised instead; a stream
    ends with an error event and breaks off."""

    def __init__(self, client: Client, dialect: Dialect, call: Call, keep: Keep, record: ExchangeRecord) -> None:
        self._client = client
        self._dialect = dialect
        self._call = call
        self._keep = keep
        self._record = record
        self._reader: Reader | None = None
        """None: nothing is read along (any more)."""
        self._read: list[bytes] = []
        self._inflate: Inflate | None = None
        self._head: _Head | None = None
        self._kept = self._failed = False

    @property
    def gone(self) -> bool:
        return self._failed or self._client.gone

    @property
    def started(self) -> bool:
        return self._client.started

    def on_gone(self, callback: Callable[[], None]) -> None:
        if self._failed:
            callback()
        else:
            self._client.on_gone(callback)

    async def send(self, status: int, reason: str, headers: Headers, marks: Marks, body: bytes) -> bool:
        if 200 <= status < 300:
            stream = self._streams(headers, marks)
            reader = self._dialect.reader(self._call, stream=stream)
            reader.feed(body)
            reader.end()
            await self._store(reader.reply(), from_stream if stream else from_body, body)
        return await self._client.send(status, reason, headers, marks, body)

    async def start(self, status: int, reason: str, headers: Headers, marks: Marks, *, sized: bool) -> None:
        if not 200 <= status < 300:
            await self._client.start(status, reason, headers, marks, sized=sized)
            return
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            self._inflate, headers, sized = _inflate(encoding), _plain(headers), False
        self._record.stream = stream = self._streams(headers, marks)
        self._reader = self._dialect.reader(self._call, stream=stream)
        if stream:
            # an error event may come to stand behind what the upstream has sent
            await self._client.start(status, reason, headers, marks, sized=False)
        else:
            self._head = _Head(status, reason, headers, marks, sized)

    async def write(self, data: bytes) -> None:
        """Raises UpstreamBroken, UpstreamReplyTooLarge."""
        if self._failed:
            return
        reader = self._reader
        if reader is None:
            await self._client.write(data)
            return
        if self._inflate is not None:
            data = _inflated(self._inflate, data)
        self._read.append(data)
        if out := reader.feed(data):
            await self._client.write(out)
        # the rest, usage and end marker, is stored too before it is seen, but may be long in coming
        if self._head is None and reader.ended and (reader.done or not self._kept):
            await self._release(reader)

    async def finish(self) -> bool:
        if self._failed:
            return False
        reader, head = self._reader, self._head
        if reader is not None:
            if self._inflate is not None:
                try:
                    self._inflate.end()
                except ValueError:
                    self._record.error = UpstreamBroken.code
                    await self.break_off(UpstreamBroken.code)
                    return False
            reader.end()
            if head is not None:
                body = reader.release()
                await self._store(reader.reply(), from_body, body)
                return await self._client.send(head.status, head.reason, head.headers, head.marks, body)
            await self._release(reader)
        return not self._failed and await self._client.finish()

    async def break_off(self, code: str) -> None:
        reader, head = self._reader, self._head
        self._reader = self._head = None
        if reader is not None and not self._failed:
            # what has come of it, the client would have seen by now; its end is not among it
            if head is not None:
                await self._client.start(head.status, head.reason, head.headers, head.marks, sized=head.sized)
            await self._client.write(reader.release())
        await self._client.break_off(code)

    def _streams(self, headers: Headers, marks: Marks) -> bool:
        """A recorded reply, which is given again, has its type among the marks."""
        kinds = [value for name, value in marks if name.lower() == "content-type"]
        kind = (kinds[0] if kinds else headers.get("Content-Type", "")).lower()
        return kind.startswith("text/event-stream") or (not kind and self._call.stream)

    async def _release(self, reader: Reader) -> None:
        """Stores what has come of a stream, then gives out what was held of it."""
        held = reader.held
        try:
            # behind the last finish reason, most streams hold nothing but the end marker
            if not self._kept or held.strip() not in _NOTHING:
                self._kept = True
                await self._store(reader.reply(), from_stream, b"".join(self._read))
        except ProxyError as error:
            self._failed = True
            self._record.error = error.code
            await self._client.write(self._dialect.error_event(error))
            await self._client.break_off(error.code)
            return
        if reader.done:
            self._reader = None
        reader.release()
        await self._client.write(held)

    async def _store(self, reply: Reply, members: Callable[[bytes], Raws], data: bytes) -> None:
        if not reply.whole or reply.message is None:
            return
        try:
            await self._keep(members(data), reply)
        except ProxyError as error:
            # the upstream has answered: who asks again pays again
            error.retry = False
            raise


def _inflate(encoding: str) -> Inflate:
    if encoding not in ENCODINGS:
        error = UpstreamBroken(
            "The upstream compressed its reply in a way that was not asked for; switch its compression off."
        )
        error.retry = False
        raise error
    return Inflate(encoding, REPLY_AT_MOST)


def _inflated(inflate: Inflate, data: bytes) -> bytes:
    try:
        return inflate.feed(data)
    except TooMuch:
        raise UpstreamReplyTooLarge("The upstream's reply is larger than 64 MiB once decoded.") from None
    except ValueError as error:
        raise UpstreamBroken(f"The upstream's compressed reply cannot be decoded: {error}.") from None


def _plain(headers: Headers) -> Headers:
    kept = CIMultiDict(headers)
    kept.popall("Content-Encoding", None)
    kept.popall("Content-Length", None)
    return CIMultiDictProxy(kept)
