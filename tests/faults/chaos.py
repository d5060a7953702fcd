"""One run: clients hammer, something is killed again and again, and then every session is judged."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.faults.fleet import Fleet, fleet
from tests.faults.hammer import Hammer, Model, judged
from tests.support.app import remora
from tests.support.upstream import Received, Script, ScriptedUpstream

KILLS = int(os.environ.get("TEST_KILLS", "2"))
PAST_THE_LEASE_S = 11.5
SESSIONS = 6
CLIENTS = 3
"""On each session."""
A_ROUND = 10
"""Kills, after which the sessions are judged and others begin: so that histories stay short."""
NEXT_S = 12.0
"""A kill waits so long for its moment, at most: a lease may have to lapse first."""

Kill = Callable[[Fleet], Awaitable[None]]


async def run(folder: Path, store: str, kills: Sequence[Kill], *more: str, replicas: int = 2, pauses: int = 0) -> None:
    """`kills`: what may be done to the processes and the store, in turns. Fails with all that is wrong."""
    chance = random.Random(os.environ.get("TEST_SEED", store.partition(":")[0]))
    policies = folder / "policies"
    policies.mkdir()
    (policies / "queue.toml").write_text("")
    (policies / "parallel.toml").write_text('[session]\nconcurrency = "parallel"\n')
    model = Model(chance)
    upstream = ScriptedUpstream()

    def answer(request: Received) -> Script:
        # what is not looked at again
        upstream.requests.clear()
        return model(request)

    upstream.replies = answer
    more = ("--policies", str(policies), *more)
    async with upstream, fleet(replicas, upstream.url, store, *more) as running:
        for done in range(0, KILLS, A_ROUND):
            modes = ("queue", "queue", "parallel")
            sessions = {f"s-{done}-{number}": modes[number % len(modes)] for number in range(SESSIONS)}
            hammer = Hammer(lambda: running.urls, chance, sessions, CLIENTS)
            hammer.start()
            pausing = [asyncio.create_task(running.pause(chance, PAST_THE_LEASE_S)) for _ in range(pauses)]
            for number in range(done, min(done + A_ROUND, KILLS)):
                await moment(model, chance)
                await kills[number % len(kills)](running)
            await asyncio.gather(*pausing)
            await moment(model, chance)
            await hammer.stop()
            statuses = await running.stop()
            async with remora(upstream.url, folder, store=store, watched=False) as proxy:
                found = await judged(hammer, model, proxy)
            print(  # noqa: T201 - figures, for those who run many kills
                f"{done} kills before, {hammer.acknowledged} of {len(hammer.said)} turns acknowledged, "
                f"slowest {hammer.slowest_s:.1f} s, {dict(hammer.outcomes)} {running.refusals} {statuses} {found}"
            )
            assert found == []
            assert running.complaints == []
            assert hammer.hung == []
            assert set(statuses) == {0}
            assert hammer.acknowledged >= SESSIONS
            if done + A_ROUND < KILLS:
                await running.start()


async def moment(model: Model, chance: random.Random) -> None:
    """Waits until the model was asked some more times, and no longer than a lease takes to lapse."""
    enough = model.count + chance.randint(1, 60)
    try:
        async with asyncio.timeout(NEXT_S):
            while model.count < enough:  # noqa: ASYNC110 - a point in time that nothing else marks
                await asyncio.sleep(0.005)
    except TimeoutError:
        pass  # nothing moves: then something dies while nothing moves
