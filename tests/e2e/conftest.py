"""The product between a scripted model and a client."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.app import Remora, remora
from tests.support.upstream import ScriptedUpstream, model


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(model()) as server:
        yield server


@pytest.fixture
async def proxy(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path) as running:
        yield running
