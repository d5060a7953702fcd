"""Policy files: TOML -> frozen values. An unknown key, a wrong type or a wrong value is an error with its path."""

from typing import Literal

import msgspec

from proxy.context.contract import Window
from proxy.conversation.quirks import Quirks


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[match]`: the requests that this policy serves when they name none."""

    models: tuple[str, ...] = ()
    """Globs (`*`, `?`, `[…]`), compared with the request's model. The glob with the most literal characters wins."""


class Ignore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[session.ignore]]`: a side call, relayed stateless. All that is set must hold."""

    member: str = ""
    """Path of a body member, `metadata.task`."""
    equals: str | bool | int | None = None
    """The member's value; None: it only has to be there (and not null)."""
    starts_with: str = ""
    """The text of the first message that is not a system message starts so (white space before it aside)."""
    system_starts_with: str = ""
    """The text of the preamble starts so."""


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[session]`."""

    headers: tuple[str, ...] = ("X-Session-Id",)
    members: tuple[str, ...] = ()
    """Paths of body members that name the session when no header and no path does: `metadata.session_id`."""
    ttl: str = "30d"
    concurrency: Literal["queue", "reject", "parallel"] = "queue"
    queue_timeout: str = "120s"
    on_disconnect: Literal["finish", "keep_partial", "discard"] = "finish"
    on_store_failure: Literal["refuse", "stateless"] = "refuse"
    history: Literal["auto", "delta", "full"] = "auto"
    ignore: tuple[Ignore, ...] = ()


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One policy file. Every key is optional."""

    name: str = ""
    """The file's name without `.toml`; not a key of the file."""
    description: str = ""
    match: Match = Match()
    session: Session = Session()
    upstream: Quirks = Quirks()
    window: Window | None = None
    """None: everything is kept."""
    ttl_s: int | None = None
    """`session.ttl` in seconds, None: never. Derived; not a key of the file."""
    queue_timeout_s: float = 120.0
    """Derived; not a key of the file."""
    key: str = ""
    """Eight hex digits over the window's settings, for anchors. Derived; not a key of the file."""


class Policies:
    """All policies in force. Frozen: a reload makes a new one.

    `default` is `default.toml`, else the built-in default, whose window is `max_tokens = "fit"`.
    """

    default: Policy
    session_headers: frozenset[str]
    """Lower case; every header that any policy reads a session from."""
    reads_members: bool
    """Some policy names sessions by body members, so a body must be read before a request may pass through."""

    @classmethod
    def load(cls, folder: str | None) -> "Policies":
        """Raises SettingsError with one line a mistake, each `FILE: key.path: what is wrong`. None or a folder that
        does not exist: the built-in default alone."""
        raise NotImplementedError

    def named(self, name: str) -> Policy:
        """Raises UnknownPolicy."""
        raise NotImplementedError

    def matching(self, model: str) -> Policy:
        """The policy of the most specific glob that matches, else the default."""
        raise NotImplementedError
