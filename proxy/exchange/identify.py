"""Which session, policy and options a request names; which requests are side calls that leave no trace. Pure."""

from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import msgspec
from multidict import CIMultiDictProxy

from proxy.conversation.reply import Reply
from proxy.dialects.contract import Call
from proxy.errors import InvalidBody, InvalidHeader, InvalidSessionId
from proxy.exchange.turnstile import Visit
from proxy.framing.members import Members
from proxy.policy import Ignore, Policies, Policy
from proxy.stores.contract import Ref, Replay

POLICY_HEADER = "X-Session-Policy"
RECORD_HEADER = "X-Session-Record"
FROM_HEADER = "X-Session-From"
OPTION_HEADERS = (POLICY_HEADER, RECORD_HEADER, FROM_HEADER)
"""Stripped before a request travels on, with the headers that name sessions."""

SESSION_ID_LENGTH = 256


class Own(msgspec.Struct, frozen=True):
    """How a request of another API takes part in a chain of entries."""

    ref: Ref
    parent: str | None
    """The entry that it goes on from, "" for none; None: the head."""
    entry: str
    """The id of the entry to come, which the client will know."""
    lead: bytes
    """A message that is shown first, this once, and not recorded; b"" for none."""
    truncates: bool
    """What does not fit may be left out; else such a request is refused."""
    began: Callable[[Visit], None]
    """Is told of the exchange that runs, which may be interrupted."""
    recorded: Callable[[Reply, bytes], tuple[Reply, bytes]]
    """The reply as it is to be recorded, and what is kept with its entry. Beside the reply stands what is held of it,
    and written when it is recorded."""
    again: Callable[[Replay], Awaitable[bool]]
    """Answers a request that was made before and recorded; True if the client has all of it."""


class Identity(msgspec.Struct, frozen=True):
    """What a request asks for beside its messages."""

    session: str
    """"" where the client named none."""
    policy: Policy
    record: bool
    """False: use the committed history, wait for nobody, record nothing."""
    from_turn: int | None = None
    """Continue after this turn as a new branch; 0: from the beginning."""
    own: "Own | None" = None
    """For an exchange that the proxy frames itself; None: the request is what the client sent."""


def ref_of(who: Identity, tenant: str) -> Ref:
    return who.own.ref if who.own else Ref(tenant, "session", who.session)


def split_target(target: str) -> tuple[str | None, str]:
    """(session that the path names, target without it): `/s/<session>/v1/x?y` -> (`<session>`, `/v1/x?y`).

    The id is percent-decoded. Raises InvalidSessionId. An absolute target loses its scheme and host: the upstream's
    address comes from settings alone.
    """
    if not target.startswith("/"):
        scheme, mark, rest = target.partition("://")
        if mark and scheme.isalpha():
            slash = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
            target = rest[slash:] if rest[slash : slash + 1] == "/" else "/" + rest[slash:]
    if not target.startswith("/s/"):
        return None, target
    path, mark, query = target.partition("?")
    session, slash_, rest = path[3:].partition("/")
    return session_id(unquote(session)), "/" + rest + mark + query if slash_ else "/" + mark + query


def session_id(text: str) -> str:
    """The text itself, if it can name a session: 1 to 256 characters, printable ASCII, no spaces."""
    if not (0 < len(text) <= SESSION_ID_LENGTH and text.isascii() and text.isprintable() and " " not in text):
        raise InvalidSessionId(
            "A session id is 1 to 256 characters of printable ASCII without spaces; send another id."
        )
    return text


def identify(
    headers: CIMultiDictProxy[str], path_session: str | None, call: Call, policies: Policies
) -> Identity | None:
    """Who this request is for; None if it names no session.

    A session is named, first match wins, by a header of the policy, by the path, by a member of the body that the
    policy names. Raises UnknownPolicy, InvalidSessionId, InvalidHeader.
    """
    named = headers.get(POLICY_HEADER)
    policy = policies.named(named) if named is not None else policies.matching(call.model)
    session = _session(headers, path_session, call, policy)
    if session is None:
        if FROM_HEADER in headers:
            raise InvalidHeader(f"{FROM_HEADER} needs a session; send {policy.session.headers[0]} too.")
        return None
    return Identity(session, policy, recorded(headers), _from(headers))


def _session(headers: CIMultiDictProxy[str], path_session: str | None, call: Call, policy: Policy) -> str | None:
    for name in policy.session.headers:
        value = headers.get(name)
        if value is not None:
            return session_id(value)
    if path_session is not None:
        return path_session
    return _in_members(call.members, policy)


def session_of(headers: CIMultiDictProxy[str], path_session: str | None, policies: Policies) -> str | None:
    """The session that a header or the path names, whichever policy the header is of. Raises InvalidSessionId."""
    for name in policies.session_headers:
        if (value := headers.get(name)) is not None:
            return session_id(value)
    return path_session


def session_in(body: bytes, policy: Policy) -> str | None:
    """The session that a member of the body names, if the policy reads it there. Raises InvalidSessionId."""
    try:
        return _in_members(Members(body), policy)
    except InvalidBody:
        return None


def _in_members(members: Members, policy: Policy) -> str | None:
    for path in policy.session.members:
        if name := _name(member(members, path)):
            return session_id(name)
    return None


def _name(found: object) -> str:
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return found if isinstance(found, str) else ""


def named_by_member(body: bytes, policies: Policies) -> bool:
    """Some policy would read a session from this body. False too for what is no JSON object."""
    try:
        members = Members(body)
    except InvalidBody:
        return False
    return any(_name(member(members, path)) for path in policies.session_members)


def recorded(headers: CIMultiDictProxy[str]) -> bool:
    """`X-Session-Record`. Raises InvalidHeader."""
    value = headers.get(RECORD_HEADER, "yes").strip().lower()
    if value not in ("yes", "no"):
        raise InvalidHeader(f"{RECORD_HEADER} takes `yes` or `no`.")
    return value == "yes"


def _from(headers: CIMultiDictProxy[str]) -> int | None:
    value = headers.get(FROM_HEADER)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise InvalidHeader(f"{FROM_HEADER} takes the number of a turn, 0 or more.")
    return int(value)


def member(members: Members, path: str) -> object:
    """The value at a dotted path of the body, None if there is none."""
    name, *rest = path.split(".")
    raw = members.get(name)
    if raw is None:
        return None
    value: object = msgspec.json.decode(raw)
    for step in rest:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def ignored(call: Call, policy: Policy) -> bool:
    """The request is a side call by one of the policy's `[[session.ignore]]` rules."""
    return any(_matches(call, rule) for rule in policy.session.ignore)


def _matches(call: Call, rule: Ignore) -> bool:
    if rule.member:
        value = member(call.members, rule.member)
        if value is None or (
            rule.equals is not None and (value != rule.equals or type(value) is not type(rule.equals))
        ):
            return False
    if rule.starts_with:
        first = call.messages[0].text if call.messages else ""
        if not first.lstrip().startswith(rule.starts_with):
            return False
    if rule.system_starts_with:
        text = call.preamble[0].text if call.preamble else ""
        if not text.lstrip().startswith(rule.system_starts_with):
            return False
    return bool(rule.member or rule.starts_with or rule.system_starts_with)
