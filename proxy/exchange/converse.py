"""The second half of a stateful exchange, when it is known what to ask: send, relay and read along, append.

The rule of this file: what the client sees of the end of a reply, it sees after the append. A plain reply is held until
then, a stream from its first terminal event on.
"""

import asyncio
import time

from proxy.conversation.entry import Entry
from proxy.conversation.reply import UNREADABLE, Reply
from proxy.dialects.contract import Dialect, Reader
from proxy.errors import ProxyError, SessionConflict, StoreUnavailable, UpstreamBroken, UpstreamError
from proxy.exchange.aside import Way
from proxy.exchange.assemble import Prepared, Tighter, assemble
from proxy.exchange.commit import Sent, commit, commit_failed
from proxy.exchange.contract import Client, Marks, Request
from proxy.exchange.decoded import decoded
from proxy.exchange.house import House
from proxy.exchange.identify import Identity
from proxy.exchange.overflow import READ_AT_MOST, STATUSES, Overflow, fitting, overflow
from proxy.exchange.record import LOGGED_CHARS, ExchangeRecord
from proxy.exchange.reflect import Cause
from proxy.exchange.retry import Attempt, Claim
from proxy.exchange.turnstile import Reason, Visit
from proxy.upstream.contract import UpstreamReply

SETTLE_S = 2.0
"""How long usage and end marker may take after a stream's last finish reason, before the turn is recorded without."""


async def ask(request: Request, body: bytes, house: House, record: ExchangeRecord) -> UpstreamReply:
    began = time.monotonic()
    try:
        reply = await house.upstream.send(request.method, request.target, request.upstream_headers, body)
    finally:
        record.upstream_ms = ms(began)
    record.status = reply.status
    return reply


def ms(since: float) -> float:
    return round((time.monotonic() - since) * 1000, 3)


class Conversation:
    """One stateful exchange from the asking on."""

    __slots__ = (
        "claim",
        "client",
        "dialect",
        "entry",
        "house",
        "prepared",
        "record",
        "request",
        "sent",
        "tried",
        "visit",
        "who",
    )

    def __init__(
        self,
        dialect: Dialect,
        request: Request,
        house: House,
        client: Client,
        record: ExchangeRecord,
        visit: Visit,
        who: Identity,
        prepared: Prepared,
        tried: Attempt | None,
        claim: Claim | None,
    ) -> None:
        self.dialect, self.request, self.house, self.client, self.record = dialect, request, house, client, record
        self.visit, self.who, self.tried = visit, who, tried
        self._take(prepared)
        self.claim = claim
        self.entry: Entry | None = None
        """What was recorded."""
        self.sent: list[bytes] = []
        """What the client was given of a stream, for those who may ask for it again."""

    def _take(self, prepared: Prepared) -> None:
        self.prepared = prepared
        record, plan = self.record, prepared.plan
        record.turn, record.history = prepared.turn, plan.history
        record.kept, record.dropped, record.tokens = plan.kept, plan.dropped, plan.tokens
        record.summarised, record.recalled = plan.summarised, len(plan.recalled)

    async def hold(self) -> None:
        """Asks the upstream and sees the reply through, whatever becomes of client, upstream and store."""
        visit = self.visit
        visit.on_disconnect = self.who.policy.session.on_disconnect if self.who.record else "discard"
        visit.asking()
        reader: Reader | None = None
        reply: UpstreamReply | None = None
        try:
            self.request.upstream_headers["Accept-Encoding"] = "identity"
            reply = decoded(await ask(self.request, self.prepared.body, self.house, self.record))
            refusal = await self._refusal(reply)
            if (said := overflow(reply.status, refusal)) and (tighter := await self._tightened(said)):
                reply.close()
                refused = self.prepared
                self._take(tighter)
                reply = decoded(await self._ask_again())
                refusal = b""
                if 200 <= reply.status < 300 and said.limit is not None:
                    tenant, model = self.prepared.ref.tenant, self.prepared.call.model
                    self.house.learned.put(
                        tenant, model, limit=said.limit, sent=said.sent or 0, estimated=refused.estimated
                    )
            if not 200 <= reply.status < 300:
                await self._relay_refusal(reply, refusal)
                return
            kind = reply.headers.get("Content-Type", "").lower()
            stream = kind.startswith("text/event-stream") or (not kind and self.prepared.call.stream)
            self.record.stream = stream
            reader = self.dialect.reader(self.prepared.call, stream=stream)
            await (self._relay_stream(reply, reader) if stream else self._relay_plain(reply, reader))
        except asyncio.CancelledError:
            if visit.reason is None:
                raise
            visit.calm()
            await self._cut_short(visit.reason, reply, reader)
            raise
        finally:
            if reply is not None:
                reply.close()
            self._reflect()

    async def _refusal(self, reply: UpstreamReply) -> bytes:
        """The beginning of a reply that may say that the context is too long, b"" of any other."""
        read = b""
        try:
            while reply.status in STATUSES and len(read) <= READ_AT_MOST and (chunk := await reply.read()):
                read += chunk
        except UpstreamError as error:
            error.retry = False
            raise
        return read

    async def _ask_again(self) -> UpstreamReply:
        try:
            return await ask(self.request, self.prepared.body, self.house, self.record)
        except UpstreamError as error:
            error.retry = False
            raise

    async def _tightened(self, said: Overflow) -> Prepared | None:
        """The same request with a smaller window; None where there is none, or it holds nothing that could go."""
        plan, call = self.prepared.plan, self.prepared.call
        own = self.who.own
        if self.who.policy.window is None or not plan.kept or (own is not None and not own.truncates):
            return None
        tokens = fitting(said, kept=plan.tokens, estimated=self.prepared.estimated, reserve=call.reserve or 0)
        tighter = Tighter(tokens, said.words)
        made = await assemble(self.dialect, self.request, call, self.who, self.house, tighter)
        return made if made.body != self.prepared.body else None

    def _reflect(self) -> None:
        """What is done after a reply, also one that was not to be recorded: it may be the first that recalls."""
        prepared, plan, policy = self.prepared, self.prepared.plan, self.prepared.policy
        head = self.entry if self.who.record else prepared.parent
        # what must not be recorded is not summarised either, and where nothing is put back, no summary is shown
        summarises = self.entry is not None and policy.summary is not None and policy.session.history != "full"
        if head is not None and (summarises or policy.recall):
            self.house.reflections.after(
                Cause(
                    dialect=self.dialect,
                    way=Way.of(self.request),
                    model=prepared.call.model,
                    aside=self.dialect.aside(prepared.call) if summarises else b"",
                    ref=prepared.ref,
                    policy=policy,
                    room=prepared.room,
                    head=head.id,
                    turn=max(head.turn, 1),
                    open=bool(head.facts.open),
                    tokens=plan.tokens + head.tokens,
                    turns=prepared.turns + 1,
                    missing=plan.anchor.start > plan.summarised,
                )
            )

    async def _relay_refusal(self, reply: UpstreamReply, read: bytes) -> None:
        """An error of the upstream goes to the client as it is; nothing is recorded. `read`: what was read of it."""
        marks = (("X-Session-Id", self.who.session),) if self.who.session else ()
        await self.client.start(reply.status, reply.reason, reply.headers, marks, sized=True)
        try:
            self.record.bytes_out += len(read)
            await self.client.write(read)
            while chunk := await reply.read():
                self.record.bytes_out += len(chunk)
                await self.client.write(chunk)
        except UpstreamError as error:
            self.record.error = error.code
            await self.client.break_off(error.code)
            return
        await self.client.finish()

    async def _relay_plain(self, reply: UpstreamReply, reader: Reader) -> None:
        try:
            while chunk := await reply.read():
                reader.feed(chunk)
        except UpstreamError as error:
            self.visit.calm()
            await self._keep_failed(reader.reply(), error.code)
            error.retry = False
            raise
        reader.end()
        self.visit.calm()
        body = reader.release()
        answer = reader.reply()
        self.record.bytes_out = len(body)
        entry: Entry | None = None
        if answer.whole and answer.message is not None:
            entry = await self._commit(answer, "whole", sent=(reply, self._marks(self.prepared.turn), body))
        elif answer.error:
            await self._keep_failed(answer, answer.error)
        self._over()
        if await self.client.send(
            reply.status, reply.reason, reply.headers, self._marks(entry.turn if entry else None), body
        ):
            self._delivered()

    async def _relay_stream(self, reply: UpstreamReply, reader: Reader) -> None:
        client, record = self.client, self.record
        marks = self._marks(self.prepared.turn)
        await client.start(reply.status, reply.reason, reply.headers, marks, sized=False)
        broken: UpstreamError | None = None
        ended = False
        try:
            while not reader.ended:
                chunk = await reply.read()
                if not chunk:
                    ended = True
                    reader.end()
                    break
                if out := reader.feed(chunk):
                    record.bytes_out += len(out)
                    if self.tried is not None and self.who.own is None:
                        self.sent.append(out)
                    await client.write(out)
            if not ended:
                ended = await self._settle(reply, reader)
        except UpstreamError as error:
            broken = error
        self.visit.calm()
        answer = reader.reply()
        if broken is not None and not (reader.ended and answer.whole):
            await self._keep_failed(answer, broken.code)
            await client.break_off(broken.code)
            return
        try:
            if answer.whole and answer.message is not None:
                await self._commit(answer, "whole", sent=(reply, marks, b"".join([*self.sent, reader.held])))
            elif answer.error:
                await self._keep_failed(answer, answer.error)
                if answer.error == UNREADABLE:
                    raise UpstreamBroken("The upstream's stream could not be read, so the turn was not recorded.")
        except ProxyError as error:
            record.error = error.code
            await client.write(self.dialect.error_event(error))
            await client.break_off(error.code)
            return
        self._over()
        held = reader.release()
        record.bytes_out += len(held)
        await client.write(held)
        # of another API the reply is made already: what the upstream may still send is nobody's
        ended = ended or self.who.own is not None
        # nobody needs the rest of it when the client has gone
        client.on_gone(reply.close)
        try:
            while not ended and broken is None and not client.gone and (chunk := await reply.read()):
                await client.write(chunk)
        except UpstreamError as error:
            broken = error
        if client.gone:
            return
        if broken is not None:
            record.error = broken.code
        if broken is not None and self.who.own is None:
            await client.break_off(broken.code)
        elif await client.finish():
            self._delivered()

    async def _settle(self, reply: UpstreamReply, reader: Reader) -> bool:
        """After the last finish reason: reads usage and end marker, if they come soon. True at the body's end."""
        try:
            async with asyncio.timeout(SETTLE_S):
                while not reader.done:
                    chunk = await reply.read()
                    if not chunk:
                        reader.end()
                        return True
                    reader.feed(chunk)
        except TimeoutError:
            pass  # what is missing is at most usage: the turn is complete, and waiting longer would only hold it up
        return False

    async def _cut_short(self, reason: Reason, reply: UpstreamReply | None, reader: Reader | None) -> None:
        """The exchange was interrupted: what was read is kept, unless the policy discards it."""
        discard = self.visit.on_disconnect == "discard" and reason is not Reason.STOPPING
        try:
            if self.who.record and not discard and reader is not None and reply is not None:
                answer = reader.reply()
                if answer.message is None or answer.error or reason is Reason.CANCELLED:
                    await self._keep_failed(answer, reason.name.lower())
                elif answer.whole:
                    body = b"".join([*self.sent, reader.held])
                    await self._commit(answer, "whole", sent=(reply, self._marks(self.prepared.turn), body))
                else:
                    await self._commit(answer, "partial")
        except ProxyError as error:
            self.record.error = error.code
        self._over()

    def _over(self) -> None:
        """The next request on the session may come, and the same one again is answered by what was recorded."""
        self.house.turnstile.leave(self.visit)
        if self.claim is not None:
            self.claim.end()

    async def _commit(self, answer: Reply, state: str, sent: Sent | None = None) -> Entry | None:
        """None if nothing shall be recorded. Raises SessionConflict, StoreUnavailable, which say that a retry would
        pay again."""
        record = self.record
        record.finish, record.prompt_tokens = answer.finish[:LOGGED_CHARS], answer.prompt_tokens
        record.completion_tokens = answer.completion_tokens
        if not self.who.record:
            return None
        try:
            note = b""
            if self.who.own is not None:
                answer, note = self.who.own.recorded(answer, sent[2] if sent else b"")
                # what the client is given of it is made from the note
                sent = (*sent[:2], b"") if sent else None
            entry = await commit(
                self.dialect,
                self.request,
                self.house,
                self.prepared,
                answer,
                state,
                self.tried,
                sent,
                note,
                self.visit,
            )
            self.visit.appended = True
        except SessionConflict as error:
            await self._keep_failed(answer, error.code)
            raise
        except StoreUnavailable as error:
            error.retry = False
            raise
        record.recorded = state
        self.entry = entry
        return entry

    async def _keep_failed(self, answer: Reply, code: str) -> None:
        """For `sessions show`. That a failed exchange cannot be kept is no second failure: it is logged."""
        self.record.error = code
        if not self.who.record or self.prepared.ref.kind != "session":
            # what is made for another API says itself what became of it
            return
        try:
            if await commit_failed(self.dialect, self.request, self.house, self.prepared, answer, code):
                self.record.recorded = "failed"
        except StoreUnavailable as error:
            self.record.error = f"{code}, {error.code}"

    def _delivered(self) -> None:
        if self.tried is not None and self.record.recorded == "whole":
            self.house.store.delivered(self.prepared.ref, self.tried.key)

    def _marks(self, turn: int | None) -> Marks:
        """`turn`: the number of the turn that is recorded, None if none is."""
        context = ("X-Session-Context", self.prepared.context_header)
        if not self.who.session:
            return (context,)
        session = ("X-Session-Id", self.who.session)
        if turn is None or not self.who.record:
            return session, context
        return session, ("X-Session-Turn", str(turn)), context
