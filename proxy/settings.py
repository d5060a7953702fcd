"""Flags and REMORA_* variables -> one frozen value. A flag beats its variable, a variable beats the default."""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from proxy.errors import SettingsError
from proxy.units import duration_s, size_bytes

ECHO = "echo:"
"""The upstream that runs inside the process."""


class Settings(msgspec.Struct, frozen=True):
    upstream: str
    """`http(s)://…`, the part before the request's own path and without a slash at its end, or `echo:`."""
    listen: tuple[str, int] = ("127.0.0.1", 8080)
    admin: tuple[str, int] = ("127.0.0.1", 9901)
    store: str = "sqlite:///remora.db"
    policies: str = "policies"
    upstream_api_key: str = ""
    api_keys: tuple[tuple[str, str], ...] = ()
    """(name, key); the name is the tenant. Several keys may share a name, so that a key can be replaced."""
    tenant: str = "credential"
    """`credential`, `shared` or `header:NAME`."""
    responses: str = "translate"
    """The Responses and Conversations APIs are served over Chat Completions (`translate`), or over an upstream that
    speaks stateless Responses itself (`native`); `off`: their requests pass through."""
    resume_for_s: float = 600.0
    """How long the events of a stored response can be asked for again after its end."""
    stored_completions: bool = False
    """Chat completions with `store` can be asked for again here; else their requests pass through."""
    connect_timeout_s: float = 10.0
    first_byte_timeout_s: float = 600.0
    idle_timeout_s: float = 300.0
    stop_timeout_s: float = 30.0
    """How long running exchanges may take to end after SIGTERM."""
    max_body_bytes: int = 32 * 1024 * 1024
    workers: int = 1
    """Processes that share the listener."""
    max_exchanges: int = 2000
    """Requests under way at once in one worker, pass-through and those whose clients have gone included."""
    max_queue: int = 100
    """Requests that wait on one session in one worker; 0: none."""

    def __repr__(self) -> str:
        return f"Settings(upstream={self.upstream!r}, listen={self.listen!r}, store={self.store!r}, …)"


_NO_UPSTREAM = (
    "--upstream: not set; name the API to give a memory to (--upstream https://api.openai.com, or REMORA_UPSTREAM), "
    "or try --upstream echo:, which needs no API key."
)


def read(flags: Mapping[str, str | None], environ: Mapping[str, str], *, need_upstream: bool = True) -> Settings:
    """The settings that `flags` (by name, `--upstream`; None: not given) and `environ` say. An empty variable is unset.

    Raises SettingsError with one line a mistake, each naming the flag or variable, what is wrong and what to do.
    Without `need_upstream`, a missing upstream is none (`""` is returned).
    """
    mistakes: list[str] = []
    found: dict[str, object] = {}
    said = {}
    for name, (field, parse) in _SETTINGS.items():
        flag = "--" + name.removeprefix("REMORA_").lower().replace("_", "-")
        given = flags.get(flag)
        said[field] = name if given is None else flag
        text = (environ.get(name, "") if given is None else given).strip()
        if given is None and not text:
            if name == "REMORA_UPSTREAM" and need_upstream:
                mistakes.append(_NO_UPSTREAM)
            continue
        try:
            found[field] = parse(text)
        except ValueError as error:
            mistakes.append(f"{said[field]}: {error}.")
    mistakes += _unknown(environ)
    if not mistakes:
        settings = msgspec.convert({"upstream": "", **found}, Settings)
        mistakes = _together(settings, said)
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return settings


def store(flag: str | None, environ: Mapping[str, str]) -> str:
    """The store alone, for the commands that need nothing else. Raises SettingsError."""
    return read({"--store": flag}, {k: v for k, v in environ.items() if k == "REMORA_STORE"}, need_upstream=False).store


def policies(flag: str | None, environ: Mapping[str, str]) -> str:
    """The policy folder alone, whether it exists or not."""
    return flag or environ.get("REMORA_POLICIES", "").strip() or "policies"


def loopback(host: str) -> bool:
    """Only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _upstream(text: str) -> str:
    if text == ECHO:
        return text
    # a value that may hold a secret is not repeated
    shown = "it" if set("@?#") & set(text) else repr(text)
    try:
        parts = urlsplit(text)
        _port = parts.port
    except ValueError as error:
        raise ValueError(f"{shown} is no URL ({error}); write https://host or http://host:port") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{shown} is no http:// or https:// URL with a host; write https://api.openai.com or echo:")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password; put the credential in REMORA_UPSTREAM_API_KEY")
    if "?" in text or "#" in text:
        raise ValueError("must not hold a query or fragment; each request brings its own")
    if not text.isascii() or re.search(r"[\s\x00-\x1f\x7f\\]", text):
        raise ValueError(f"{shown} holds characters that a URL must not; percent-encode them")
    return text.rstrip("/")


def address(text: str) -> tuple[str, int]:
    """`127.0.0.1:8080`, `[::1]:8080` -> (host, port). Raises ValueError that says what to write."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed):
        raise ValueError(
            f"{text!r} is no HOST:PORT; write 127.0.0.1:8080, [::1]:8080, or 0.0.0.0:8080 for every address"
        )
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"{port!r} is no port; write a number from 0 (any free one) to 65535")
    return host[1:-1] if bracketed else host, int(port)


def _store(text: str) -> str:
    if not re.match(r"[a-z][a-z0-9+.-]*:", text):
        raise ValueError("is no store URL; write sqlite:///remora.db, postgresql://…, redis://… or memory:")
    return text


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise ValueError(f"{text!r} is no folder; name one that holds *.toml, or leave the setting out")
    return text


def _secret(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("must be printable ASCII without spaces")
    return text


def _keys(text: str) -> tuple[tuple[str, str], ...]:
    """`name:key,…`; a mistake never repeats a key."""
    keys: dict[str, str] = {}
    for number, pair in enumerate(text.split(","), 1):
        name, colon, key = pair.strip().partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) or not re.fullmatch(r"[\x21-\x7e]+", key):
            raise ValueError(
                f"entry {number} is not name:key; the name is of letters, digits, '.', '_' and '-' (at most 64), "
                "the key of printable ASCII without commas and spaces"
            )
        if keys.setdefault(key, name) != name:
            raise ValueError(f"entry {number} ({name}) has the key of {keys[key]}; give each name a key of its own")
    return tuple((name, key) for key, name in keys.items())


def _tenant(text: str) -> str:
    if text in {"credential", "shared"} or re.fullmatch(r"header:[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):
        return text
    raise ValueError(f"{text!r} is none of credential, shared and header:NAME")


def _responses(text: str) -> str:
    if text not in ("translate", "native", "off"):
        raise ValueError(f"{text!r} is none of translate, native and off")
    return text


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError(f"{text!r} is neither on nor off")
    return text == "on"


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
            raise ValueError(f"{text[:20]!r} is no whole number from {least} to {most}")
        return int(text)

    return parse


_SETTINGS: dict[str, tuple[str, Callable[[str], object]]] = {
    "REMORA_UPSTREAM": ("upstream", _upstream),
    "REMORA_LISTEN": ("listen", address),
    "REMORA_ADMIN": ("admin", address),
    "REMORA_STORE": ("store", _store),
    "REMORA_POLICIES": ("policies", _folder),
    "REMORA_UPSTREAM_API_KEY": ("upstream_api_key", _secret),
    "REMORA_API_KEYS": ("api_keys", _keys),
    "REMORA_TENANT": ("tenant", _tenant),
    "REMORA_RESPONSES": ("responses", _responses),
    "REMORA_RESUME_FOR": ("resume_for_s", duration_s),
    "REMORA_STORED_COMPLETIONS": ("stored_completions", _switch),
    "REMORA_CONNECT_TIMEOUT": ("connect_timeout_s", duration_s),
    "REMORA_FIRST_BYTE_TIMEOUT": ("first_byte_timeout_s", duration_s),
    "REMORA_IDLE_TIMEOUT": ("idle_timeout_s", duration_s),
    "REMORA_STOP_TIMEOUT": ("stop_timeout_s", duration_s),
    "REMORA_MAX_BODY": ("max_body_bytes", size_bytes),
    "REMORA_WORKERS": ("workers", _whole(1, 256)),
    "REMORA_MAX_EXCHANGES": ("max_exchanges", _whole(1, 1_000_000)),
    "REMORA_MAX_QUEUE": ("max_queue", _whole(0, 1_000_000)),
}
VARIABLES = tuple(_SETTINGS)

# Kubernetes tells every pod of a service `remora` its address in variables of this form (docs: "Discovering services").
_LINK = re.compile(r"REMORA_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")


def _unknown(environ: Mapping[str, str]) -> list[str]:
    mistakes = []
    for name in sorted(environ):
        if not name.startswith("REMORA_") or name in _SETTINGS:
            continue
        if _LINK.fullmatch(name) and (not name.endswith("_PORT") or "://" in environ[name] or "_SERVICE_" in name):
            continue
        near = get_close_matches(name, VARIABLES, n=1, cutoff=0.75)
        mistakes.append(f"{name}: there is no such setting{f'; did you mean {near[0]}' if near else ''}; unset it.")
    return mistakes


def _together(settings: Settings, said: Mapping[str, str]) -> list[str]:
    """What is right by itself and wrong beside another."""
    mistakes = []
    (host, port), (admin, admin_port) = settings.listen, settings.admin
    if port and port == admin_port and (host == admin or {host, admin} & {"0.0.0.0", "::"}):  # noqa: S104 - compared, not bound
        mistakes.append(
            f"{said['admin']}: port {port} is that of {said['listen']}; clients and administration never share one."
        )
    if settings.workers > 1 and settings.store.lower().startswith("memory:"):
        mistakes.append(
            f"{said['workers']}: {settings.workers} workers cannot share store memory:, which each would have for "
            "itself; choose sqlite:///remora.db, postgresql://… or redis://…, or one worker."
        )
    if settings.api_keys and not settings.upstream_api_key and settings.upstream != ECHO:
        mistakes.append(
            "REMORA_API_KEYS: needs REMORA_UPSTREAM_API_KEY, the credential that replaces the clients' on the way to "
            "the upstream."
        )
    if settings.upstream_api_key and not settings.api_keys and not loopback(host):
        mistakes.append(
            f"{said['listen']}: with REMORA_UPSTREAM_API_KEY set, whoever reaches {host} could spend it; set "
            "REMORA_API_KEYS=name:key,… for the clients, or listen on 127.0.0.1."
        )
    return mistakes
