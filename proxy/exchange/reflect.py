"""After the reply: what left the window becomes a summary, and what was said becomes searchable.

Never on a client's path: a failure here is logged and tried again, and changes nothing that is stored.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Sequence

import msgspec

from proxy.context import summary as rolling
from proxy.context.contract import Budget, Read, Summarise
from proxy.conversation import turn
from proxy.conversation.entry import Chain, Entry, Preamble, new_id
from proxy.conversation.message import Message
from proxy.conversation.summary import Summary
from proxy.dialects.contract import Dialect
from proxy.errors import ProxyError
from proxy.exchange.aside import Way, fetch
from proxy.exchange.errands import Errands, Failed
from proxy.exchange.index import index
from proxy.exchange.lead import lead
from proxy.exchange.overflow import overflow
from proxy.exchange.record import LOGGED_CHARS, ExchangeRecord
from proxy.policy import Policy
from proxy.stores.contract import Ref, Store
from proxy.tokens import counter
from proxy.units import duration_s
from proxy.upstream.contract import Upstream

PORTIONS_AT_MOST = 200
"""Calls in a row for one errand, where a long history has no summary yet."""
LEAST_PORTION = 64
"""Tokens below which a portion is not halved any more."""
REPLY_AT_MOST = 4 * 1024 * 1024
_CUT = frozenset({"length", "model_length", "max_tokens", "content_filter"})


class Cause(msgspec.Struct, frozen=True):
    """A reply that was recorded. Kept in memory until the errand is done, so it holds nothing of the bodies."""

    dialect: Dialect
    way: Way
    model: str
    """Of the request."""
    aside: bytes
    """See `Dialect.aside`; b"" where no summary shall be made."""
    ref: Ref
    policy: Policy
    room: Budget
    head: str
    """The id of the entry that was recorded."""
    turn: int
    """Its number."""
    open: bool
    """The turn goes on: calls wait for their results."""
    tokens: int
    """Of the kept history, it included ..."""
    turns: int
    """... which are so many turns at least."""
    missing: bool
    """Turns left the window that are in no summary."""


class _TooLong(Exception):
    """The model cannot take so much at once."""


class Reflections:
    """What is done after replies."""

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        observe: Callable[[ExchangeRecord], None],
        broke: Callable[[Exception], None],
    ) -> None:
        """`observe` is told of each call to the model, `broke` of each bug."""
        self._store = store
        self._upstream = upstream
        self._observe = observe
        self._summaries: Errands[Cause] = Errands(self._summarise, broke)
        self._indexes: Errands[Cause] = Errands(self._index, broke)

    def after(self, cause: Cause) -> None:
        """A reply was recorded. Returns at once."""
        if cause.policy.recall is not None and self._store.searches:
            self._indexes.begin(cause.ref, cause)
        if cause.aside and _worth_a_look(cause):
            self._summaries.begin(cause.ref, cause)

    async def idle(self) -> None:
        """Until all is done that is not waiting to be tried again."""
        await self._summaries.idle()
        await self._indexes.idle()

    async def close(self) -> None:
        await self._summaries.close()
        await self._indexes.close()

    async def _index(self, cause: Cause) -> None:
        try:
            await index(self._store, self._upstream, cause.dialect, cause.way, cause.policy, cause.ref, cause.head)
        except ProxyError as error:
            raise Failed from error

    async def _summarise(self, cause: Cause) -> None:
        most: int | None = None
        try:
            for _ in range(PORTIONS_AT_MOST):
                chain, fold = await self._fold(cause, most)
                if chain is None or fold is None:
                    return
                try:
                    summary = await self._written(cause, fold, chain.preamble)
                except _TooLong:
                    weight = sum(shape.tokens for shape, _ in fold.items)
                    if weight <= LEAST_PORTION:
                        raise Failed from None
                    most = weight // 2
                    continue
                kept = await self._store.keep_summary(cause.ref, summary, revision=chain.revision)
                if not kept or fold.complete:
                    return
        except ProxyError as error:
            raise Failed from error

    async def _fold(self, cause: Cause, most: int | None) -> tuple[Chain | None, rolling.Fold | None]:
        chain = await self._store.load(cause.ref, key=cause.room.key, reach=0, entry=cause.head)
        if chain is None:
            return None, None
        known = await self._store.summaries(cause.ref)
        steps: Generator[Read, Sequence[Entry], rolling.Fold | None] = rolling.fold(chain, cause.room, known, most)
        try:
            need = next(steps)
            while True:
                need = steps.send(await self._store.read(cause.ref, cause.head, need.first, need.upto))
        except StopIteration as stop:
            fold: rolling.Fold | None = stop.value
            return chain, fold

    async def _written(self, cause: Cause, fold: rolling.Fold, before: Preamble | None) -> Summary:
        """Asks the model. Raises Failed for anything that is no summary, _TooLong if it cannot take so much."""
        settings = cause.policy.summary
        assert settings is not None
        dialect, policy = cause.dialect, cause.policy
        preamble, first = lead(dialect, settings, before, fold.base)
        said = turn.repair(fold.items, dialect.no_result)
        question = dialect.said("user", rolling.prompt(settings.prompt, settings.max_tokens))
        body = dialect.ask(cause.aside, preamble, (*first, *said, question), policy.upstream, settings.model)
        model = settings.model or cause.model
        record = ExchangeRecord(
            at_ms=time.time_ns() // 1_000_000,
            method="POST",
            path=cause.way.target.partition("?")[0],
            kind="summary",
            session=cause.ref.name,
            policy=policy.name,
            model=model[:LOGGED_CHARS],
            turn=cause.turn,
        )
        began = time.monotonic()
        try:
            message = await self._asked(cause, body, settings, record)
            text = _plain(message.text)
            tokens = await asyncio.to_thread(counter.count_text, text, model)
            if not text:
                record.error = "summary_empty"
            elif tokens > settings.max_tokens:
                record.error = "summary_too_long"
            if record.error:
                raise Failed
        finally:
            record.total_ms = round((time.monotonic() - began) * 1000, 3)
            self._observe(record)
        base = fold.base
        heading = await asyncio.to_thread(counter.count_text, rolling.HEADING, model)
        return Summary(
            id=new_id(),
            entry=fold.entry,
            upto=fold.upto,
            text=text,
            tokens=tokens + heading,
            generation=base.generation + 1 if base else 1,
            before=base.id if base else "",
            model=model,
            at_ms=record.at_ms,
        )

    async def _asked(self, cause: Cause, body: bytes, settings: Summarise, record: ExchangeRecord) -> Message:
        """The message that the model answers. Raises Failed, with the reason in `record`."""
        try:
            async with asyncio.timeout(duration_s(settings.timeout)):
                reply = await fetch(self._upstream, cause.way, cause.way.target, body, most=REPLY_AT_MOST)
                record.status = reply.status
        except TimeoutError:
            record.error = "summary_timeout"
            raise Failed from None
        except ProxyError as error:
            record.error = error.code
            raise Failed from error
        if overflow(reply.status, reply.body):
            record.error = "summary_request_too_long"
            raise _TooLong
        reader = cause.dialect.reader(cause.dialect.read(body), stream=reply.stream)
        reader.feed(reply.body)
        reader.end()
        answer = reader.reply()
        record.finish = answer.finish[:LOGGED_CHARS]
        record.prompt_tokens, record.completion_tokens = answer.prompt_tokens, answer.completion_tokens
        if not 200 <= record.status < 300 or answer.message is None or not answer.whole:
            record.error = "summary_refused"
        elif answer.message.calls:
            record.error = "summary_is_a_call"
        elif answer.finish in _CUT:
            record.error = "summary_cut_off"
        if record.error or answer.message is None:
            raise Failed
        return answer.message


def _worth_a_look(cause: Cause) -> bool:
    """Cheap, and asked after every reply; what it lets through, `fold` decides. Never in the middle of a turn."""
    if cause.open:
        return False
    limit, most = cause.room.max_tokens, cause.room.max_turns
    full = limit is not None and cause.tokens + cause.tokens // max(1, cause.turns) > limit
    return cause.missing or full or (most > 0 and cause.turns + 1 > most)


def _plain(text: str) -> str:
    """Without the thoughts that some servers leave in front of the answer."""
    text = text.strip()
    if text.startswith("<think>"):
        _, mark, rest = text.partition("</think>")
        text = rest.strip() if mark else ""
    return text
