"""Where a request goes on, looked up: what reconcile asks of the store, and the end of a turn that a header names."""

from collections.abc import Sequence

from proxy.context.contract import Read
from proxy.conversation.entry import Chain, Entry
from proxy.conversation.message import Message
from proxy.dialects.contract import Call, Dialect
from proxy.errors import UnknownTurn
from proxy.exchange.identify import FROM_HEADER
from proxy.exchange.reconcile import FindDigests, Lookup, Reading, Stored, reconcile
from proxy.policy import Policy
from proxy.stores.contract import Ref, Store


async def reconciled(
    dialect: Dialect, key: bytes, call: Call, policy: Policy, store: Store, ref: Ref, chain: Chain | None
) -> Reading:
    """`reconcile`, whose questions the store answers. Raises StoreUnavailable."""

    async def answer(need: Lookup) -> dict[bytes, str] | Stored:
        if isinstance(need, FindDigests):
            return await store.find_digests(ref, need.digests)
        assert chain is not None
        entries = await store.read(ref, chain.head.id, need.first, need.upto)
        return _stored(dialect, entries, need)

    steps = reconcile(
        call.messages,
        chain.head if chain else None,
        once_whole=chain is not None and chain.whole,
        history=policy.session.history,
        key=key,
    )
    try:
        need = next(steps)
        while True:
            need = steps.send(await answer(need))
    except StopIteration as stop:
        reading: Reading = stop.value
        return reading


def _stored(dialect: Dialect, entries: Sequence[Entry], need: Read | Lookup) -> Stored:
    assert not isinstance(need, FindDigests)
    found: list[Message] = []
    starts_turn = need.first == 0
    for entry in entries:
        if entry.upto <= need.first or entry.first >= need.upto:
            continue
        for position, message in enumerate(dialect.messages(entry.wire), entry.first):
            if need.first <= position < need.upto:
                found.append(message)
                if position == need.first:
                    starts_turn = starts_turn or message.role == "user"
    return Stored(tuple(found), starts_turn)


async def from_turn(dialect: Dialect, store: Store, ref: Ref, number: int) -> tuple[Reading, tuple[Message, ...]]:
    """Where a branch after turn `number` starts, and the messages of that turn which must be copied because they
    stand in the middle of an entry."""
    if number == 0:
        return Reading(whole=False, parent=""), ()
    found = await store.find_turn(ref, number)
    before, after = found or (None, None)
    if before is not None and before.turn == number and (after is None or _starts_turn(after, before)):
        return Reading(whole=False, parent=before.id), ()
    if after is None:
        raise UnknownTurn(f"{FROM_HEADER}: the session has no turn {number}; name an earlier one.")
    copied: list[Message] = []
    turns = before.turn if before else 0
    for message in dialect.messages(after.wire):
        turns += message.role == "user"
        if turns > number:
            break
        copied.append(message)
    return Reading(whole=False, parent=before.id if before else ""), tuple(copied)


def _starts_turn(entry: Entry, before: Entry) -> bool:
    return entry.facts.shapes[0].role == "user" and before.turn > 0
