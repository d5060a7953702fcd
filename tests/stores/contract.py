"""The laws that every store keeps: `class TestX(Laws)` with a fixture `factory` proves them for store X."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, given, settings

from proxy.stores.contract import Store
from tests.stores.laws.appending import Appending
from tests.stores.laws.chains import Chains
from tests.stores.laws.ending import Ending
from tests.stores.laws.keeping import Keeping
from tests.stores.laws.labelling import Labelling
from tests.stores.laws.lining import Lining
from tests.stores.laws.noting import Noting
from tests.stores.laws.pruning import Pruning
from tests.stores.laws.redacting import Redacting
from tests.stores.laws.running import Running
from tests.stores.laws.searching import Searching
from tests.stores.laws.telling import Telling
from tests.stores.making import Clock
from tests.stores.model import Model, Step, compare, steps

Factory = Callable[[Callable[[], float]], Store]

EXAMPLES = int(os.environ.get("REMORA_TEST_EXAMPLES", "15"))


class Laws(
    Appending,
    Chains,
    Keeping,
    Telling,
    Searching,
    Ending,
    Noting,
    Redacting,
    Pruning,
    Labelling,
    Running,
    Lining,
):
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def crowding(self) -> None:
        """Makes what the store does only when there is much happen when there is little."""

    @pytest.fixture
    async def store(self, factory: Factory, clock: Clock) -> AsyncIterator[Store]:
        store = factory(clock)
        await store.open()
        yield store
        await store.close()

    @given(script=steps)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    def test_it_answers_as_the_plain_model_does(self, factory: Factory, script: list[Step]) -> None:
        async def run() -> None:
            clock = Clock()
            store, model = factory(clock), Model(clock)
            await store.open()
            try:
                for step in script:
                    await step(store, model)
                await compare(store, model)
            finally:
                await store.close()

        asyncio.run(run())
