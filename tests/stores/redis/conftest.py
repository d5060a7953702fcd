"""One server for the folder's tests, and stores on it that know nothing of each other."""

from collections.abc import AsyncIterator, Callable
from itertools import count

import pytest

from proxy.stores.redis.address import Address, parse
from proxy.stores.redis.store import RedisStore
from tests.support.redis import Server, redis_server

__all__ = ["redis_server"]
_numbers = count()


@pytest.fixture
def space() -> str:
    return f"test{next(_numbers)}"


@pytest.fixture
def address(redis_server: Server, space: str) -> Address:
    return parse(f"{redis_server.url}?prefix={space}&timeout=4")


@pytest.fixture
async def make(address: Address) -> AsyncIterator[Callable[..., RedisStore]]:
    """Stores on the same keys, closed at the end."""
    made: list[RedisStore] = []

    def one(**more: Callable[[], float]) -> RedisStore:
        made.append(RedisStore(address, **more))
        return made[-1]

    yield one
    for store in made:
        await store.close()


@pytest.fixture
async def store(make: Callable[..., RedisStore]) -> RedisStore:
    store = make()
    await store.open()
    return store
