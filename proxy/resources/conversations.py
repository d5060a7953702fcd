"""The Conversations API: a conversation is a ref that lasts, its items stand in the notes of its entries.

Items that a client adds become an entry of their own. A deleted item leaves its entry with what is left of it: what is
sent to the model next, and what is kept, is without it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec
import orjson

from proxy.conversation import turn
from proxy.conversation.entry import Chain, Entry, grow, new_id
from proxy.conversation.message import Message, shape
from proxy.conversation.redact import ERASED, redacted, unquoted
from proxy.dialects.contract import Dialect, Piece, Translation
from proxy.errors import InvalidBody, NotFound, SessionConflict, UnknownToolCall
from proxy.exchange.assemble import count
from proxy.exchange.contract import NO_HEADERS, Client, Request
from proxy.exchange.house import House
from proxy.exchange.identify import POLICY_HEADER
from proxy.exchange.record import ExchangeRecord
from proxy.exchange.retry import Attempt, attempt, same
from proxy.framing.members import Members
from proxy.policy import Policy
from proxy.resources import notes
from proxy.resources.alone import alone
from proxy.resources.ids import conversation_ref, entry_of_item, new_conversation, response_id
from proxy.resources.metadata import metadata as read_metadata
from proxy.resources.notes import NONE
from proxy.resources.paging import Page, listing, page, unknown_after
from proxy.resources.responses import Responses
from proxy.resources.speaker import JSON
from proxy.stores.contract import Append, Appended, Noted, Redaction, Ref, Replay, tag

ITEMS_AT_ONCE = 20
"""As OpenAI allows."""
READ_AT_ONCE = 32
TRIES = 100


class _Label(msgspec.Struct):
    metadata: dict[str, str]


class _New(msgspec.Struct):
    items: msgspec.Raw = NONE
    metadata: msgspec.Raw = NONE


_label = msgspec.json.Decoder(_Label).decode


class Conversations:
    """`dialect`: what the upstream speaks."""

    def __init__(self, house: House, dialect: Dialect, translation: Translation, responses: Responses) -> None:
        self._house = house
        self._store = house.store
        self._dialect = dialect
        self._translation = translation
        self._responses = responses

    async def create(self, request: Request) -> bytes:
        """Raises InvalidBody."""
        said = _body(request.body or b"{}", "items", "metadata")
        metadata = _metadata(said)
        id = new_conversation()
        ref = self._named(request, id)
        items = await self._read(request, ref, said.items, least=0)
        _check_calls(self._messages(items[1]), None)
        made = await self._store.label(ref, notes.encode(_Label(metadata)), new=True, ttl_s=self._policy(request).ttl_s)
        assert made
        if items[1]:
            await self._add(request, ref, *items)
        return await self.retrieve(request, id)

    async def retrieve(self, request: Request, id: str) -> bytes:
        """Raises NotFound."""
        kept = await self._store.labelled(self._named(request, id))
        if kept is None:
            raise _not_found(id)
        return _conversation(id, kept.created_ms // 1000, _label(kept.label).metadata)

    async def update(self, request: Request, id: str) -> bytes:
        """Raises NotFound, InvalidBody."""
        metadata = _metadata(_body(request.body, "metadata"))
        if not await self._store.label(self._named(request, id), notes.encode(_Label(metadata)), new=False):
            raise _not_found(id)
        return await self.retrieve(request, id)

    async def delete(self, request: Request, id: str) -> bytes:
        """Raises NotFound."""
        ref = self._named(request, id)
        if not await self._store.erase(ref):
            raise _not_found(id)
        self._responses.runs.erased(ref)
        return orjson.dumps({"id": id, "object": "conversation.deleted", "deleted": True})

    async def add_items(self, request: Request, id: str, client: Client, record: ExchangeRecord) -> None:
        """Answers `POST …/items` with what was added; the same request again adds nothing and is answered by the same.
        Raises NotFound, InvalidBody, UnknownToolCall, IdempotencyKeyReused."""
        record.kind = "resource"
        ref = self._named(request, id)
        if await self._store.labelled(ref) is None:
            raise _not_found(id)
        entry, items = await self._read(request, ref, _body(request.body, "items").items, least=1)
        tried = attempt(request.headers, request.body)
        first = await self._add(request, ref, entry, items, tried)
        raws = [*map(msgspec.Raw, items)]
        if first != entry:
            noted = await self._store.find(ref.tenant, tag(ref), first)
            raws = [*notes.read(noted.note).input] if noted is not None else []
        answer = listing(raws, [*map(notes.item_id, raws)], has_more=False)
        record.status, record.bytes_out = 200, len(answer)
        if await client.send(200, "", NO_HEADERS, JSON, answer) and tried is not None:
            self._store.delivered(ref, tried.key)

    async def list_items(self, request: Request, id: str, query: Mapping[str, str]) -> bytes:
        """Raises NotFound, InvalidBody."""
        ref = self._named(request, id)
        if await self._store.labelled(ref) is None:
            raise _not_found(id)
        wanted = page(query)
        items: list[msgspec.Raw] = []
        found = wanted.after is None
        async for item in self._walk(ref, wanted):
            if found:
                items.append(item)
                if len(items) > wanted.limit:
                    break
            else:
                found = notes.item_id(item) == wanted.after
        if not found:
            raise unknown_after(wanted.after or "")
        shown = items[: wanted.limit]
        return listing(shown, [*map(notes.item_id, shown)], has_more=len(items) > wanted.limit)

    async def item(self, request: Request, id: str, item: str) -> bytes:
        """Raises NotFound."""
        ref = self._named(request, id)
        _, kept, at = await self._found(ref, id, item)
        return bytes((*kept.input, *kept.output)[at])

    async def delete_item(self, request: Request, id: str, item: str) -> bytes:
        """Returns the conversation. Raises NotFound."""
        ref = self._named(request, id)
        async with alone(self._house, ref, self._policy(request)):
            noted, kept, at = await self._found(ref, id, item)
            entry = await self._redacted(noted, kept, at)
            left = msgspec.structs.replace(
                kept,
                input=tuple(each for n, each in enumerate(kept.input) if n != at),
                places=tuple(each for n, each in enumerate(kept.places) if n != at),
                output=tuple(each for n, each in enumerate(kept.output, len(kept.input)) if n != at),
            )
            redactions = [Redaction(entry, notes.encode(left))]
            redactions += [
                Redaction(unquoted(other.entry), other.note)
                async for other in self._after(ref, noted)
                if other.entry.facts.recalled
            ]
            # its events first: when the item is gone, nobody could ask again for what is left of it there
            run = await self._responses.runs.find(ref.tenant, tag(ref), noted.entry.id)
            if run is not None:
                await self._responses.runs.drop(run)
            await self._store.redact(ref, redactions, preamble=None)
        return await self.retrieve(request, id)

    async def _redacted(self, noted: Noted, kept: notes.Note, at: int) -> Entry:
        """The entry without item `at`."""
        position, rest = self._without(noted, kept, at)
        if position is None:
            return noted.entry
        message: Message | None = None
        if rest:
            *more, last = [piece.wire for piece in rest]
            for other in reversed(self._dialect.messages(b",".join(more))):
                # what the deleted item held together stays one message; of calls, none but the last makes any
                last = self._dialect.amended(last, other.text, before=True) if other.text else last
            (message,) = self._dialect.messages(last)
        tokens = (await count((message,), noted.entry.facts.model))[0] if message else 0
        return redacted(noted.entry, position, message, tokens, self._dialect.no_result(ERASED))

    def _without(self, noted: Noted, kept: notes.Note, at: int) -> tuple[int | None, Sequence[Piece]]:
        """(the message of the entry that says item `at`, what the message's other items say); None if no message says
        it."""
        if at >= len(kept.input):
            output = [*map(bytes, kept.output)]
            del output[at - len(kept.input)]
            return noted.entry.count - 1, self._translation.pieces(output)
        place = kept.places[at] if at < len(kept.places) else -1
        if place < 0:
            return None, ()
        together = [bytes(item) for n, item in enumerate(kept.input) if n != at and kept.places[n] == place]
        return place, self._translation.pieces(together)

    async def _after(self, ref: Ref, noted: Noted) -> AsyncIterator[Noted]:
        """The entries that follow."""
        at = noted.entry.upto
        while batch := await self._store.noted(ref, at, at + READ_AT_ONCE):
            for each in batch:
                yield each
            at = batch[-1].entry.upto

    async def _read(self, request: Request, ref: Ref, raw: msgspec.Raw, *, least: int) -> tuple[str, tuple[bytes, ...]]:
        """(the id of the entry that they will be, the items)."""
        try:
            listed = orjson.loads(bytes(raw))
        except orjson.JSONDecodeError:
            raise InvalidBody("`items` nests too deeply; send flatter items.", param="items") from None
        listed = listed or []
        if not isinstance(listed, list) or not least <= len(listed) <= ITEMS_AT_ONCE:
            raise InvalidBody(f"`items` is a list of {least} to {ITEMS_AT_ONCE} items.", param="items")
        known = {}
        for id in self._translation.references(request.body):
            if (stored := await self._responses.item(request.tenant().name, id)) is not None:
                known[id] = stored
        entry = new_id()
        digits = response_id(entry, ref).removeprefix("resp_")
        return entry, self._translation.read_items(listed, digits, known, member="items")

    async def _add(
        self, request: Request, ref: Ref, entry: str, items: Sequence[bytes], tried: Attempt | None = None
    ) -> str:
        """Returns the id of the entry that they are: another than `entry` if they were added before."""
        messages = self._messages(items)
        policy = self._policy(request)
        tokens = await count(messages, "")
        async with alone(self._house, ref, policy):
            if tried is not None and tried.again:
                # the first one, wherever it came to, stood before this one
                replay = await self._store.find_replay(ref, tried.key)
                if replay is not None:
                    same(replay, tried)
                    return replay.entry
            for _ in range(TRIES):
                chain = await self._store.load(ref, key="", reach=0)
                _check_calls(messages, chain)
                head = chain.head if chain else None
                if head is not None and head.facts.dialect != self._dialect.name:
                    raise InvalidBody("The conversation was recorded through another API; begin a new one.")
                made = grow(
                    id=entry,
                    parent=head,
                    key=request.tenant().digest_key,
                    messages=messages,
                    tokens=tokens,
                    dialect=self._dialect.name,
                    model="",
                    preamble=head.facts.preamble if head else b"",
                    anchor=head.facts.anchor if head else None,
                )
                added = await self._store.append(
                    Append(
                        ref=ref,
                        expected=head.id if head else None,
                        entry=made,
                        preamble=chain.preamble if chain else None,
                        ttl_s=policy.ttl_s,
                        replay=Replay(tried.key, tried.request, tried.sticky, 200, (), b"", entry) if tried else None,
                        note=notes.note(None, items, notes.places(items, self._translation)),
                    )
                )
                if isinstance(added, Appended):
                    return entry
                if await self._store.labelled(ref) is None:
                    raise NotFound("The conversation was deleted meanwhile.")
        raise SessionConflict("The conversation moved again and again while items were added; add them again.")

    def _messages(self, items: Sequence[bytes]) -> tuple[Message, ...]:
        return self._dialect.messages(b",".join(piece.wire for piece in self._translation.pieces(items)))

    async def _walk(self, ref: Ref, wanted: Page) -> AsyncIterator[msgspec.Raw]:
        """The items in the order that is wanted, from somewhere before or at `after` on."""
        chain = await self._store.load(ref, key="", reach=0)
        if chain is None:
            return
        start = None
        if wanted.after is not None:
            parts = entry_of_item(wanted.after)
            noted = await self._store.find(ref.tenant, parts[1], parts[0]) if parts else None
            if noted is None or noted.ref != ref:
                return
            start = noted.entry
        size = max(READ_AT_ONCE, wanted.limit + 1)
        if wanted.newest_first:
            upto = start.upto if start else chain.head.upto
            while upto > 0 and (batch := await self._store.noted(ref, max(0, upto - size), upto)):
                for noted in reversed(batch):
                    kept = notes.read(noted.note)
                    for item in reversed((*kept.input, *kept.output)):
                        yield item
                upto = batch[0].entry.first
        else:
            first = start.first if start else 0
            while batch := await self._store.noted(ref, first, first + size):
                for noted in batch:
                    kept = notes.read(noted.note)
                    for item in (*kept.input, *kept.output):
                        yield item
                first = batch[-1].entry.upto

    async def _found(self, ref: Ref, id: str, item: str) -> tuple[Noted, notes.Note, int]:
        """(the entry that holds the item, its note, the item's place in input and output)."""
        if await self._store.labelled(ref) is None:
            raise _not_found(id)
        parts = entry_of_item(item)
        noted = await self._store.find(ref.tenant, parts[1], parts[0]) if parts else None
        if noted is not None and noted.ref == ref and noted.note and noted.entry.facts.state != "failed":
            kept = notes.read(noted.note)
            for at, each in enumerate((*kept.input, *kept.output)):
                if notes.item_id(each) == item:
                    return noted, kept, at
        raise NotFound(f"Item with id '{item[:100]}' not found.")

    def _policy(self, request: Request) -> Policy:
        named = request.headers.get(POLICY_HEADER)
        policies = self._house.policies
        return policies.named(named) if named is not None else policies.matching("")

    def _named(self, request: Request, id: str) -> Ref:
        ref = conversation_ref(request.tenant().name, id)
        if ref is None:
            raise _not_found(id)
        return ref


def _check_calls(messages: Sequence[Message], chain: Chain | None) -> None:
    facts = chain.head.facts if chain else None
    followed = turn.follow(
        (shape(message, 0) for message in messages), facts.open if facts else (), facts.missed if facts else ()
    )
    if followed.unknown:
        raise UnknownToolCall(
            f"No tool call found for function call output with call_id {followed.unknown[0][:100]}.", param="items"
        )


def _body(raw: bytes, *known: str) -> _New:
    """Raises InvalidBody for a member that is not known."""
    for name in Members(raw).names():
        if name not in known:
            raise InvalidBody(f"Unknown parameter: '{name[:100]}'.", param=name[:100])
    try:
        return msgspec.json.decode(raw, type=_New)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidBody("The body nests too deeply; send a flatter one.") from None


def _metadata(said: _New) -> dict[str, str]:
    return read_metadata(bytes(said.metadata))


def _conversation(id: str, created_at: int, metadata: Mapping[str, str]) -> bytes:
    return orjson.dumps({"id": id, "object": "conversation", "created_at": created_at, "metadata": metadata})


def _not_found(id: str) -> NotFound:
    return NotFound(f"Conversation with id '{id[:100]}' not found.")
