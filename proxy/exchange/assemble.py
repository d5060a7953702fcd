"""Load, reconcile, plan, write: from a request's messages and the store to the body that goes upstream."""

import asyncio
from collections.abc import Generator, Sequence

import msgspec

from proxy.context import summary as rolling
from proxy.context import window
from proxy.context.compose import compose
from proxy.context.contract import Budget, Context, Cut, Own, Plan, Read, Recalled
from proxy.conversation import turn
from proxy.conversation.entry import Chain, Entry, Preamble, new_id
from proxy.conversation.message import Message, Shape, shape
from proxy.conversation.summary import Summary
from proxy.dialects.contract import Call, Dialect
from proxy.errors import ContextTooLong, InvalidBody, InvalidHeader, UnknownToolCall
from proxy.exchange.contract import Request
from proxy.exchange.house import House, Learned
from proxy.exchange.identify import FROM_HEADER, Identity, ref_of
from proxy.exchange.lead import lead
from proxy.exchange.lookup import from_turn, reconciled
from proxy.exchange.overflow import Overflow, prompt
from proxy.exchange.recollect import Place, recollect
from proxy.exchange.reconcile import Reading
from proxy.policy import Policy
from proxy.stores.contract import Ref, Store
from proxy.tokens import counter, limits, vocabulary

_recalled = msgspec.msgpack.Decoder(Recalled).decode


class Prepared(msgspec.Struct, frozen=True):
    """One exchange, ready to be sent and later recorded."""

    entry: str
    """The id of the entry to come: whatever becomes of the exchange, it is appended once."""
    call: Call
    ref: Ref
    policy: Policy
    body: bytes
    """What goes upstream."""
    parent: Entry | None
    """The entry that the new one will follow."""
    head: str | None
    """What the ref named when it was read: an append expects it there. None: the ref was unknown."""
    reading: Reading
    named: bool
    """The request itself names the parent: its entry goes there, whatever the ref names by then."""
    new: tuple[Message, ...]
    """The request's messages that are not recorded yet."""
    tokens: tuple[int, ...]
    """Of each of `new`."""
    turn: int
    """The number that the exchange's turn will have."""
    preamble: Preamble | None
    """The one in force."""
    plan: Plan
    chain: Chain | None
    """What the context was made from, as far as it was read."""
    room: Budget
    """What the request left for it."""
    turns: int
    """Turns that were kept, at least."""
    estimated: int
    """Tokens that `body` is thought to hold."""
    recalled: Recalled | None
    """What stands in the turn's user message, from now or from its first step."""

    @property
    def context_header(self) -> str:
        plan = self.plan
        more = f", summarised={plan.summarised}" if plan.summarised else ""
        if plan.recalled:
            more += f", recalled={len(plan.recalled)}"
        if plan.branch:
            more += ", branch"
        return f'policy="{self.policy.name}", kept={plan.kept}, dropped={plan.dropped}, tokens={plan.tokens}{more}'


class Tighter(msgspec.Struct, frozen=True):
    """The upstream refused a context as too long: how to make the next one."""

    tokens: int
    """Of history, at most."""
    said: str
    """By the upstream, in figures."""


async def assemble(
    dialect: Dialect, request: Request, call: Call, who: Identity, house: House, tighter: Tighter | None = None
) -> Prepared:
    """Raises StoreUnavailable, UnknownTurn, UnknownToolCall."""
    tenant = request.tenant()
    store = house.store
    ref = ref_of(who, tenant.name)
    policy, own_way = who.policy, who.own
    context_tokens = policy.upstream.context_tokens or limits.context_tokens(call.model)
    key = window.anchor_key(policy.key, policy.window, context_tokens)
    far = window.reach(policy.window, context_tokens)

    at_head = await store.load(ref, key=key, reach=far)
    head = at_head.head.id if at_head else None
    if at_head is not None and at_head.head.facts.dialect != dialect.name:
        # messages of two APIs cannot stand in one body
        raise InvalidBody(
            "This conversation was recorded through another API; go on with it there, or begin a new one."
        )
    copied: tuple[Message, ...] = ()
    if own_way is not None:
        reading = Reading(whole=False, parent=(head or "") if own_way.parent is None else own_way.parent)
    elif who.from_turn is None:
        reading = await reconciled(dialect, tenant.digest_key, call, policy, store, ref, at_head)
    else:
        if policy.session.history != "delta" and any(message.role == "assistant" for message in call.messages):
            raise InvalidHeader(f"{FROM_HEADER} goes with new messages only; leave the history out.")
        reading, copied = await from_turn(dialect, store, ref, who.from_turn)
    chain = at_head
    if reading.parent != (head or ""):
        chain = await store.load(ref, key=key, reach=far, entry=reading.parent) if reading.parent else None
    parent = chain.head if chain else None
    if parent is None and reading.parent:
        # erased between two reads
        reading = Reading(whole=reading.whole, parent="")

    if own_way is not None and (parent is not None or ref.kind == "conversation"):
        # there, instructions of the system are items like others; at the root of a chain they stay above it
        call = msgspec.structs.replace(call, preamble=(), messages=call.preamble + call.messages)
    new = copied + call.messages[reading.known :]
    _check_calls(new, parent)
    tokens = await count(new, call.model)
    preamble = await _preamble(call, reading, chain)
    puts_back = policy.session.history != "full"
    summary = rolling.seen(chain, key) if policy.summary and puts_back else None
    fixed = (
        counter.PRIMING_TOKENS
        + sum(tokens)
        + (preamble.tokens if preamble else 0)
        + (summary.tokens if summary else 0)
        + counter.overhead(call.overhead, call.model)
        + (counter.overhead(own_way.lead, call.model) if own_way else 0)
    )
    room = _room(call, policy, context_tokens, fixed, parent, house.learned.get(tenant.name, call.model), tighter)
    continues = not new or new[0].role != "user"
    steps = window.cut(chain, room, continues=continues, start=summary.upto if summary else 0)
    here = await _answered(steps, store, ref, parent)
    if own_way is not None and not own_way.truncates and here.dropped:
        raise ContextTooLong(
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
            param="input",
        )
    inherited = rolling.paired(here.anchor, summary.id if summary else _named(parent))
    if not puts_back and reading.offset > here.anchor.start:
        here = window.only_from(here, reading.offset)
    own = Own(
        new=tuple((shape(message, n), message.wire) for message, n in zip(new, tokens, strict=True)),
        known=tuple((shape(message, 0), message.wire) for message in call.messages[: reading.known]),
        offset=reading.offset,
        pinned=reading.pinned,
    )
    recalled: Recalled | None = None
    if policy.recall and chain is not None and puts_back:
        asked = next((n for n in range(len(new) - 1, -1, -1) if new[n].role == "user"), None)
        if asked is None:
            recalled = _recalled(packed) if (packed := chain.head.facts.recalled) else None
        elif here.anchor.start and store.searches and tighter is None:
            # a second try is made to fit what the first was refused for, so it recalls nothing
            pinned = (reading.offset, reading.offset + reading.known) if reading.pinned else (0, 0)
            place = Place(ref, chain.head, here.anchor.start, pinned)
            recalled = await recollect(dialect, request, call, policy.recall, house.upstream, store, place, new[asked])
        if recalled is not None:
            own = _with_excerpts(dialect, own, here, asked, recalled.text)
    context = compose(chain, here, own, dialect.no_result)
    if new and context.repaired and not any(wire in context.messages for _, wire in own.new):
        raise UnknownToolCall(
            "The call of this tool result is no longer in the context; send the result with a message.",
            param="messages",
        )
    turns = (parent.turn if parent else 0) + sum(1 for message in new if message.role == "user")
    extra = recalled.tokens if recalled else 0
    plan = Plan(
        policy=policy.name,
        anchor=inherited,
        upto=parent.upto if parent else 0,
        head=parent.id if parent else "",
        kept=here.kept,
        dropped=here.dropped,
        tokens=here.tokens,
        why=here.why,
        limit=room.max_tokens,
        repaired=context.repaired,
        history="whole" if reading.whole else "delta",
        branch=head is not None and reading.parent != head,
        summary=summary.id if summary else "",
        generation=summary.generation if summary else 0,
        summarised=summary.upto if summary else 0,
        summary_tokens=summary.tokens if summary else 0,
        recalled=recalled.excerpts if recalled else (),
        recalled_tokens=extra,
        overflow=tighter.said if tighter else "",
    )
    as_sent = context.unchanged and not (copied or summary or recalled or own_way)
    return Prepared(
        entry=own_way.entry if own_way else new_id(),
        call=call,
        ref=ref,
        policy=policy,
        body=_body(dialect, call, who, context, preamble, summary, as_sent=as_sent),
        parent=parent,
        head=head,
        reading=reading,
        named=own_way is not None and own_way.parent is not None,
        new=new,
        tokens=tokens,
        turn=max(turns, 1),
        preamble=preamble,
        plan=plan,
        chain=chain,
        room=room,
        turns=parent.turn - here.entries[0].turn + 1 if parent and here.entries else 0,
        estimated=fixed + here.tokens + extra,
        recalled=recalled,
    )


def _room(
    call: Call,
    policy: Policy,
    context_tokens: int | None,
    fixed: int,
    parent: Entry | None,
    learned: Learned | None,
    tighter: Tighter | None,
) -> Budget:
    """`fixed`: tokens of the request that are not history. `learned`: what the upstream was found to hold."""
    prompt_tokens = limits.prompt_tokens(call.model, call.reserve, policy.upstream.context_tokens)
    to_come = policy.recall.max_tokens if policy.recall else 0
    room = window.budget(
        policy.key,
        policy.window,
        context_tokens=context_tokens,
        reserve=context_tokens - prompt_tokens if context_tokens and prompt_tokens is not None else 0,
        fixed=fixed + to_come,
        ratio=_ratio(parent, call.model),
    )
    if tighter is not None:
        return Budget(room.key, tighter.tokens, 1.0, room.max_turns)
    if learned is not None and policy.window is not None:
        said = Overflow(learned.limit, learned.sent or None)
        most = max(0, prompt(said, estimated=learned.estimated, reserve=call.reserve or 0) - fixed - to_come)
        if room.max_tokens is None or most < room.max_tokens:
            return Budget(room.key, most, room.trim_to, room.max_turns)
    return room


def _named(parent: Entry | None) -> str:
    """The summary that the anchor before came with: one turn under a policy that shows none shall not lose it."""
    anchor = parent.facts.anchor if parent else None
    return anchor.summary if anchor else ""


def _with_excerpts(dialect: Dialect, own: Own, here: Cut, asked: int | None, excerpts: str) -> Own:
    """`own` with the excerpts in the turn's user message: the one at `asked` of the new ones, else the last that is
    kept."""
    if asked is not None:
        form, wire = own.new[asked]
        amended = (form, dialect.amended(wire, excerpts, before=True))
        return msgspec.structs.replace(own, new=(*own.new[:asked], amended, *own.new[asked + 1 :]))
    for entry in (*reversed(here.entries), *reversed(here.opening)):
        for position, form, wire in reversed(tuple(entry.messages())):
            if form.role == "user":
                return msgspec.structs.replace(own, amended=(position, dialect.amended(wire, excerpts, before=True)))
    return own


def _body(
    dialect: Dialect,
    call: Call,
    who: Identity,
    context: Context,
    preamble: Preamble | None,
    summary: Summary | None,
    *,
    as_sent: bool,
) -> bytes:
    """The client's own bytes where nothing was dropped, added or rewritten."""
    quirks = who.policy.upstream
    plain = not (quirks.alternate or quirks.one_system or quirks.developer != "developer")
    if as_sent and plain and (bool(call.preamble) or preamble is None):
        return call.members.body
    before, first = lead(dialect, who.policy.summary, preamble, summary)
    if who.own and who.own.lead:
        before = (who.own.lead, *before)
    return dialect.write(call, before, (*first, *context.messages), quirks)


def _check_calls(new: Sequence[Message], parent: Entry | None) -> None:
    facts = parent.facts if parent else None
    followed = turn.follow(
        (Shape(message.role, 0, 0, tuple(call.id for call in message.calls), message.answers) for message in new),
        facts.open if facts else (),
        facts.missed if facts else (),
    )
    if followed.unknown:
        raise UnknownToolCall(
            f"No stored call waits for the tool result '{followed.unknown[0][:80]}'; send results of calls that the "
            "session's last replies made, once each.",
            param="messages",
        )


async def count(messages: Sequence[Message], model: str) -> tuple[int, ...]:
    """Tokens of each message; long ones are counted in a thread, off the event loop."""
    if any(map(counter.is_slow, messages)):
        return await asyncio.to_thread(lambda: tuple(counter.count(message, model) for message in messages))
    return tuple(counter.count(message, model) for message in messages)


async def _preamble(call: Call, reading: Reading, chain: Chain | None) -> Preamble | None:
    """A delta without one uses the newest recorded; a whole history's is what it sent, also when that is nothing."""
    if call.preamble:
        wire = b",".join([message.wire for message in call.preamble])
        if chain and chain.preamble and chain.preamble.wire == wire:
            return chain.preamble
        return Preamble(wire, sum(await count(call.preamble, call.model)))
    if reading.whole:
        return None
    return chain.preamble if chain else None


def _ratio(parent: Entry | None, model: str) -> float:
    """Upstream's tokens for one of ours, as the newest entry has measured it; 1 for a model that the counter knows."""
    if parent is None or vocabulary.known(model):
        return 1.0
    facts = parent.facts
    return counter.ratio(facts.estimated, facts.reported) if facts.model == model else 1.0


async def _answered(steps: Generator[Read, Sequence[Entry], Cut], store: Store, ref: Ref, parent: Entry | None) -> Cut:
    try:
        need = next(steps)
        while True:
            assert parent is not None
            need = steps.send(await store.read(ref, parent.id, need.first, need.upto))
    except StopIteration as stop:
        here: Cut = stop.value
        return here
