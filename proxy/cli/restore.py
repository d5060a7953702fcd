"""Exported lines -> entries in a store. What is there already is skipped, so importing twice changes nothing."""

import re
from collections import OrderedDict
from collections.abc import Iterable

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.cli import CommandError
from proxy.cli.lines import BY_NAME, Line, decode, of_one, unstamp
from proxy.conversation.entry import Entry, Preamble, grow
from proxy.conversation.message import Message
from proxy.errors import ProxyError
from proxy.exchange.identify import session_id
from proxy.exchange.tenant import TENANT_LENGTH, Tenants
from proxy.stores.contract import Append, Appended, Ref, Store

PARENTS_AT_MOST = 10_000
"""Entries remembered as parents of later ones; a parent further back is read from the store."""
TRIES = 5
"""How often a session that moves meanwhile is asked again."""


class Done(msgspec.Struct):
    entries: int = 0
    messages: int = 0
    known: int = 0
    """Entries that were there already."""


async def restore(store: Store, lines: Iterable[bytes], tenant: str | None) -> Done:
    """Imports entry by entry, under the tenant in the line unless `tenant` is given. An imported session is kept until
    its next turn says for how long.

    Raises CommandError that names the line; what stands before it is imported then, and a repeat skips it.
    """
    restorer = _Restorer(store, await store.secret(), tenant)
    group: list[Line] = []
    number = start = 0
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        try:
            line = decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CommandError(f"line {number}: is no exported message: {error}.") from None
        if group and (line.tenant, line.session, line.entry) != (group[0].tenant, group[0].session, group[0].entry):
            await restorer.take(group, start)
            group = []
        if not group:
            start = number
        group.append(line)
    if group:
        await restorer.take(group, start)
    return restorer.done


class _Restorer:
    def __init__(self, store: Store, secret: bytes, tenant: str | None) -> None:
        self.done = Done()
        self._store = store
        self._secret = secret
        self._tenant = tenant
        self._parents: OrderedDict[tuple[Ref, str], tuple[Entry, Preamble | None]] = OrderedDict()
        self._head: tuple[Ref, str | None] | None = None

    async def take(self, group: list[Line], start: int) -> None:
        """Imports the lines of one entry, the first of which is line `start`."""
        try:
            await self._take(group)
        except (ValueError, ProxyError) as error:
            raise CommandError(f"line {start}: {str(error).rstrip('.')}.") from None

    async def _take(self, group: list[Line]) -> None:
        first, own = group[0], [line for line in group if not line.preamble]
        ref = Ref(
            _tenant(self._tenant if self._tenant is not None else first.tenant), "session", session_id(first.session)
        )
        if not own or (own[-1].of and own[-1].of != len(own)):
            raise ValueError(f"entry {first.entry} is cut off; {len(own)} of its messages are here, export it again")
        if not re.fullmatch(r"[0-9a-f]{32}", first.entry):
            raise ValueError(f"{first.entry!r} is no entry id; it has 32 hex digits")
        parent, preamble = await self._parent(ref, first.parent)
        if len(own) < len(group):
            preamble = _preamble(group[: len(group) - len(own)])
        last = own[-1]
        entry = grow(
            id=first.entry,
            parent=parent,
            key=_digest_key(self._secret, ref.tenant),
            messages=[_message(line) for line in own],
            tokens=[line.tokens for line in own],
            dialect=first.dialect,
            model=first.model,
            state=first.state,
            preamble=preamble.id if preamble else b"",
            estimated=last.estimated,
            reported=last.reported,
            finish=last.finish,
            at_ms=unstamp(first.at),
        )
        await self._append(ref, entry, preamble)
        self._parents[ref, entry.id] = msgspec.structs.replace(entry, wire=b""), preamble
        if len(self._parents) > PARENTS_AT_MOST:
            self._parents.popitem(last=False)

    async def _parent(self, ref: Ref, id: str) -> tuple[Entry | None, Preamble | None]:
        if not id:
            return None, None
        known = self._parents.get((ref, id))
        if known is not None:
            return known
        chain = await self._store.load(ref, key="", reach=0, entry=id)
        if chain is None:
            raise ValueError(f"the parent {id} is neither above nor in the store; import the whole session")
        return chain.head, chain.preamble

    async def _append(self, ref: Ref, entry: Entry, preamble: Preamble | None) -> None:
        head = self._head[1] if self._head and self._head[0] == ref else None
        for _ in range(TRIES):
            answer = await self._store.append(Append(ref=ref, expected=head, entry=entry, preamble=preamble))
            if isinstance(answer, Appended):
                if answer.again:
                    self.done.known += 1
                else:
                    self.done.entries += 1
                    self.done.messages += entry.count
                    head = entry.id
                self._head = ref, head
                return
            head = answer.head
        raise ValueError(f"session {ref.name!r} is in use; import when it rests")


def _message(line: Line) -> Message:
    dialect = BY_NAME.get(line.dialect)
    if dialect is None:
        raise ValueError(f"the dialect {line.dialect!r} is not spoken; there is {', '.join(BY_NAME)}")
    value = bytes(line.sent or line.message)
    (message,) = dialect.messages(value)
    return msgspec.structs.replace(message, wire=of_one(value), aside=bytes(line.aside))


def _preamble(lines: list[Line]) -> Preamble:
    wires = [bytes(line.message) for line in lines]
    return Preamble(b",".join(wire for wire in wires if wire != b"null"), sum(line.tokens for line in lines))


def _tenant(name: str) -> str:
    if not (0 < len(name) <= TENANT_LENGTH and name.isascii() and name.isprintable()):
        raise ValueError(f"{name!r} is no tenant; it has 1 to {TENANT_LENGTH} printable ASCII characters")
    return name


def _digest_key(secret: bytes, tenant: str) -> bytes:
    headers = CIMultiDictProxy(CIMultiDict({"tenant": tenant}))
    return Tenants("header:tenant", (), secret).of(None, headers).digest_key
