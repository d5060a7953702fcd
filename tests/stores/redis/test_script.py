"""A script is known by the digest that the server computes too."""

import pytest

from proxy.stores.redis import reading, searching, writing
from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Link
from proxy.stores.redis.script import Script

ALL = [each for module in (reading, searching, writing) for each in vars(module).values() if isinstance(each, Script)]


@pytest.mark.parametrize("script", ALL)
async def test_the_server_knows_it_by_its_digest(address: Address, script: Script) -> None:
    link = Link(address)
    assert await link.ask("SCRIPT", "LOAD", script.text) == script.sha
    await link.close()
