"""What can go wrong, as a tree of typed errors; each carries its HTTP status, its code and whether a retry makes sense.

    ProxyError
    ├── BadRequest 400
    │   ├── InvalidBody             invalid_body
    │   │   └── MutuallyExclusive   mutually_exclusive_parameters
    │   ├── InvalidSessionId        invalid_session_id
    │   ├── InvalidHeader           invalid_header
    │   ├── UnknownPolicy           unknown_policy
    │   ├── UnknownTurn             unknown_turn
    │   ├── UnknownToolCall         unknown_tool_call
    │   ├── UnsupportedDialect      unsupported_dialect
    │   ├── PreviousResponseNotFound    previous_response_not_found
    │   ├── ContextTooLong          context_length_exceeded
    │   └── IdempotencyKeyReused    idempotency_key_reused
    ├── Unauthorized 401            invalid_api_key
    ├── NotFound 404                not_found
    ├── SessionBusy 409             session_busy
    ├── SessionConflict 409         session_conflict
    ├── BodyTooLarge 413            body_too_large
    ├── UnsupportedEncoding 415     unsupported_encoding
    ├── UpgradeRequired 426         upgrade_required
    ├── QueueFull 429               queue_full
    ├── UpstreamError 502           upstream_error
    │   ├── UpstreamUnreachable     upstream_unreachable
    │   ├── UpstreamBroken          upstream_broken
    │   ├── UpstreamReplyTooLarge   upstream_reply_too_large
    │   └── UpstreamTimeout 504     upstream_timeout
    ├── Overloaded 503              overloaded
    ├── QueueTimeout 503            queue_timeout
    ├── Stopping 503                stopping
    └── StoreUnavailable 503        store_unavailable
    SettingsError                   a wrong setting or policy: said in one line at start, exit 2

Everything else in the house may import this file; it imports nothing.
"""

import traceback


class ProxyError(Exception):
    """An answer that the proxy itself makes. `message` is one line that says what to do; it never holds content."""

    status = 500
    code = "internal_error"
    type = "server_error"
    retry: bool | None = None
    """Sent as `x-should-retry` when it is not None: SDKs retry 409 and 5xx by themselves and would pay again."""

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class BadRequest(ProxyError):
    status = 400
    code = "bad_request"
    type = "invalid_request_error"


class InvalidBody(BadRequest):
    code = "invalid_body"


class MutuallyExclusive(InvalidBody):
    """Two members of which only one may be given."""

    code = "mutually_exclusive_parameters"


class InvalidSessionId(BadRequest):
    code = "invalid_session_id"


class InvalidHeader(BadRequest):
    code = "invalid_header"


class UnknownPolicy(BadRequest):
    code = "unknown_policy"


class UnknownTurn(BadRequest):
    code = "unknown_turn"


class UnknownToolCall(BadRequest):
    code = "unknown_tool_call"


class UnsupportedDialect(BadRequest):
    code = "unsupported_dialect"


class PreviousResponseNotFound(BadRequest):
    code = "previous_response_not_found"


class ContextTooLong(BadRequest):
    """The client wants all of its history sent, and that does not fit."""

    code = "context_length_exceeded"


class IdempotencyKeyReused(BadRequest):
    code = "idempotency_key_reused"


class Unauthorized(ProxyError):
    status = 401
    code = "invalid_api_key"
    type = "authentication_error"


class NotFound(ProxyError):
    status = 404
    code = "not_found"
    type = "invalid_request_error"


class SessionBusy(ProxyError):
    """Another request holds the session and the policy says `reject`."""

    status = 409
    code = "session_busy"
    type = "conflict_error"
    retry = False


class SessionConflict(ProxyError):
    """The session moved while the reply was made: the reply was not recorded on it."""

    status = 409
    code = "session_conflict"
    type = "conflict_error"
    retry = False


class BodyTooLarge(ProxyError):
    status = 413
    code = "body_too_large"
    type = "invalid_request_error"


class UnsupportedEncoding(ProxyError):
    status = 415
    code = "unsupported_encoding"
    type = "invalid_request_error"


class UpgradeRequired(ProxyError):
    """A WebSocket was asked for where there is none."""

    status = 426
    code = "upgrade_required"
    type = "invalid_request_error"


class QueueFull(ProxyError):
    """As many requests wait on the session as may."""

    status = 429
    code = "queue_full"
    type = "rate_limit_error"


class UpstreamError(ProxyError):
    """The upstream could not be asked, or did not answer in full."""

    status = 502
    code = "upstream_error"
    type = "upstream_error"


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"


class UpstreamBroken(UpstreamError):
    """The upstream's reply broke off, or is not HTTP."""

    code = "upstream_broken"


class UpstreamReplyTooLarge(UpstreamError):
    code = "upstream_reply_too_large"
    retry = False


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"


class Overloaded(ProxyError):
    """As many requests run as may; nothing was done for this one."""

    status = 503
    code = "overloaded"


class QueueTimeout(ProxyError):
    status = 503
    code = "queue_timeout"


class Stopping(ProxyError):
    status = 503
    code = "stopping"


class StoreUnavailable(ProxyError):
    """The store could not be read or written. After the upstream has answered, `retry` is set to False."""

    status = 503
    code = "store_unavailable"


class SettingsError(Exception):
    """A wrong setting or policy file. The message is one line with the key's path."""


def traced(error: Exception) -> str:
    """What kind of error a bug raised and where, but not its text: it may quote content."""
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"internal error: {type(error).__name__}\n{places}"
