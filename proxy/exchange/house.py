"""What every exchange works with: made once by `app`, and the same for all."""

from collections.abc import Callable

from proxy.exchange.record import ExchangeRecord
from proxy.exchange.reflect import Reflections
from proxy.exchange.retry import Retries
from proxy.exchange.turnstile import Turnstile
from proxy.policy import Policies
from proxy.stores.contract import Store
from proxy.upstream.contract import Upstream

MODELS_AT_MOST = 256


class House:
    """Only `policies` ever changes: a reload puts a new value there; and `learned` grows."""

    __slots__ = ("learned", "policies", "reflections", "retries", "store", "turnstile", "upstream")

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        policies: Policies,
        *,
        observe: Callable[[ExchangeRecord], None],
        broke: Callable[[Exception], None],
    ) -> None:
        """`observe` is told of each call to the model that the proxy makes on its own, `broke` of a bug in the work
        after a reply."""
        self.store = store
        self.upstream = upstream
        self.policies = policies
        self.turnstile = Turnstile()
        self.retries = Retries(store)
        self.reflections = Reflections(store, upstream, observe, broke)
        self.learned = Learned()


class Learned:
    """Prompts that the upstream has refused, by model: how many tokens it said that it takes, in the counter's units.
    Clients choose the names, so only the newest are kept."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, int] = {}

    def get(self, model: str) -> int | None:
        return self._found.get(model)

    def put(self, model: str, tokens: int) -> None:
        if len(self._found) >= MODELS_AT_MOST:
            del self._found[next(iter(self._found))]
        self._found[model] = tokens
