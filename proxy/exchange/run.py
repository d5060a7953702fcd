"""One request, first byte to last: identify, admit, load, plan, write, send, relay and read along, append.

A request that names no session after all, and a side call, are relayed as they came.
"""

import asyncio
import time

import msgspec

from proxy.dialects.contract import Call, Dialect
from proxy.errors import InvalidBody, QueueTimeout, Stopping, StoreUnavailable, UpstreamError
from proxy.exchange.assemble import assemble
from proxy.exchange.contract import NO_HEADERS, Client, Marks, Request
from proxy.exchange.converse import Conversation, ask, ms
from proxy.exchange.house import House
from proxy.exchange.identify import Identity, identify, ignored, ref_of
from proxy.exchange.record import LOGGED_CHARS, ExchangeRecord
from proxy.exchange.retry import Attempt, Claim, attempt, same
from proxy.exchange.turnstile import Reason, Visit
from proxy.stores.contract import Ref, Replay


async def run(dialect: Dialect, request: Request, house: House, client: Client, record: ExchangeRecord) -> None:
    """Answers `request` through `client` and fills in `record`.

    A ProxyError is raised only while nothing has been sent; the caller answers it. Afterwards errors break the reply
    off. Runs in a task of its own, so that a client that hangs up does not end it.
    """
    call = dialect.read(request.body)
    if not (call.messages or call.preamble or call.prefill):
        raise InvalidBody("`messages` is empty; send at least your new message.", param="messages")
    await run_as(
        dialect,
        request,
        call,
        identify(request.headers, request.path_session, call, house.policies),
        house,
        client,
        record,
    )


async def run_as(
    dialect: Dialect,
    request: Request,
    call: Call,
    who: Identity | None,
    house: House,
    client: Client,
    record: ExchangeRecord,
) -> None:
    """As `run`, for a request that is read already and whose place is known."""
    record.model, record.stream = call.model[:LOGGED_CHARS], call.stream
    visit = house.turnstile.begin()
    if who is not None and who.own is not None:
        who.own.began(visit)
    try:
        client.on_gone(lambda: house.turnstile.client_left(visit))
        if who is None:
            await _stateless(request, house, client, record, ())
        elif who.own is not None and ignored(call, who.policy):
            unrecorded = msgspec.structs.replace(who, record=False)
            await _stateful(dialect, request, call, unrecorded, house, client, record, visit)
        elif ignored(call, who.policy):
            record.kind = "side"
            record.session, record.policy = who.session, who.policy.name
            await _stateless(request, house, client, record, ())
        else:
            await _stateful(dialect, request, call, who, house, client, record, visit)
    except asyncio.CancelledError:
        if visit.reason is None:
            raise
        visit.calm()
        record.error = record.error or visit.reason.name.lower()
        if visit.reason is Reason.STOPPING and not client.gone:
            if not client.started:
                raise Stopping("The proxy stopped before the reply was complete; send the request again.") from None
            await client.break_off(record.error)
        elif visit.reason is Reason.CANCELLED and not client.gone:
            await client.break_off(record.error)
    finally:
        house.turnstile.end(visit)


async def _stateful(
    dialect: Dialect,
    request: Request,
    call: Call,
    who: Identity,
    house: House,
    client: Client,
    record: ExchangeRecord,
    visit: Visit,
) -> None:
    tenant = request.tenant()
    ref = ref_of(who, tenant.name)
    record.kind, record.session, record.policy = "session", who.session, who.policy.name
    record.tenant = tenant.shown
    tried = attempt(request.headers, request.body) if who.record else None
    claim: Claim | None = None
    try:
        if tried is not None:
            claimed = await _claimed(house, ref, tried, who)
            if isinstance(claimed, Replay):
                await _answer_again(house, who, ref, tried, claimed, client, record)
                return
            claim, visit.key = claimed, tried.key
        if who.record:
            since = time.monotonic()
            turnstile = house.turnstile
            if tried is not None and tried.again and turnstile.shared:
                await turnstile.behind(visit, ref, who.policy)
                if await _recorded(house, who, ref, tried, client, record):
                    return
                if ref.kind != "chain":
                    await turnstile.enter(visit, ref, who.policy)
                # a first one that paused, and whose places had lapsed, may have been quicker
                if visit.holder and await _recorded(house, who, ref, tried, client, record):
                    return
            elif ref.kind == "chain":
                # responses that go on from the same one are branches: they need not wait for each other
                await turnstile.before(visit, ref)
            else:
                await turnstile.first(visit, ref, who.policy)
            record.queued_ms = ms(since)
        prepared = await assemble(dialect, request, call, who, house)
        await Conversation(dialect, request, house, client, record, visit, who, prepared, tried, claim).hold()
    except StoreUnavailable as error:
        if who.policy.session.on_store_failure != "stateless" or error.retry is False or who.own is not None:
            raise
        record.error = error.code
        marks = (("X-Session-Id", who.session), ("X-Session-Context", f'policy="{who.policy.name}", stateless'))
        await _stateless(request, house, client, record, marks)
    finally:
        if claim is not None:
            claim.end()


async def _claimed(house: House, ref: Ref, tried: Attempt, who: Identity) -> Claim | Replay:
    try:
        return await house.retries.claim(ref, tried, who.policy.queue_timeout_s)
    except TimeoutError:
        raise QueueTimeout("The same request still runs; send it again later.", retry_after_s=1) from None


async def _recorded(
    house: House, who: Identity, ref: Ref, tried: Attempt, client: Client, record: ExchangeRecord
) -> bool:
    """While this one stood in line, the first may have been recorded by another process: then it is answered."""
    replay = await house.store.find_replay(ref, tried.key)
    if replay is None:
        return False
    same(replay, tried)
    await _answer_again(house, who, ref, tried, replay, client, record)
    return True


async def _answer_again(
    house: House, who: Identity, ref: Ref, tried: Attempt, replay: Replay, client: Client, record: ExchangeRecord
) -> None:
    """This was the same request again: it gets the recorded reply."""
    record.status, record.recorded = replay.status, "replayed"
    if who.own is not None:
        sent = await who.own.again(replay)
    else:
        sent = await client.send(replay.status, "", NO_HEADERS, replay.headers, replay.body)
    if sent:
        house.store.delivered(ref, tried.key)


async def _stateless(
    request: Request,
    house: House,
    client: Client,
    record: ExchangeRecord,
    marks: Marks,
) -> None:
    """Relays the request as it came, and the reply as it comes."""
    if request.encoding:
        request.upstream_headers["Content-Encoding"] = request.encoding
    reply = await ask(request, request.raw, house, record)
    try:
        await client.start(reply.status, reply.reason, reply.headers, marks, sized=True)
        try:
            while chunk := await reply.read():
                record.bytes_out += len(chunk)
                await client.write(chunk)
        except UpstreamError as error:
            record.error = error.code
            await client.break_off(error.code)
            return
        await client.finish()
    finally:
        reply.close()
