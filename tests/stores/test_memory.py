"""The store in dicts keeps the laws."""

from collections.abc import Callable

import pytest

from proxy.errors import SettingsError
from proxy.stores.memory import MemoryStore, from_url
from tests.stores.contract import Factory, Laws


class TestMemory(Laws):
    @pytest.fixture
    def factory(self) -> Factory:
        def make(now: Callable[[], float]) -> MemoryStore:
            return MemoryStore(now=now)

        return make


def test_its_url_has_nothing_behind_the_scheme() -> None:
    assert isinstance(from_url("memory:"), MemoryStore)
    with pytest.raises(SettingsError, match="nothing behind"):
        from_url("memory://x")
