"""What every exchange works with: made once by `app`, and the same for all."""

import time
from collections.abc import Callable

import msgspec

from proxy.exchange.lines import KEEP_S, Lines
from proxy.exchange.record import ExchangeRecord
from proxy.exchange.reflect import Reflections
from proxy.exchange.retry import Retries
from proxy.exchange.turnstile import QUEUE_AT_MOST, Turnstile
from proxy.policy import Policies
from proxy.stores.contract import Store
from proxy.upstream.contract import Upstream

MODELS_AT_MOST = 1024
MODEL_LENGTH = 256
LEARNT_FOR_S = 3600.0


class House:
    """Only `policies` ever changes: a reload puts a new value there; and `learned` grows."""

    __slots__ = (
        "broke",
        "learned",
        "lines",
        "observe",
        "policies",
        "reflections",
        "retries",
        "store",
        "turnstile",
        "upstream",
    )

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        policies: Policies,
        *,
        observe: Callable[[ExchangeRecord], None],
        broke: Callable[[Exception], None],
        max_queue: int = QUEUE_AT_MOST,
        shared: bool = False,
        keep_s: float = KEEP_S,
    ) -> None:
        """`observe` is told of each exchange that no client waits for, `broke` of a bug in one. `max_queue`: requests
        that may wait on one session. `shared`: other processes serve the same sessions;
        they take one that was not heard of for `keep_s` for dead."""
        self.observe = observe
        self.broke = broke
        self.store = store
        self.upstream = upstream
        self.policies = policies
        self.lines = Lines(store, broke, keep_s) if shared else None
        self.turnstile = Turnstile(max_queue, self.lines)
        self.retries = Retries(store)
        self.reflections = Reflections(store, upstream, observe, broke)
        self.learned = Limits()


class Learned(msgspec.Struct, frozen=True):
    """What an upstream has said that a model holds."""

    limit: int
    """Tokens, in its own count, prompt and reply together ..."""
    sent: int
    """... when it was sent so many, which were thought to be `estimated`."""
    estimated: int
    until: float


class Limits:
    """What was learnt from refusals, for an hour. Each tenant's own: what one has caused does not touch another.
    Clients choose the names, so only the newest are kept."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Learned] = {}

    def get(self, tenant: str, model: str) -> Learned | None:
        found = self._found.get((tenant, model))
        return found if found is not None and found.until > time.monotonic() else None

    def put(self, tenant: str, model: str, *, limit: int, sent: int, estimated: int) -> None:
        if len(model) > MODEL_LENGTH:
            return
        self._found.pop((tenant, model), None)
        if len(self._found) >= MODELS_AT_MOST:
            del self._found[next(iter(self._found))]
        self._found[tenant, model] = Learned(limit, sent, estimated, time.monotonic() + LEARNT_FOR_S)
