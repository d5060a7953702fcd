"""The append: from an answer to the entry that is recorded, before the client sees the reply's end."""

import msgspec

from proxy.conversation.entry import Entry, grow
from proxy.conversation.message import Message
from proxy.conversation.reply import Reply
from proxy.dialects.contract import Dialect
from proxy.errors import SessionConflict
from proxy.exchange.assemble import Prepared, count
from proxy.exchange.contract import Marks, Request
from proxy.exchange.house import House
from proxy.exchange.retry import Attempt
from proxy.exchange.turnstile import Visit
from proxy.stores.contract import Append, Conflict, Replay
from proxy.upstream.contract import UpstreamReply

PARALLEL_TRIES = 1000
"""How often a parallel exchange may find that the session has moved again before it gives up."""

_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode

Sent = tuple[UpstreamReply, Marks, bytes]
"""The reply as the client gets it: its head, the headers beside it, the whole body."""


async def commit(
    dialect: Dialect,
    request: Request,
    house: House,
    prepared: Prepared,
    answer: Reply,
    state: str,
    tried: Attempt | None,
    sent: Sent | None,
    note: bytes = b"",
    visit: Visit | None = None,
) -> Entry:
    """Appends the request's new messages and the answer's as one entry; durable when it returns.

    Raises SessionConflict where the session moved meanwhile and the policy is not `parallel`, or was erased;
    StoreUnavailable. `visit`: whose places must not have lapsed.
    """
    assert answer.message is not None
    message = dialect.settle(answer.message, tool_turn=_tool_turn(prepared.new))
    messages = (*prepared.new, message)
    tokens = (*prepared.tokens, *await count((message,), prepared.call.model))
    entry = _entry(request, dialect, prepared, prepared.parent, messages, tokens, answer, state, answer.finish)
    policy = prepared.policy
    replay = None
    if tried is not None and sent is not None:
        reply, marks, body = sent
        # of the upstream's headers only what the body needs: others may hold cookies
        kind = reply.headers.getall("Content-Type", [])
        headers = (*(("Content-Type", value) for value in kind), *marks)
        replay = Replay(tried.key, tried.request, tried.sticky, reply.status, headers, body, entry.id)
    parallel = policy.session.concurrency == "parallel" or prepared.named
    expected = prepared.head
    for _ in range(PARALLEL_TRIES if parallel else 1):
        if visit is not None:
            house.turnstile.check_place(visit)
        outcome = await house.store.append(
            Append(
                ref=prepared.ref,
                expected=expected,
                entry=entry,
                preamble=prepared.preamble,
                plan=_json(prepared.plan),
                whole=prepared.reading.whole and prepared.reading.known > 0,
                ttl_s=policy.ttl_s,
                replay=replay,
                note=note,
                holder=visit.holder if visit is not None else "",
            )
        )
        if not isinstance(outcome, Conflict):
            return entry
        if not parallel or await _erased(house, prepared):
            break
        expected = outcome.head
        if not (prepared.plan.branch or prepared.named):
            # appended as they end: behind whatever has come since, though the reply was made without it
            chain = await house.store.load(prepared.ref, key="", reach=0) if expected else None
            expected = chain.ref_head if chain else None
            parent = chain.head if chain else None
            entry = _entry(request, dialect, prepared, parent, messages, tokens, answer, state, answer.finish)
    raise SessionConflict("The session moved while the reply was made, so it was not recorded; send the request again.")


async def commit_failed(
    dialect: Dialect, request: Request, house: House, prepared: Prepared, answer: Reply, code: str
) -> bool:
    """Keeps what was said and read of a failed exchange, off the ref; False if there is nothing to keep, or what it
    follows was erased. Raises StoreUnavailable."""
    messages = prepared.new if answer.message is None else (*prepared.new, answer.message)
    if not messages or (prepared.parent is None and await _erased(house, prepared)):
        return False
    tokens = (*prepared.tokens, *((0,) if answer.message is not None else ()))
    parent = prepared.parent
    entry = _entry(request, dialect, prepared, parent, messages, tokens, answer, "failed", code)
    outcome = await house.store.append(
        Append(
            ref=prepared.ref,
            expected=None,
            entry=entry,
            preamble=prepared.preamble,
            plan=_json(prepared.plan),
            ttl_s=prepared.policy.ttl_s,
            moves=False,
        )
    )
    return not isinstance(outcome, Conflict)


async def _erased(house: House, prepared: Prepared) -> bool:
    """What the session held when it was read is gone: nothing that was made from it may come back."""
    read = (prepared.parent.id if prepared.parent else None) if prepared.named else prepared.head
    if read is None:
        return False
    return await house.store.load(prepared.ref, key="", reach=0, entry=read) is None


def _entry(
    request: Request,
    dialect: Dialect,
    prepared: Prepared,
    parent: Entry | None,
    messages: tuple[Message, ...],
    tokens: tuple[int, ...],
    answer: Reply,
    state: str,
    finish: str,
) -> Entry:
    return grow(
        id=prepared.entry,
        parent=parent,
        key=request.tenant().digest_key,
        messages=messages,
        tokens=tokens,
        dialect=dialect.name,
        model=prepared.call.model,
        state=state,
        preamble=prepared.preamble.id if prepared.preamble else b"",
        anchor=prepared.plan.anchor,
        estimated=prepared.estimated,
        reported=answer.prompt_tokens,
        finish=finish,
        recalled=_pack(prepared.recalled) if prepared.recalled else b"",
    )


def _tool_turn(new: tuple[Message, ...]) -> bool:
    """The turn that the reply belongs to has used tools."""
    for message in reversed(new):
        if message.calls or message.answers:
            return True
        if message.role == "user":
            return False
    return False
