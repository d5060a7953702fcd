"""What changes stored things while no exchange changes them too."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from proxy.exchange.house import House
from proxy.policy import Policy
from proxy.stores.contract import Ref


@asynccontextmanager
async def alone(house: House, ref: Ref, policy: Policy) -> AsyncIterator[None]:
    """One at a time on the ref, whatever the policy says of exchanges. Raises QueueFull, QueueTimeout, Stopping."""
    queued = msgspec.structs.replace(policy, session=msgspec.structs.replace(policy.session, concurrency="queue"))
    visit = house.turnstile.begin()
    try:
        await house.turnstile.enter(visit, ref, queued)
        visit.calm()
        yield
    finally:
        house.turnstile.end(visit)
