"""One conversation through one policy, by the planners that serve requests; what is sent goes on the account.

The way of an exchange is that of `proxy.exchange.assemble` and `reflect`, without waiting: a summary is made after the
reply, always succeeds, and is seen by the next turn. A transcript does not tell what else stood in a request's body:
each is taken to hold its new messages, no tools, and no limit for the reply.
"""

from collections.abc import Iterator

import msgspec

from proxy.cli.simulation.account import Account
from proxy.cli.simulation.branch import Branches
from proxy.cli.simulation.left_out import LeftOut
from proxy.cli.simulation.memory import Memory
from proxy.cli.simulation.prefix import Caching, Piece, PrefixCache
from proxy.cli.simulation.prompt import Prompts
from proxy.cli.simulation.transcript import Conversation, Exchange
from proxy.context import summary as rolling
from proxy.context import window
from proxy.context.compose import compose
from proxy.context.contract import Budget, Cut, Own, Summarise
from proxy.conversation import turn
from proxy.conversation.entry import Chain, Entry, Preamble, grow
from proxy.conversation.message import shape
from proxy.conversation.summary import Summary
from proxy.policy import Policy
from proxy.tokens import counter, limits

KEY = b"simulate"
"""Of digests, which nobody compares here."""


class Terms(msgspec.Struct, frozen=True):
    """What holds for every policy."""

    caching: Caching = Caching()
    pace_s: float = 60.0
    """Between two requests where the transcript tells no time."""


def replay(conversation: Conversation, policy: Policy, terms: Terms, account: Account) -> Iterator[None]:
    """Yields after each exchange."""
    lane = _Lane(policy, terms, account)
    for number, exchange in enumerate(conversation.exchanges):
        lane.take(number, exchange)
        yield


class _Lane:
    """One policy's life with one conversation."""

    def __init__(self, policy: Policy, terms: Terms, account: Account) -> None:
        self._policy = policy
        self._pace_s = terms.pace_s
        self._caching = terms.caching
        self._caches: dict[str, PrefixCache] = {}
        """Of each model; none reads what another has read."""
        self._account = account
        self._branches = Branches()
        self._prompts = Prompts()
        self._memory = Memory(self._branches)
        self._left_out = LeftOut(self._branches, account)
        self._now_s: float | None = None

    def take(self, number: int, exchange: Exchange) -> None:
        """Load, plan, compose, send; record; reflect."""
        policy, model = self._policy, exchange.model
        now_s = self._clock(exchange)
        preamble = _preamble(exchange)
        context_tokens = policy.upstream.context_tokens or limits.context_tokens(model)
        key = window.anchor_key(policy.key, policy.window, context_tokens)
        far = window.reach(policy.window, context_tokens)
        chain = self._branches.load(exchange.parent, key=key, reach=far, preamble=preamble)
        summary = rolling.seen(chain, key) if policy.summary else None
        room = self._room(exchange, context_tokens, summary)
        steps = window.cut(
            chain,
            room,
            continues=exchange.new[0].message.role != "user",
            start=summary.upto if summary else 0,
        )
        here = self._branches.answer(steps)
        self._left_out.count(chain, here, summary)

        self._prompts.know(exchange)
        own = Own(tuple((shape(message, tokens), message.wire) for message, tokens in exchange.new))
        excerpts = b""
        if policy.recall and chain is not None:
            excerpts, own = self._recalled(exchange, chain, here, own, now_s)
        context = compose(chain, here, own, exchange.dialect.no_result)
        prompt = [
            *self._prompts.lead(exchange, policy.summary, summary),
            *self._prompts.messages(context.messages, model, exchange.dialect),
        ]
        tokens, cached = self._sent(prompt, model, now_s)
        self._account.request(number, tokens, cached, sum(each.tokens for each in exchange.reply))

        said = (*exchange.new, *exchange.reply)
        entry = grow(
            id=exchange.id,
            parent=chain.head if chain else None,
            key=KEY,
            messages=[each.message for each in said],
            tokens=[each.tokens for each in said],
            dialect=exchange.dialect.name,
            model=model,
            preamble=preamble.id if preamble else b"",
            anchor=rolling.paired(here.anchor, summary.id if summary else ""),
            at_ms=1 + int(now_s * 1000),
            recalled=excerpts,
        )
        self._branches.add(entry)
        self._prompts.recorded(entry)
        if policy.recall is not None:
            self._memory.add(entry, exchange)
        # never in the middle of a turn
        if policy.summary is not None and not entry.facts.open:
            self._summarise(policy.summary, exchange, entry, room, now_s)

    def _clock(self, exchange: Exchange) -> float:
        """When the request is sent, in seconds that never run backwards."""
        if self._now_s is None:
            self._now_s = exchange.at_s or 0.0
        elif exchange.at_s is None:
            self._now_s += self._pace_s
        else:
            self._now_s = max(self._now_s, exchange.at_s)
        return self._now_s

    def _room(self, exchange: Exchange, context_tokens: int | None, summary: Summary | None) -> Budget:
        policy = self._policy
        prompt_tokens = limits.prompt_tokens(exchange.model, None, policy.upstream.context_tokens)
        fixed = sum(each.tokens for each in (*exchange.preamble, *exchange.new))
        to_come = policy.recall.max_tokens if policy.recall else 0
        return window.budget(
            policy.key,
            policy.window,
            context_tokens=context_tokens,
            reserve=context_tokens - prompt_tokens if context_tokens and prompt_tokens is not None else 0,
            fixed=counter.PRIMING_TOKENS + fixed + (summary.tokens if summary else 0) + to_come,
            ratio=1.0,
        )

    def _recalled(self, exchange: Exchange, chain: Chain, here: Cut, own: Own, now_s: float) -> tuple[bytes, Own]:
        """The text of the turn's excerpts, and `own` with them in its user message."""
        settings = self._policy.recall
        assert settings is not None
        roles = [each.message.role for each in exchange.new]
        if "user" not in roles:
            return chain.head.facts.recalled, self._repeated(exchange, chain, here, own)
        asked = len(roles) - 1 - roles[::-1].index("user")
        message, tokens = exchange.new[asked]
        found = None
        if here.anchor.start:
            found = self._memory.recall(exchange.new[asked], settings, exchange, here.anchor.start, int(now_s * 1000))
        if found is None:
            return b"", own
        self._account.recalled += len({excerpt.turn for excerpt in found.excerpts})
        wire = exchange.dialect.amended(message.wire, found.text, before=True)
        self._prompts.weighs(wire, tokens + counter.count_text(found.text, exchange.model))
        new = (*own.new[:asked], (own.new[asked][0], wire), *own.new[asked + 1 :])
        return found.text.encode(), msgspec.structs.replace(own, new=new)

    def _repeated(self, exchange: Exchange, chain: Chain, here: Cut, own: Own) -> Own:
        """`own` with the excerpts of the turn that is under way, which all its steps show."""
        text = chain.head.facts.recalled.decode()
        if not text:
            return own
        for entry in (*reversed(here.entries), *reversed(here.opening)):
            for position, form, wire in reversed(tuple(entry.messages())):
                if form.role == "user":
                    amended = exchange.dialect.amended(wire, text, before=True)
                    self._prompts.weighs(amended, form.tokens + counter.count_text(text, exchange.model))
                    return msgspec.structs.replace(own, amended=(position, amended))
        return own

    def _sent(self, prompt: list[Piece], model: str, now_s: float) -> tuple[int, int]:
        """Tokens of the prompt, and those of them that come from the cache."""
        cache = self._caches.setdefault(model, PrefixCache(self._caching))
        return counter.PRIMING_TOKENS + sum(tokens for _, tokens in prompt), cache.read(prompt, now_s)

    def _summarise(self, asked: Summarise, exchange: Exchange, entry: Entry, room: Budget, now_s: float) -> None:
        """The calls that follow a reply: one, or as many as it takes to catch up."""
        known, model = self._branches.summaries, asked.model or exchange.model
        preamble = _preamble(exchange)
        complete = False
        while not complete:
            chain = self._branches.load(entry.id, key=room.key, reach=0, preamble=preamble)
            assert chain is not None
            fold = self._branches.answer(rolling.fold(chain, room, known))
            if fold is None:
                return
            prompt = [
                *self._prompts.lead(exchange, asked, fold.base),
                *self._prompts.messages(turn.repair(fold.items, exchange.dialect.no_result), model, exchange.dialect),
                self._prompts.instruction(asked, model),
            ]
            tokens, cached = self._sent(prompt, model, now_s)
            self._account.summary(tokens, cached, asked.max_tokens)
            number = len(known) + 1
            known.append(
                Summary(
                    id=f"{number:032x}",
                    entry=fold.entry,
                    upto=fold.upto,
                    text=f"summary {number}",
                    tokens=asked.max_tokens + counter.count_text(rolling.HEADING, model),
                    generation=fold.base.generation + 1 if fold.base else 1,
                    before=fold.base.id if fold.base else "",
                    model=model,
                    at_ms=entry.facts.at_ms,
                )
            )
            complete = fold.complete


def _preamble(exchange: Exchange) -> Preamble | None:
    if not exchange.preamble:
        return None
    wires = [each.message.wire for each in exchange.preamble]
    return Preamble(b",".join(wires), sum(each.tokens for each in exchange.preamble))
