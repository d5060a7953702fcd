"""The only HTTP client: one request to the upstream, its reply's bytes as they come, with every wait bounded.

What is sent is what was given: nothing is added to the headers, the target travels byte for byte, no redirect is
followed, no cookie is kept, nothing is decompressed, and no setting of the environment is read.

A request is sent again only when that is safe. A kept connection on which the upstream's end has already arrived is
never used, and kept connections are given up before common servers do so. If one breaks all the same after a request
was written, requests of idempotent methods are sent once more on a fresh connection (aiohttp does so); a POST is not
(RFC 9110, section 9.2.2: a proxy must not), because a reply may have been made, and paid for, already.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from proxy.errors import (
    BadRequest,
    SettingsError,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.upstream.connection import HEADERS, Pool, Request
from proxy.upstream.deadline import Deadline
from proxy.upstream.reply import Reply
from proxy.upstream.websocket import Connector, Refusal, Socket

_KEPT_S: Final = 4.0
"""uvicorn and Node close after 5 s, and most local runtimes are one of them; a new loopback connection is cheap."""
_KEPT_TLS_S: Final = 50.0
"""Load balancers in front of public APIs keep connections for 60 s or more; a TLS handshake costs a user 100 ms."""
_PIECE_BYTES: Final = 1 << 18
_LINE_BYTES: Final = 1 << 16
_HEADERS: Final = 256
_READ_BYTES: Final = 1 << 16
"""What a reply may run ahead of its reader is about twice this."""
_STREAMS: Final = ("text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream")

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*").match
_V1 = re.compile(r"/v1(?=[/?]|$)").match


class UpstreamClient:
    """Implements `Upstream` and `Relaying`. Open it inside the event loop that uses it."""

    def __init__(
        self, url: str, *, connect_timeout_s: float, first_byte_timeout_s: float, idle_timeout_s: float
    ) -> None:
        """`url` is the part before a request's own path; a `/v1` at its end that the request repeats is not doubled.
        Raises SettingsError for a URL that cannot be used."""
        base = _base(url)
        self.host = base.host_port_subcomponent or ""
        self._scheme = base.scheme
        self._prefix = base.raw_path.rstrip("/")
        self._short = self._prefix.removesuffix("/v1") if self._prefix.endswith("/v1") else None
        self._first_byte_s = first_byte_timeout_s
        self._idle_s = idle_timeout_s
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._sockets: Connector | None = None
        self._urls: dict[str, URL] = {}

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        connector = Pool(limit=0, keepalive_timeout=_KEPT_TLS_S if self._scheme == "https" else _KEPT_S)
        self._sockets = Connector(connector, self._timeout, self.host)
        self._session = aiohttp.ClientSession(
            connector=connector,
            request_class=Request,
            timeout=self._timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            trust_env=False,
            read_bufsize=_READ_BYTES,
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
            max_headers=_HEADERS,
        )

    async def close(self) -> None:
        """Closes all connections; what is still under way breaks. May be called twice."""
        if self._sockets is not None:
            await self._sockets.close()
        if self._session is not None:
            await self._session.close()

    async def send(
        self, method: str, target: str, headers: CIMultiDict[str], body: bytes | AsyncIterator[bytes] | None
    ) -> Reply:
        reply = await self.download(method, target, headers, body)
        if not reply.headers.get("Content-Type", "").lower().startswith(_STREAMS):
            reply.whole_within(self._first_byte_s)
        return reply

    async def download(
        self, method: str, target: str, headers: CIMultiDict[str], body: bytes | AsyncIterator[bytes] | None
    ) -> Reply:
        if self._session is None:
            raise RuntimeError("open() comes first")
        url = self._url(method, target)
        deadline = Deadline(self._loop, self._first_byte_s)
        data: bytes | AsyncIterator[bytes] | None = None
        if isinstance(body, bytes):
            headers["Content-Length"] = str(len(body))
            data = body if len(body) <= _PIECE_BYTES else _pieces(body)
        elif body is not None:
            data = _moving(body, deadline)
        HEADERS.set(headers)
        try:
            response = await self._session.request(method, url, data=data, allow_redirects=False)
        except asyncio.CancelledError:
            if deadline.hit():
                raise self._said(TimeoutError()) from None
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise self._said(error) from error
        finally:
            deadline.end()
        if response.status == 101:
            response.close()
            raise UpstreamBroken(f"The upstream {self.host} switched protocols without being asked to.")
        return Reply(response, self._loop, self.host, self._idle_s)

    async def open_socket(self, target: str, headers: CIMultiDict[str], protocols: tuple[str, ...]) -> Socket | Refusal:
        if self._sockets is None:
            raise RuntimeError("open() comes first")
        url = self._url("GET", target)
        try:
            async with asyncio.timeout(self._first_byte_s):
                return await self._sockets.open(url, headers, protocols)
        except (aiohttp.ClientError, OSError) as error:
            raise self._said(error) from error

    def _url(self, method: str, target: str) -> URL:
        if (url := self._urls.get(target)) is not None:
            return url
        path = target
        if not path.startswith("/"):
            if absolute := _ABSOLUTE(path):
                path = path[absolute.end() :]
                path = path if path.startswith("/") else f"/{path}"
            elif path != "*" or method != "OPTIONS":
                raise BadRequest("The request's target is not a path; send `METHOD /path HTTP/1.1`.")
        if not path.isascii() or method == "CONNECT":
            raise BadRequest("The request's target cannot be relayed; percent-encode it, and do not use CONNECT.")
        if path != "*":
            path = (self._short if self._short is not None and _V1(path) else self._prefix) + path
        # the query is given as a part of the path: yarl would drop the `?` of an empty one, and a `#` with what follows
        url = URL.build(scheme=self._scheme, authority=self.host, path=path, encoded=True)
        if len(target) <= 200 and "?" not in target:  # no query, which may hold a key, is kept in memory
            if len(self._urls) >= 200:
                self._urls.clear()
            self._urls[target] = url
        return url

    def _said(self, error: Exception) -> UpstreamError:
        """An error of aiohttp in our words. aiohttp's own may hold the path and the query."""
        host = self.host
        match error:
            case aiohttp.ConnectionTimeoutError():
                return UpstreamTimeout(
                    f"The upstream {host} did not take a connection within {self._timeout.connect:g} s."
                )
            case TimeoutError():
                return UpstreamTimeout(f"The upstream {host} did not begin to answer within {self._first_byte_s:g} s.")
            case aiohttp.ClientConnectorCertificateError():
                return UpstreamUnreachable(
                    f"The certificate of the upstream {host} is not valid: {error.certificate_error}."
                )
            case aiohttp.ClientConnectorDNSError():
                return UpstreamUnreachable(f"The upstream's host {host} is not known; check its name.")
            case aiohttp.ClientConnectorSSLError():
                return UpstreamUnreachable(f"TLS with the upstream {host} failed; check that it speaks https.")
            case aiohttp.ClientConnectorError():
                errno = error.os_error.errno
                why = os.strerror(errno).lower() if errno else "none of its addresses answers"
                return UpstreamUnreachable(f"No connection to the upstream {host}: {why}.")
            case aiohttp.ClientResponseError():
                return UpstreamBroken(f"The upstream {host} sent a reply that is not valid HTTP.")
            case aiohttp.ServerDisconnectedError() | ConnectionError():
                return UpstreamBroken(f"The upstream {host} closed the connection before it answered.")
            case _:
                return UpstreamBroken(f"The request to the upstream {host} failed ({type(error).__name__}).")


async def _moving(body: AsyncIterator[bytes], deadline: Deadline) -> AsyncIterator[bytes]:
    # the wait for the head begins anew with each part of the body, so that a long upload is not taken for silence
    async for part in body:
        deadline.again()
        yield part


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    # one write of many megabytes would hold the event loop up, and aiohttp warns of it
    view = memoryview(body)
    for at in range(0, len(body), _PIECE_BYTES):
        yield bytes(view[at : at + _PIECE_BYTES])


def _base(url: str) -> URL:
    # no message shows a URL that may hold a password
    try:
        base = URL(url)
        host, _ = base.host, base.port
    except ValueError as error:
        raise SettingsError(f"upstream: not a URL ({error}); write `https://api.example.com`") from None
    if base.raw_user is not None or base.raw_password is not None:
        raise SettingsError("upstream: put no user or password in the URL; use REMORA_UPSTREAM_API_KEY")
    if base.scheme not in ("http", "https") or not host:
        raise SettingsError(f"upstream: {url!r} is not an http(s) URL; write `https://api.example.com`")
    if base.raw_query_string or base.raw_fragment:
        raise SettingsError("upstream: the URL is the part before the request's path; it has no query and no fragment")
    return base
