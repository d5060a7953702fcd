"""Workers on one SQLite file, killed and paused under load: nothing lost, nothing doubled, nothing mixed."""

import random
from pathlib import Path

from tests.faults.chaos import run
from tests.faults.fleet import Fleet

CHANCE = random.Random("sqlite")


async def worker(fleet: Fleet) -> None:
    await fleet.kill_worker(CHANCE)


async def all_of_them(fleet: Fleet) -> None:
    """Workers notice that their supervisor is gone, and end what runs; others begin meanwhile."""
    await fleet.kill(CHANCE)


async def test_workers_that_are_killed_and_paused_lose_double_and_mix_nothing(tmp_path: Path) -> None:
    kills = (worker, worker, worker, all_of_them)
    await run(tmp_path, f"sqlite:///{tmp_path / 'remora.db'}", kills, "--workers", "2", replicas=1, pauses=1)
