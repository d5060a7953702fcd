"""Where a response goes: which ref, after which entry, and what it will be called."""

import asyncio
from collections.abc import Callable

import msgspec

from proxy.conversation.entry import new_id
from proxy.errors import (
    InvalidBody,
    InvalidHeader,
    NotFound,
    PreviousResponseNotFound,
    QueueTimeout,
    SessionBusy,
    Stopping,
)
from proxy.exchange.contract import Request
from proxy.exchange.house import House
from proxy.exchange.identify import FROM_HEADER, POLICY_HEADER, session_in, session_of
from proxy.exchange.turnstile import Reason, Visit
from proxy.policy import Policy
from proxy.resources import notes
from proxy.resources.ids import conversation_ref, entry_of, response_id
from proxy.resources.repeats import Repeats
from proxy.resources.runs import Runs
from proxy.stores.contract import Noted, Ref, tag

NOWHERE = "0" * 32


class Place(msgspec.Struct, frozen=True):
    """Where a response goes."""

    ref: Ref
    parent: str | None
    """As in `Own`."""
    session: str
    entry: str
    """The id of the entry to come."""

    @property
    def id(self) -> str:
        return response_id(self.entry, self.ref)

    @property
    def digits(self) -> str:
        return self.id.removeprefix("resp_")


class Named(msgspec.Struct):
    """What a body says of the place, read before the rest of it."""

    previous_response_id: object = None
    conversation: object = None
    conversation_id: object = None
    background: object = None


class Places:
    """What requests name, looked up."""

    def __init__(self, house: House, runs: Runs, repeats: Repeats) -> None:
        self._house = house
        self._runs = runs
        self._repeats = repeats

    async def of(self, request: Request) -> Place:
        """Raises PreviousResponseNotFound, NotFound for a conversation, InvalidBody, InvalidHeader."""
        tenant = request.tenant().name
        if FROM_HEADER in request.headers:
            raise InvalidHeader(f"{FROM_HEADER} is of Chat Completions; name the response to go on from.")
        session = self._session(request)
        named = _named(request.body)
        conversation = _conversation(named)
        previous = named.previous_response_id
        if conversation and isinstance(previous, str):
            # the translation says that only one of the two may be given
            return Place(Ref(tenant, "chain", NOWHERE), "", "", NOWHERE)
        if conversation:
            ref = conversation_ref(tenant, conversation)
            if ref is None or await self._house.store.labelled(ref) is None:
                raise NotFound(f"Conversation with id '{conversation[:100]}' not found.", param="conversation")
            if session:
                raise InvalidBody("The request names a session and a conversation; name one.", param="conversation")
            return Place(ref, None, "", await self._entry(request, ref, named))
        if isinstance(previous, str) and previous:
            ref, entry = await self._previous(tenant, previous)
            if session and ref != Ref(tenant, "session", session):
                raise _previous_not_found(previous)
            if ref.kind == "conversation" or (ref.kind == "session" and not session):
                # its next item or turn would follow the branch, and nobody has said so
                raise InvalidBody(
                    f"The previous response is part of a {ref.kind}; name that too, or go on there without it.",
                    param="previous_response_id",
                )
            return Place(ref, entry, session, await self._entry(request, ref, named))
        if session:
            ref = Ref(tenant, "session", session)
            return Place(ref, None, session, await self._entry(request, ref, named))
        entry = await self._repeats.entry(request)
        return Place(Ref(tenant, "chain", entry), "", "", entry)

    def policy(self, request: Request) -> Policy:
        """Raises UnknownPolicy."""
        named = request.headers.get(POLICY_HEADER)
        policies = self._house.policies
        return policies.named(named) if named is not None else policies.matching(_model(request.body))

    async def _entry(self, request: Request, ref: Ref, named: Named) -> str:
        """Of a response that is not a chain's first."""
        return await self._repeats.following(request, ref) if named.background is True else new_id()

    async def made(self, place: Place, policy: Policy, began: Callable[[Visit], None]) -> bool:
        """What the response goes on from is there when this returns: one that is still being made is waited for, or
        not, as the policy says. `began` is told of the wait; False: it was interrupted. Raises SessionBusy, Stopping,
        QueueTimeout, PreviousResponseNotFound, InvalidBody."""
        if not place.parent:
            return True
        visit = self._house.turnstile.begin()
        try:
            began(visit)
            await self._made(place, place.parent, policy)
        except asyncio.CancelledError:
            if visit.reason is None:
                raise
            if visit.reason is Reason.STOPPING:
                raise Stopping("The proxy stopped before the response was begun; send the request again.") from None
            return False
        finally:
            visit.calm()
            self._house.turnstile.end(visit)
        return True

    async def _made(self, place: Place, parent: str, policy: Policy) -> None:
        ref, id = place.ref, response_id(parent, place.ref)
        run = await self._runs.find(ref.tenant, tag(ref), parent)
        if run is not None and not run.ended:
            if policy.session.concurrency == "reject":
                raise SessionBusy("The previous response is still being made; wait for its end.")
            try:
                async with asyncio.timeout(policy.queue_timeout_s):
                    await self._runs.over(run)
            except TimeoutError:
                raise QueueTimeout(
                    "The previous response is still being made; send the request again later.", retry_after_s=1
                ) from None
        noted = await self.found(ref.tenant, id)
        if noted is None or noted.entry.facts.state == "failed":
            run = await self._runs.find(ref.tenant, tag(ref), parent)
            if run is None or run.cancelled:
                raise _previous_not_found(id)
            raise InvalidBody(
                f"Previous response with id '{id}' did not complete; go on from one that did.",
                param="previous_response_id",
            )

    def _session(self, request: Request) -> str:
        """By header or path, or by a member of the body that the policy names; "" for none."""
        session = session_of(request.headers, request.path_session, self._house.policies)
        if session is None and self._house.policies.session_members:
            session = session_in(request.body, self.policy(request))
        return session or ""

    async def _previous(self, tenant: str, id: str) -> tuple[Ref, str]:
        """(where the response stands, its entry), whether or not it is made already."""
        parts = entry_of(id)
        if parts is not None:
            entry, tag = parts
            live = self._runs.live(tenant, entry)
            if live is not None and not live.lost:
                return live.ref, entry
            noted = await self._house.store.find(tenant, tag, entry)
            if noted is not None:
                return noted.ref, entry
            run = await self._house.store.find_run(tenant, tag, entry)
            if run is not None:
                return run.ref, entry
        raise _previous_not_found(id)

    async def found(self, tenant: str, id: str) -> Noted | None:
        """The entry of a response that may be asked for. Raises StoreUnavailable."""
        parts = entry_of(id)
        noted = await self._house.store.find(tenant, parts[1], parts[0]) if parts else None
        return noted if noted and noted.note and notes.read(noted.note).answers else None


class _Model(msgspec.Struct):
    model: object = None


def _named(body: bytes) -> Named:
    """What is malformed is left to the translation, which names it."""
    try:
        return msgspec.json.decode(body, type=Named)
    except (msgspec.DecodeError, RecursionError):
        return Named()


def _model(body: bytes) -> str:
    try:
        model = msgspec.json.decode(body, type=_Model).model
    except (msgspec.DecodeError, RecursionError):
        return ""
    return model if isinstance(model, str) else ""


def _conversation(named: Named) -> str:
    value = named.conversation
    if isinstance(value, dict):
        value = value.get("id")
    if value is None:
        value = named.conversation_id
    return value if isinstance(value, str) else ""


def not_found(id: str) -> NotFound:
    return NotFound(f"Response with id '{id[:100]}' not found.")


def _previous_not_found(id: str) -> PreviousResponseNotFound:
    return PreviousResponseNotFound(
        f"Previous response with id '{id[:100]}' not found (previous_response_not_found).",
        param="previous_response_id",
    )
