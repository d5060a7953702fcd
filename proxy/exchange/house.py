"""What every exchange works with: made once by `app`, and the same for all."""

from proxy.exchange.retry import Retries
from proxy.exchange.turnstile import Turnstile
from proxy.policy import Policies
from proxy.stores.contract import Store
from proxy.upstream.contract import Upstream


class House:
    """Only `policies` ever changes: a reload puts a new value there."""

    __slots__ = ("policies", "retries", "store", "turnstile", "upstream")

    def __init__(self, store: Store, upstream: Upstream, policies: Policies) -> None:
        self.store = store
        self.upstream = upstream
        self.policies = policies
        self.turnstile = Turnstile()
        self.retries = Retries(store)
