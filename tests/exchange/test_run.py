"""Stateful chat over the whole product: real sockets, a real store, a scripted model."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.app import Remora, remora, sent
from tests.support.upstream import ScriptedUpstream, model, plain


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(model()) as server:
        yield server


@pytest.fixture
async def proxy(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path) as running:
        yield running


async def test_the_second_turn_is_sent_with_the_first_in_front(proxy: Remora, upstream: ScriptedUpstream) -> None:
    first = await proxy.chat("s", "hello")
    assert first.text == "reply 1"
    assert first.headers["X-Session-Id"] == "s"
    assert first.headers["X-Session-Turn"] == "1"
    second = await proxy.chat("s", "and now?")
    assert second.headers["X-Session-Turn"] == "2"
    assert second.headers["X-Session-Context"].startswith('policy="default", kept=2, dropped=0, tokens=')
    assert sent(upstream.requests[1]) == [("user", "hello"), ("assistant", "reply 1"), ("user", "and now?")]


@pytest.mark.parametrize("stream", [False, True])
async def test_streamed_and_plain_replies_are_recorded_alike(
    proxy: Remora, upstream: ScriptedUpstream, stream: bool
) -> None:
    for n in range(1, 4):
        await proxy.chat("s", f"u{n}", stream=stream)
    assert sent(upstream.requests[2]) == [
        ("user", "u1"),
        ("assistant", "reply 1"),
        ("user", "u2"),
        ("assistant", "reply 2"),
        ("user", "u3"),
    ]


async def test_an_error_of_the_upstream_is_relayed_and_nothing_is_recorded(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    upstream.queue.append(plain(429, {"error": {"message": "slow down"}}, reason="Too Many Requests"))
    refused = await proxy.chat("s", "lost")
    assert (refused.status, refused.json()) == (429, {"error": {"message": "slow down"}})
    assert "X-Session-Turn" not in refused.headers
    await proxy.chat("s", "hello")
    assert sent(upstream.requests[1]) == [("user", "hello")]
