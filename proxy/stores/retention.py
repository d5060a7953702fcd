"""The sweep: what has outlived its time is erased, in small steps, for as long as the app runs."""

import asyncio
from collections.abc import Callable

from proxy.errors import StoreUnavailable, traced
from proxy.stores.contract import Store

STEP = 20
"""Refs in one step."""
STEPS_A_ROUND = 500
PAUSE_S = 0.05
"""Between steps, so that a large sweep leaves the disk to the requests."""


async def sweep(store: Store, every_s: float, say: Callable[[str], None]) -> None:
    """Erases what has expired, at once and then every `every_s` seconds, until it is cancelled. A round is bounded;
    what it leaves, the next one finds. A store that fails is told to `say` in one line, and tried again next time; so
    is a bug."""
    while True:
        try:
            await _round(store)
        except StoreUnavailable as error:
            say(f"expired sessions could not be removed: {error.message}")
        except Exception as error:  # noqa: BLE001 - nobody awaits it: what expires would stay, and nobody would know
            say(traced(error))
        await asyncio.sleep(every_s)


async def _round(store: Store) -> None:
    for _ in range(STEPS_A_ROUND):
        if await store.expire(STEP) < STEP:
            return
        await asyncio.sleep(PAUSE_S)
