"""web.Request -> pass-through, or exchange.run -> web.StreamResponse."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiohttp import web
from multidict import CIMultiDict

from proxy.dialects.contract import Dialect
from proxy.errors import BodyTooLarge, InvalidBody, ProxyError, UnsupportedDialect, UnsupportedEncoding, traced
from proxy.exchange.contract import NO_HEADERS, Marks, Request
from proxy.exchange.house import House
from proxy.exchange.identify import FROM_HEADER, named_by_member, split_target
from proxy.exchange.record import ExchangeRecord
from proxy.exchange.run import run
from proxy.exchange.tenant import Tenants
from proxy.framing.inflate import ENCODINGS, Inflate, TooMuch
from proxy.observe.log import Log
from proxy.resources.completions import Completions, completion_path, stores
from proxy.server.admission import Admission
from proxy.server.client import HttpClient
from proxy.server.passthrough import Relay
from proxy.server.paths import Asked, response_path
from proxy.server.patience import arriving
from proxy.server.stored import Go, Stored
from proxy.upstream.headers import credential, key_of, to_upstream, with_upstream_key

CLOSE_S = 5.0
"""What an interrupted exchange gets to keep what it has read."""


class Body(NamedTuple):
    """A request's whole body."""

    raw: bytes
    decoded: bytes
    encoding: str
    """Its Content-Encoding, "" for none."""


NO_BODY = Body(b"", b"", "")


class Handler:
    """Every request of the client listener comes through `handle`."""

    def __init__(
        self,
        *,
        house: House,
        relay: Relay,
        tenants: Tenants,
        dialects: Sequence[Dialect],
        generates: Callable[[str, str], bool],
        stored: Stored | None,
        completions: Completions | None,
        log: Log,
        say: Callable[[str], None],
        upstream_api_key: str,
        max_body_bytes: int,
        idle_timeout_s: float,
        admission: Admission,
    ) -> None:
        """`idle_timeout_s`: a client that sends or takes nothing for so long counts as gone."""
        self._house = house
        self._relay = relay
        self._tenants = tenants
        self._dialects = dialects
        self._generates = generates
        self._stored = stored
        self._completions = completions
        self._log = log
        self._say = say
        self._upstream_api_key = upstream_api_key
        self._max_body_bytes = max_body_bytes
        self._idle_timeout_s = idle_timeout_s
        self._admission = admission
        self._exchanges: set[asyncio.Task[None]] = set()
        self._deadline = 0.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request: relayed untouched if it names no session, else through an exchange."""
        record = ExchangeRecord(
            at_ms=time.time_ns() // 1_000_000, method=request.method, path=request.path, kind="pass"
        )
        began = time.monotonic()
        try:
            with self._admission:
                return await self._route(request, record)
        except (ConnectionError, web.RequestPayloadError):
            return self._refused(record, InvalidBody("The body broke off; send it again."))
        except ProxyError as error:
            return self._refused(record, error)
        except Exception as error:  # noqa: BLE001 - a bug here must not leave the client without an answer
            return self._refused(record, self._bug(error))
        finally:
            if record.kind in ("pass", "resource"):
                record.total_ms = round((time.monotonic() - began) * 1000, 3)
                self._log.exchange(record)

    async def _route(self, request: web.Request, record: ExchangeRecord) -> web.StreamResponse:
        session, target = split_target(request.raw_path)
        path = record.path = target.partition("?")[0]
        spoken = self._speaks(request.method, path)
        held = credential(request.headers)
        key = key_of(*held) if held else None
        self._tenants.admit(key)
        policies = self._house.policies
        named = session is not None or any(name in request.headers for name in policies.session_headers)
        if spoken is not None and (named or FROM_HEADER in request.headers):
            body = await self._body(request)
            return await self._exchange(self._chat(spoken), spoken, request, target, session, key, body, record)
        completions = self._completions
        if completions is not None and (found := completion_path(request.method, path)) is not None:
            return await self._completion(completions, *found, request, key, record)
        if self._stored is not None:
            upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
            if (asked := response_path(request.method, path, upgrade=upgrade)) is not None:
                return await self._resource(self._stored, asked, request, target, session, key, record)
        if named and self._generates(request.method, path):
            raise UnsupportedDialect(
                "Sessions are spoken on Chat Completions (…/chat/completions); "
                "send this request there, or without a session."
            )
        first: list[bytes] = []
        if completions is not None and spoken is not None:
            peeked = await self._peek(request, first)
            if peeked is not None and (stores(peeked.decoded) or named_by_member(peeked.decoded, policies)):
                return await self._exchange(self._chat(spoken), spoken, request, target, session, key, peeked, record)
        elif spoken is not None and policies.session_members:
            peeked = await self._peek(request, first)
            if peeked is not None and named_by_member(peeked.decoded, policies):
                return await self._exchange(self._chat(spoken), spoken, request, target, session, key, peeked, record)
        headers = self._upstream_headers(request)
        return await self._relay.relay(request, target=target, headers=headers, record=record, first=first)

    def _refused(self, record: ExchangeRecord, error: ProxyError) -> web.Response:
        record.status, record.error = error.status, error.code
        dialect = self._speaks(record.method, record.path) or self._dialects[0]
        return web.Response(status=error.status, headers=error_headers(error), body=dialect.error(error))

    def stop_by(self, deadline: float) -> None:
        """Exchanges may run until then, on the event loop's clock."""
        self._deadline = deadline

    async def close(self) -> None:
        """Waits for exchanges whose clients have gone; at the deadline what was read of their replies is kept."""
        turnstile = self._house.turnstile
        turnstile.stop()
        if running := self._running():
            left_s = max(0.0, self._deadline - asyncio.get_running_loop().time())
            await asyncio.wait(running, timeout=left_s)
        turnstile.interrupt_all()
        if self._stored is not None:
            self._stored.responses.runs.stop()
        if running := self._running():
            await asyncio.wait(running, timeout=CLOSE_S)

    def _running(self) -> tuple[asyncio.Task[None], ...]:
        return (*self._exchanges, *(self._stored.responses.runs.tasks if self._stored else ()))

    def _speaks(self, method: str, path: str) -> Dialect | None:
        for dialect in self._dialects:
            if dialect.speaks(method, path):
                return dialect
        return None

    def _upstream_headers(self, request: web.Request) -> CIMultiDict[str]:
        headers = to_upstream(request.headers, self._house.policies.session_headers)
        if self._upstream_api_key:
            with_upstream_key(headers, self._upstream_api_key)
        return headers

    def _chat(self, dialect: Dialect) -> Go:
        if self._completions is not None:
            return self._completions.create
        return lambda asked, client, record: run(dialect, asked, self._house, client, record)

    async def _resource(
        self,
        stored: Stored,
        asked: Asked,
        request: web.Request,
        target: str,
        session: str | None,
        key: str | None,
        record: ExchangeRecord,
    ) -> web.StreamResponse:
        """Something of the Responses or the Conversations API."""
        body = await self._body(request) if request.method == "POST" else NO_BODY
        if (go := stored.exchange(asked, request.query)) is not None:
            return await self._exchange(go, self._dialects[0], request, target, session, key, body, record)
        record.kind = "resource"
        answer = await stored.answer(asked, self._asked(request, target, session, key, body), request.query)
        record.status, record.bytes_out = 200, len(answer)
        return web.Response(body=answer, content_type="application/json")

    async def _completion(
        self,
        completions: Completions,
        what: str,
        id: str,
        request: web.Request,
        key: str | None,
        record: ExchangeRecord,
    ) -> web.StreamResponse:
        """Something of the stored chat completions."""
        record.kind = "resource"
        tenant = self._tenants.of(key, request.headers)
        record.tenant = tenant.shown
        match what:
            case "list":
                answer = await completions.list(tenant.name, request.query)
            case "messages":
                answer = await completions.messages(tenant.name, id, request.query)
            case "update":
                answer = await completions.update(tenant.name, id, (await self._body(request)).decoded)
            case "delete":
                answer = await completions.delete(tenant.name, id)
            case _:
                answer = await completions.retrieve(tenant.name, id)
        record.status, record.bytes_out = 200, len(answer)
        return web.Response(body=answer, content_type="application/json")

    def _asked(self, request: web.Request, target: str, session: str | None, key: str | None, body: Body) -> Request:
        headers = self._upstream_headers(request)
        headers.popall("Content-Length", None)
        headers.popall("Content-Encoding", None)
        return Request(
            method=request.method,
            target=target,
            headers=request.headers,
            upstream_headers=headers,
            body=body.decoded,
            raw=body.raw,
            encoding=body.encoding,
            path_session=session,
            tenant=lambda: self._tenants.of(key, request.headers),
        )

    async def _exchange(
        self,
        go: Go,
        dialect: Dialect,
        request: web.Request,
        target: str,
        session: str | None,
        key: str | None,
        body: Body,
        record: ExchangeRecord,
    ) -> web.StreamResponse:
        """Runs the exchange in a task of its own: when the client hangs up, this handler is cancelled, it is not."""
        record.kind = "session"
        asked = self._asked(request, target, session, key, body)
        client = HttpClient(request, self._idle_timeout_s)
        task = asyncio.create_task(self._run(go, dialect, asked, client, record))
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                self._admission.keep(task)
            client.hang_up()
            raise
        assert client.response is not None
        return client.response

    async def _run(self, go: Go, dialect: Dialect, asked: Request, client: HttpClient, record: ExchangeRecord) -> None:
        """Never raises: an error that the proxy itself makes is answered, a bug as well."""
        began = time.monotonic()
        try:
            await go(asked, client, record)
        except ProxyError as error:
            record.status, record.error = error.status, error.code
            await self._answer(dialect, client, error)
        except Exception as error:  # noqa: BLE001 - as above
            record.status, record.error = 500, ProxyError.code
            await self._answer(dialect, client, self._bug(error))
        finally:
            client.end()
            record.total_ms = round((time.monotonic() - began) * 1000, 3)
            self._log.exchange(record)

    def _bug(self, error: Exception) -> ProxyError:
        self._say(traced(error))
        return ProxyError("The proxy failed inside; its log says where.")

    async def _answer(self, dialect: Dialect, client: HttpClient, error: ProxyError) -> None:
        if client.started:
            await client.break_off(error.code)
            return
        await client.send(error.status, "", NO_HEADERS, error_headers(error), dialect.error(error))

    async def _body(self, request: web.Request) -> Body:
        """Raises BodyTooLarge, UnsupportedEncoding, InvalidBody."""
        limit = self._max_body_bytes
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            raise UnsupportedEncoding("Send the body without Content-Encoding, or as gzip or deflate.")
        chunks: list[bytes] = []
        size = 0
        async for chunk in arriving(request, self._idle_timeout_s):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
        return _decoded(b"".join(chunks), encoding, limit)

    async def _peek(self, request: web.Request, first: list[bytes]) -> Body | None:
        """The body of a request that may name its session there; what was read of it stands in `first` as well. None
        if it is too long or of another form than a session's body may have: then it names none."""
        limit = self._max_body_bytes
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        if (request.content_length or 0) > limit or encoding not in ENCODINGS:
            return None
        size = 0
        async for chunk in arriving(request, self._idle_timeout_s):
            first.append(chunk)
            size += len(chunk)
            if size > limit:
                return None
        try:
            return _decoded(b"".join(first), encoding, limit)
        except (BodyTooLarge, InvalidBody):
            return None


def _decoded(raw: bytes, encoding: str, limit: int) -> Body:
    inflate = Inflate(encoding, limit)
    try:
        decoded = inflate.feed(raw)
        inflate.end()
    except TooMuch:
        raise _too_large(limit) from None
    except ValueError as error:
        raise InvalidBody(f"The body is {error}; send it again.") from None
    return Body(raw, decoded, encoding)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is larger than {limit} bytes; send less, or raise REMORA_MAX_BODY.", param="messages"
    )


def error_headers(error: ProxyError) -> Marks:
    headers = [("Content-Type", "application/json"), ("X-Remora-Error", error.code)]
    if error.retry_after_s is not None:
        headers.append(("Retry-After", str(error.retry_after_s)))
    if error.retry is not None:
        headers.append(("x-should-retry", "true" if error.retry else "false"))
    return tuple(headers)
