"""What changes stored things while no exchange changes them too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from proxy.errors import Stopping
from proxy.exchange.house import House
from proxy.exchange.turnstile import Reason
from proxy.policy import Policy
from proxy.stores.contract import Ref


@asynccontextmanager
async def alone(house: House, ref: Ref, policy: Policy) -> AsyncIterator[None]:
    """One at a time on the ref, whatever the policy says of exchanges. Raises QueueFull, QueueTimeout, Stopping."""
    queued = msgspec.structs.replace(policy, session=msgspec.structs.replace(policy.session, concurrency="queue"))
    visit = house.turnstile.begin()
    try:
        try:
            await house.turnstile.enter(visit, ref, queued)
        except asyncio.CancelledError:
            if visit.reason is not Reason.STOPPING:
                raise
            raise Stopping("The proxy is stopping; send the request again.", retry_after_s=1) from None
        finally:
            visit.calm()
        yield
    finally:
        house.turnstile.end(visit)
