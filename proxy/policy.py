"""Policy files: TOML -> frozen values. An unknown key, a wrong type or a wrong value is an error with its path."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import msgspec

from proxy.context.contract import Recall, Summarise, Window
from proxy.conversation.quirks import Quirks
from proxy.errors import SettingsError, UnknownPolicy
from proxy.globs import matcher, overlap, weight
from proxy.tables import Mistake, mistakes
from proxy.units import duration_s


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
    summary: Summarise | None = None
    """None: what falls out of the window is dropped."""
    recall: Recall | None = None
    """None: what fell out of the window stays out."""
    ttl_s: int | None = None
    """`session.ttl` in seconds, None: never. Derived; not a key of the file."""
    queue_timeout_s: float = 120.0
    """Derived; not a key of the file."""
    key: str = ""
    """Eight hex digits over the window's settings, for anchors. Derived; not a key of the file."""


DERIVED = frozenset({"name", "ttl_s", "queue_timeout_s", "key"})
"""Fields of Policy that are not keys of a file."""

DEFAULT = "default"


class Policies:
    """All policies in force. Frozen: a reload makes a new one.

    `default` is `default.toml`, else the built-in default, whose window is `max_tokens = "fit"`.
    """

    default: Policy
    session_headers: frozenset[str]
    """Lower case; every header that any policy reads a session from."""
    session_members: frozenset[str]
    """Every member of a body that any policy reads a session from; where there are any, a body must be read before a
    request may pass through."""

    def __init__(self, policies: Sequence[Policy] = ()) -> None:
        """Of policies that `read_files` found no mistake in."""
        self._named = {DEFAULT: built_in(), **{policy.name: policy for policy in policies}}
        self.default = self._named[DEFAULT]
        self.session_headers = frozenset(h.lower() for p in self._named.values() for h in p.session.headers)
        self.session_members = frozenset(path for p in self._named.values() for path in p.session.members)
        globs = [(glob, policy) for policy in policies for glob in policy.match.models]
        globs.sort(key=lambda each: weight(each[0]), reverse=True)
        self._globs = [(matcher(glob), policy) for glob, policy in globs]
        self._matched: dict[str, Policy] = {}

    @classmethod
    def load(cls, folder: str | None) -> "Policies":
        """Raises SettingsError with one line a mistake, each `FILE: key.path: what is wrong`. None or a folder that
        does not exist: the built-in default alone."""
        policies, wrong = read_files(files_in(folder) if folder is not None else [])
        if wrong:
            raise SettingsError("\n".join(wrong))
        return cls(policies)

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._named.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._named)

    def named(self, name: str) -> Policy:
        """Raises UnknownPolicy."""
        found = self._named.get(name)
        if found is None:
            raise UnknownPolicy(f"There is no policy of that name; there are {', '.join(sorted(self._named))}.")
        return found

    def matching(self, model: str) -> Policy:
        """The policy of the most specific glob that matches, else the default."""
        found = self._matched.get(model)
        if found is None:
            found = next((policy for glob, policy in self._globs if glob.match(model)), self.default)
            # clients choose the names, so what is remembered of them is bounded in number and length
            if len(model) <= _MODEL_LENGTH:
                if len(self._matched) >= _MODELS:
                    self._matched.clear()
                self._matched[model] = found
        return found


def unsearchable(policies: Iterable[Policy], searches: frozenset[str]) -> list[str]:
    """A line for each policy that recalls by what a store cannot do; `searches` is what it can (see `Store`)."""
    lines = []
    for policy in policies:
        method = policy.recall.method if policy.recall else ""
        needs = {"keywords", "embeddings"} if method == "both" else {method} - {""}
        if lacking := needs - searches:
            what = " and ".join(sorted(lacking))
            lines.append(
                f"{policy.name}: recall.method: the store cannot search by {what}; use another store or method."
            )
    return lines


_MODELS = 1024
_MODEL_LENGTH = 256


def built_in() -> Policy:
    """The default policy when there is no `default.toml`."""
    return _derived(
        Policy(name=DEFAULT, description="Built in: all history that fits", window=Window(max_tokens="fit"))
    )


def files_in(folder: str) -> list[Path]:
    """The policy files of a folder, by name; none if it does not exist. Raises SettingsError if it cannot be read."""
    try:
        return sorted(file for file in Path(folder).iterdir() if file.suffix == ".toml")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be read: {error.strerror or error}.") from None


def read_files(files: Sequence[Path]) -> tuple[list[Policy], list[str]]:
    """The policies of those files that hold no mistake, and every mistake of the others, each one line
    `FILE: key.path: what is wrong`."""
    policies: list[Policy] = []
    lines: list[str] = []
    owners: dict[str, Path] = {}
    for file in files:
        policy, wrong = _read_file(file)
        lines += [f"{file}: {path}{': ' if path else ''}{what}." for path, what in wrong]
        if policy is None:
            continue
        if policy.name in owners:
            lines.append(f"{file}: a policy of that name is in {owners[policy.name]} too; rename one.")
            continue
        lines += [f"{file}: match.models: {what}." for other in policies for what in _ties(policy, other, owners)]
        owners[policy.name] = file
        policies.append(policy)
    return policies, lines


def _ties(policy: Policy, other: Policy, owners: Mapping[str, Path]) -> Iterator[str]:
    """Globs that can match one model and are equally specific: nothing would say which policy is meant."""
    for glob in policy.match.models:
        for theirs in other.match.models:
            if weight(glob) == weight(theirs) and overlap(glob, theirs):
                yield f"{glob!r} and {theirs!r} in {owners[other.name]} tie; make one more specific"


def _read_file(file: Path) -> tuple[Policy | None, list[Mistake]]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", file.stem) or file.suffix != ".toml":
        return None, [("", "the file's name names the policy; use letters, digits, '.', '_' and '-', then .toml")]
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        return None, [("", f"cannot be read: {error.strerror or error}")]
    except UnicodeDecodeError as error:
        return None, [("", f"is not UTF-8 (byte {error.start})")]
    except tomllib.TOMLDecodeError as error:
        return None, [("", f"is not TOML: {error}")]
    wrong = [*mistakes(Policy, tree, hidden=DERIVED)]
    # with the mistaken keys taken out, what is left can be read, and its own mistakes told in the same go
    for path, _ in wrong:
        _take_out(tree, path)
    policy = msgspec.structs.replace(msgspec.convert(tree, Policy), name=file.stem)
    wrong += _values(policy)
    return (None, wrong) if wrong else (_derived(policy), [])


def _take_out(tree: dict[str, object], path: str) -> None:
    """Removes the key at `path`; of a list (`session.ignore[2].equals`) the whole list."""
    *tables, key = path.partition("[")[0].split(".")
    table: object = tree
    for name in tables:
        table = table.get(name) if isinstance(table, dict) else None
    if isinstance(table, dict):
        table.pop(key, None)


def _derived(policy: Policy) -> Policy:
    session = policy.session
    return msgspec.structs.replace(
        policy,
        ttl_s=None if session.ttl == "never" else max(1, round(duration_s(session.ttl))),
        queue_timeout_s=duration_s(session.queue_timeout),
        key=blake2b(msgspec.json.encode(policy.window), digest_size=4).hexdigest(),
    )


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_TAKEN = frozenset(
    {"accept", "accept-encoding", "api-key", "authorization", "connection", "content-encoding", "content-length"}
    | {"content-type", "cookie", "date", "expect", "host", "idempotency-key", "keep-alive", "proxy-authorization"}
    | {"te", "trailer", "transfer-encoding", "upgrade", "user-agent", "x-api-key", "x-goog-api-key"}
    | {"x-session-from", "x-session-policy", "x-session-record"}
)
"""Session headers are taken off on the way upstream, so a header that means something else cannot be one."""


def _values(policy: Policy) -> Iterator[Mistake]:
    """Values of the right type that make no sense."""
    for glob in policy.match.models:
        if not glob:
            yield "match.models", "an empty glob matches nothing; leave it out"
    yield from _session(policy.session)
    if policy.upstream.developer not in {"developer", "system", "user"}:
        yield "upstream.developer", f"{policy.upstream.developer!r} is none of developer, system, user"
    if policy.upstream.context_tokens < 0:
        yield "upstream.context_tokens", "must be 0 (looked up by the model's name) or more"
    yield from _reaching_back(policy)
    if (window := policy.window) is None:
        return
    tokens = window.max_tokens
    if (isinstance(tokens, str) and tokens != "fit") or (isinstance(tokens, int) and tokens < 0):
        yield "window.max_tokens", f'{tokens!r} is neither "fit" nor a number from 0 (no limit)'
    if not 0 < window.trim_to <= 1:
        yield "window.trim_to", f"{window.trim_to} is out of range; write more than 0 and at most 1"
    if window.max_turns < 0:
        yield "window.max_turns", "must be 0 (no limit) or more"


PROMPT_CHARS = 20_000


def _reaching_back(policy: Policy) -> Iterator[Mistake]:
    """Of `[summary]` and `[recall]`."""
    unlimited = policy.window is None or not (policy.window.max_tokens or policy.window.max_turns)
    if (summary := policy.summary) is not None:
        if unlimited:
            yield "summary", "nothing ever falls out of this window; give [window] a limit, or leave [summary] out"
        if summary.max_tokens < 16:
            yield "summary.max_tokens", "must be 16 or more"
        if len(summary.prompt) > PROMPT_CHARS:
            yield "summary.prompt", f"must be at most {PROMPT_CHARS} characters"
        try:
            duration_s(summary.timeout)
        except ValueError as error:
            yield "summary.timeout", str(error)
    if (recall := policy.recall) is not None:
        if unlimited:
            yield "recall", "nothing ever falls out of this window; give [window] a limit, or leave [recall] out"
        if recall.max_tokens < 16:
            yield "recall.max_tokens", "must be 16 or more"
        if recall.top_k < 1:
            yield "recall.top_k", "must be 1 or more"
        if not 0 <= recall.min_score <= 1:
            yield "recall.min_score", f"{recall.min_score} is out of range; write 0 to 1"
        if recall.timeout_ms < 1:
            yield "recall.timeout_ms", "must be 1 or more"
        if recall.method != "keywords" and not recall.model:
            yield "recall.model", f'method = "{recall.method}" needs the model that makes the vectors'


def _session(session: Session) -> Iterator[Mistake]:
    if not session.headers:
        yield "session.headers", 'is empty; name at least one header, such as "X-Session-Id"'
    for header in session.headers:
        if not _TOKEN.fullmatch(header):
            yield "session.headers", f"{header!r} is no header name"
        elif header.lower() in _TAKEN:
            yield "session.headers", f"{header!r} means something else and must reach its reader; name another"
    for path in session.members:
        yield from _member("session.members", path)
    for key, text in (("ttl", session.ttl), ("queue_timeout", session.queue_timeout)):
        if key == "ttl" and text == "never":
            continue
        try:
            duration_s(text)
        except ValueError as error:
            yield f"session.{key}", f"{error}{', or never' if key == 'ttl' else ''}"
    for number, rule in enumerate(session.ignore, 1):
        where = f"session.ignore[{number}]"
        if not (rule.member or rule.starts_with or rule.system_starts_with):
            yield where, "would match nothing; set member, starts_with or system_starts_with"
        if rule.member:
            yield from _member(f"{where}.member", rule.member)
        elif rule.equals is not None:
            yield f"{where}.equals", "needs member, whose value it is"


def _member(where: str, path: str) -> Iterator[Mistake]:
    if not all(path.split(".")):
        yield where, f"{path!r} is no path of members; write names joined by dots, metadata.session_id"
