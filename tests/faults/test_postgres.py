"""Replicas on one PostgreSQL server; they and the server are killed and paused under load."""

import asyncio
import random
from pathlib import Path

from tests.faults.chaos import KILLS, run
from tests.faults.fleet import Fleet
from tests.support.postgres import serving

CHANCE = random.Random("postgres")


async def test_workers_that_are_killed_and_paused_lose_double_and_mix_nothing(tmp_path: Path) -> None:
    with serving() as server:

        async def replica(fleet: Fleet) -> None:
            await fleet.kill(CHANCE)

        async def store(_: Fleet) -> None:
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

        # a pause takes long: the stores' laws know of lapsed places too
        await run(tmp_path, server.url(), (store, store, replica, store), pauses=int(KILLS > 10))
