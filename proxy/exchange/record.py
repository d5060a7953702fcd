"""What happened in one exchange, as one value: the log line, and later metrics and traces, are drawn from it."""

import msgspec

LOGGED_CHARS = 64
"""Names that others choose (models, finish reasons) are cut to so many characters."""


class ExchangeRecord(msgspec.Struct, omit_defaults=True, kw_only=True):
    """No content and no credential ever stands here. Filled in along the way, read once at the end."""

    at_ms: int
    """When it began, in milliseconds since 1970."""
    method: str
    path: str
    """Without the query, which may hold keys."""
    status: int = 0
    kind: str
    """`pass`, `session`, `side` (a side call of a session, relayed stateless), `summary` (a call of the proxy's),
    `resource` (something stored was asked for), `background` (a response was begun that is made later), `resume` (a
    response's events were asked for), `compact`, `completion` (relayed and stored, without a session)."""
    session: str = ""
    tenant: str = ""
    policy: str = ""
    model: str = ""
    turn: int = 0
    kept: int = 0
    dropped: int = 0
    tokens: int = 0
    summarised: int = 0
    """Messages that the summary in the context stands for."""
    recalled: int = 0
    """Excerpts in the context."""
    history: str = ""
    stream: bool = False
    recorded: str = ""
    """`whole`, `partial`, `failed`, `replayed`, or "" for nothing."""
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""
    """The code of the error that the proxy itself answered."""
    bytes_out: int = 0
    upstream_ms: float = 0.0
    """Until the head of the upstream's reply."""
    queued_ms: float = 0.0
    total_ms: float = 0.0
