"""Which headers travel, both ways; which name a credential; which are never logged. Pure.

Hop-by-hop headers (RFC 9110, section 7.6.1) belong to one connection and stay behind: `Connection` and whatever it
names, and those of `HOP_BY_HOP`. Everything else travels, repeats and their order kept.
"""

from collections.abc import Mapping

from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping, istr

from proxy.errors import InvalidHeader

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Lower case. Trailers are not relayed, so their announcement is not either."""

CREDENTIALS = ("Authorization", "x-api-key", "api-key", "x-goog-api-key", "Ocp-Apim-Subscription-Key")
"""Headers that carry an API key, in the order in which they are looked for."""

SECRET = frozenset({*(name.lower() for name in CREDENTIALS), "cookie", "set-cookie", "proxy-authorization"})
"""Lower case: headers whose values are never logged and never stored."""

# looked up one by one as istr, which a multidict finds without folding case: cheaper than lowering every header's name
_HOP_BY_HOP = tuple(map(istr, sorted(HOP_BY_HOP)))
_STAYS = (*_HOP_BY_HOP, istr("host"), istr("expect"))
_SESSION = "x-session-"


def to_upstream(headers: MultiMapping[str], session_headers: frozenset[str] = frozenset()) -> CIMultiDict[str]:
    """A request's headers that travel to the upstream: without hop-by-hop ones, `Host` (the upstream has its own),
    `Expect` (answered here), `X-Session-*` and `session_headers` (lower case, from the policies).

    Raises InvalidHeader for a value that is not UTF-8: it could not travel as it came."""
    travelling = CIMultiDict(headers)
    for name in _STAYS:
        if name in headers:
            _remove(travelling, headers, name)
    for named in session_headers:
        travelling.popall(named, None)
    if _SESSION in "\n".join(travelling).lower():
        for spelled in {name for name in travelling if name.lower().startswith(_SESSION)}:
            travelling.popall(spelled, None)
    if not "".join(travelling.values()).isascii():
        _refuse_what_is_not_utf8(travelling)
    return travelling


def to_client(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """A reply's headers that travel to the client: all but the hop-by-hop ones. Bytes that are not UTF-8 are read as
    Latin-1, which is what they are (RFC 9110, section 5.5), and travel as UTF-8."""
    travelling = headers.copy()
    for name in _HOP_BY_HOP:
        if name in headers:
            _remove(travelling, headers, name)
    if not "".join(travelling.values()).isascii():
        return CIMultiDict((name, _as_text(value)) for name, value in travelling.items())
    return travelling


def credential(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """The first credential header that holds a key: its name as in CREDENTIALS, and its value."""
    for name in CREDENTIALS:
        if (value := headers.get(name)) and key_of(name, value):
            return name, value
    return None


def key_of(name: str, value: str) -> str:
    """The bare key in a credential header: of `Authorization: Bearer KEY` it is KEY."""
    if name == "Authorization":
        scheme, _, key = value.partition(" ")
        return (key if scheme.lower() == "bearer" else value).strip()
    return value.strip()


def with_upstream_key(headers: CIMultiDict[str], key: str) -> None:
    """Puts the upstream's key in place of every credential of the client, in the header that the client used, else
    as `Authorization: Bearer`. Changes `headers`."""
    used = credential(headers)
    for name in CREDENTIALS:
        headers.popall(name, None)
    if used is None or used[0] == "Authorization":
        headers["Authorization"] = f"Bearer {key}"
    else:
        headers[used[0]] = key


def _remove(travelling: CIMultiDict[str], headers: MultiMapping[str], name: str) -> None:
    travelling.popall(name, None)
    if name == "connection":
        for value in headers.getall(name):
            for named in value.split(","):
                travelling.popall(named.strip(" \t"), None)


def _refuse_what_is_not_utf8(headers: CIMultiDict[str]) -> None:
    for name, value in headers.items():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidHeader(f"The header {name} is not valid UTF-8; send it in ASCII or UTF-8.") from None


def _as_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value
