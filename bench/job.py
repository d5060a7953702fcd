"""What the load generator is asked and what it answers: one JSON line each."""

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One measured run against one server."""

    port: int
    path: str = "/v1/chat/completions"
    connections: int
    requests: int
    """In all, over all connections, after the warm-up."""
    warm: int = 2
    """Requests of each connection before the clock starts: connections are made, pools are filled."""
    stream: bool = False
    sessions: tuple[str, ...] = ()
    """Each connection takes the next one of these, for `uses` requests; none: no session is named."""
    uses: int = 0
    """0: a connection keeps its session."""
    recycle: bool = False
    """A session that was used so often is put behind the others, to be taken again."""
    headers: tuple[str, ...] = ()
    """Further header lines."""
    expect: str = ""
    """Lower-case text that the head of every reply must hold."""
    pause_ms: int = 0
    """A slow reader: after each piece that it reads, it reads nothing for so long."""
    most_s: float = 1e9
    """No request is begun after so long; the run is then shorter than asked, which is no error."""
    timeout_s: float = 60.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    requests: int
    errors: int
    """Replies that are not 200, lack what was expected, or broke off."""
    seconds: float
    p50_ms: float
    p99_ms: float
    first_ms: float
    """Median time to the first byte of a body."""
    pieces: float
    """Reads of the client a reply: how far a stream's chunks arrived one by one."""
    at_once: int
    """The most replies that were under way at one moment."""
    sample: str
    """The head of the newest reply."""
    fault: str = ""
    """The first error, in words."""
