"""A client of another API, to whom the exchange speaks the upstream's: what it says is turned into responses.

The response is made once, when it is recorded, and given out after that. Its events go to the client, if it streams,
and into the run's log, if there is a run.
"""

import time
from collections.abc import Callable

import msgspec

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Asked, Call, Dialect, Translation
from proxy.errors import ProxyError, SessionConflict, UpstreamBroken
from proxy.exchange.contract import NO_HEADERS, Client, Headers, Marks
from proxy.exchange.turnstile import Reason
from proxy.resources import notes
from proxy.resources.live import Live
from proxy.resources.notes import Object

JSON = (("Content-Type", "application/json"),)
EVENTS = (("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-cache"))
REFUSAL_BYTES = 65_536
"""Of an upstream's refusal, what is read to tell of it."""
_INTERRUPTED = frozenset(reason.name.lower() for reason in Reason)
BROKEN = "The reply broke off, so it was not recorded; send the request again."


class Nobody:
    """The client of a response that is made in the background."""

    gone = False
    started = False

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Never happens."""

    async def send(self, *_: object) -> bool:
        return True

    async def start(self, *_: object, sized: bool) -> None: ...

    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> bool:
        return True

    async def break_off(self, code: str) -> None: ...


class Speaker:
    """Implements `Client`."""

    def __init__(
        self,
        client: Client,
        asked: Asked,
        id: str,
        call: Call,
        dialect: Dialect,
        translation: Translation,
        begin: Callable[[bytes], Live | None],
        echo: Object,
        request: bytes = b"",
    ) -> None:
        """`id`: 48 hex digits. `echo`: members of the response that the policy decides. `begin` is told the note of the
        unfinished response when its stream begins; from then on there is a run of it, unless nobody may ask for it.
        `request`: see `notes.Note`."""
        self._client = client
        self._asked = asked
        self._id = id
        self._at = int(time.time())
        self._dialect = dialect
        self._translation = translation
        self._begin = begin
        self._echo = echo
        self._request = request
        self._reader = dialect.reader(call, stream=True)
        self._plain = dialect.reader(call, stream=False)
        self._transcoder = translation.transcoder(asked, id, self._at)
        self._live: Live | None = None
        self._response: Object | None = None
        self._streams = False
        """The client's stream has begun."""
        self._relays = False
        """The upstream's reply is a stream."""
        self._closing = b""
        """The events that close the items of what is recorded; the last one follows."""
        self._head: tuple[str, Headers, Marks] | None = None
        """Of a stream of the upstream's that nobody asked for: it becomes a plain reply at its end."""
        self._refusal: tuple[int, bytearray] | None = None
        """What the upstream answers in place of a reply."""

    @property
    def gone(self) -> bool:
        return self._client.gone

    @property
    def started(self) -> bool:
        return self._client.started or self._streams or self._head is not None

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._client.on_gone(callback)

    def announce(self) -> tuple[Live, Object]:
        """The response as it is before anything was asked: from now on there is a run of it."""
        made = self._unfinished("queued")
        live = self._live = self._begin(self._note(made))
        assert live is not None
        return live, made

    async def opened(self) -> None:
        """The stream of an announced one begins: who follows it knows its id, however long it waits."""
        if self._asked.stream:
            self._streams = True
            await self._tell(self._transcoder.begin())

    def go(self) -> None:
        """An announced one is being made now."""
        assert self._live is not None
        self._live.state = self._note(self._unfinished("in_progress"))

    def recorded(self, reply: Reply, held: bytes) -> tuple[Reply, bytes]:
        """See `Own`. Raises SessionConflict if it must not be recorded."""
        if self._live is not None and self._live.lost:
            raise SessionConflict("The response was taken for lost, or deleted, while it was made.")
        reply = self._translation.settled(reply, self._id)
        # one whose client left, and of which the policy keeps what was read
        made = self._made(reply, None if reply.whole else "incomplete")
        if self._relays and self._streams:
            self._closing, made = self._transcoder.settle(held, made)
        self._response = made
        if self._live is not None:
            self._live.recording = True
        return reply, self._note(made)

    async def again(self, response: bytes) -> bool:
        """Gives out a response that was made before."""
        if not self._asked.stream:
            return await self._client.send(200, "", NO_HEADERS, JSON, response)
        await self._client.start(200, "", NO_HEADERS, EVENTS, sized=False)
        await self._client.write(self._translation.whole(msgspec.json.decode(response, type=Object)))
        return await self._client.finish()

    async def send(self, status: int, reason: str, headers: Headers, marks: Marks, body: bytes) -> bool:
        reply = None
        if 200 <= status < 300:
            self._plain.feed(body)
            self._plain.end()
            reply = self._plain.reply()
            if reply.message is None:
                error = UpstreamBroken("What the upstream answered is no completion.")
                status, headers, body, marks = (
                    error.status,
                    NO_HEADERS,
                    self._dialect.error(error),
                    (*marks, *_told(error)),
                )
                reply = None
        if reply is None:
            self._refused(status, body)
            return await self._client.send(status, reason, headers, marks, body)
        made = self._response or self._made(reply)
        if self._asked.stream:
            await self.start(status, reason, headers, marks, sized=False)
            return await self._finish(made)
        self._over(made)
        return await self._client.send(status, reason, headers, (*marks, *JSON), notes.encode(made))

    async def start(self, status: int, reason: str, headers: Headers, marks: Marks, *, sized: bool) -> None:
        if sized or not 200 <= status < 300:
            self._refusal = status, bytearray()
            await self._client.start(status, reason, headers, marks, sized=sized)
        elif self._asked.stream:
            self._relays = not self._response
            await self._client.start(status, reason, headers, (*marks, *EVENTS), sized=False)
            if not self._streams:
                self._streams = True
                self._live = self._begin(self._note(self._unfinished("in_progress")))
                if self._live is not None:
                    # a reply that came in one piece is recorded before its stream begins
                    self._live.recording = self._response is not None
                await self._tell(self._transcoder.begin())
        else:
            self._head = reason, headers, marks

    async def write(self, data: bytes) -> None:
        if self._refusal is not None:
            if len(self._refusal[1]) < REFUSAL_BYTES:
                self._refusal[1].extend(data)
            await self._client.write(data)
            return
        if self._relays and self._response is not None:
            # what was held stands in the events that close it
            return
        self._reader.feed(data)
        if self._streams:
            await self._tell(self._transcoder.feed(data))

    async def finish(self) -> bool:
        if self._refusal is not None:
            self._refused(self._refusal[0], bytes(self._refusal[1]))
            return await self._client.finish()
        self._reader.end()
        made = self._response or self._made(self._reader.reply())
        if self._head is None:
            return await self._finish(made)
        self._over(made)
        reason, headers, marks = self._head
        return await self._client.send(200, reason, headers, (*marks, *JSON), notes.encode(made))

    async def break_off(self, code: str) -> None:
        """The response ends as one that failed or was cancelled, which a stream can say."""
        if self._refusal is not None:
            self._refused(self._refusal[0], bytes(self._refusal[1]))
            await self._client.break_off(code)
            return
        if self._response is not None and code in _INTERRUPTED:
            # what was read of it is recorded
            await self._finish(self._response)
            return
        cancelled = code == "cancelled"
        made = self._made(self._reader.reply(), "cancelled" if cancelled else "failed")
        if not cancelled:
            made = self._translation.failed(made, "server_error", BROKEN)
        if self._streams:
            await self._finish(made)
            return
        self._over(made)
        if not cancelled:
            error = UpstreamBroken(BROKEN)
            await self._client.send(error.status, "", NO_HEADERS, _told(error), self._dialect.error(error))

    async def fail(self, message: str, code: str = "server_error") -> None:
        """The exchange of an announced response ended before there was a reply."""
        if self._live is not None and not self._live.ended:
            await self._finish(self._translation.failed(self._unfinished("failed"), code, message))

    def close(self, *, recorded: bool) -> Live | None:
        """The exchange is over. If it ended while nobody listened, its run ends with it here: returned is one of which
        nothing was recorded."""
        if self._live is None or self._live.ended:
            return None
        made = self._response if recorded else None
        made = made or self._translation.failed(self._made(self._reader.reply(), "failed"), "server_error", BROKEN)
        last, made = self._ended(made)
        self._live.log(last)
        self._over(made)
        return None if recorded else self._live

    def _ended(self, made: Object) -> tuple[bytes, Object]:
        """The end of the stream, b"" where there is none; and the response with its items as they were streamed."""
        if not self._streams:
            return b"", made
        closing, self._closing = self._closing, b""
        more, made = self._transcoder.settle(b"", made)
        return closing + more + self._transcoder.end(made), made

    async def _finish(self, made: Object) -> bool:
        last, made = self._ended(made)
        if self._live is not None:
            self._live.log(last)
        self._over(made)
        await self._client.write(last)
        return await self._client.finish()

    async def _tell(self, events: bytes) -> None:
        if self._live is not None:
            self._live.log(events)
        await self._client.write(events)

    def _refused(self, status: int, body: bytes) -> None:
        """For a client that waits, the upstream's own answer is relayed; one that does not is told by the response."""
        if self._live is None:
            return
        try:
            said = msgspec.json.decode(body, type=_Refusal).error.message
        except msgspec.DecodeError:
            said = ""
        code = "rate_limit_exceeded" if status == 429 else "server_error"
        made = self._unfinished("failed")
        made = self._translation.failed(made, code, said or f"The upstream answered {status}.")
        last, made = self._ended(made)
        self._live.log(last)
        self._over(made)

    def _over(self, made: Object) -> None:
        if self._live is not None:
            lost = made["status"] in ("failed", "cancelled")
            self._live.recorded = self._response is not None and not lost
            self._live.end(self._note(made), keep=not self._live.recorded)

    def _unfinished(self, status: str) -> Object:
        return self._translation.unfinished(self._asked, self._id, self._at, status) | self._echo

    def _made(self, reply: Reply, status: str | None = None) -> Object:
        return self._translation.answer(self._asked, self._id, self._at, reply, status=status) | self._echo

    def _note(self, made: Object) -> bytes:
        items = self._asked.items
        places = notes.places(items, self._translation) if self._asked.conversation else ()
        return notes.note(made, items, places, self._request)


def _told(error: ProxyError) -> Marks:
    return (*JSON, ("X-Remora-Error", error.code), ("x-should-retry", "false"))


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: _Error = _Error()
