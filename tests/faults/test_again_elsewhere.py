"""The same request again reaches another process on the same store, while the first runs or after it: one turn."""

import asyncio
import contextlib
from itertools import count
from pathlib import Path

import aiohttp
import pytest

from tests.support.app import remora, sent
from tests.support.redis import Server, redis_server  # noqa: F401 - a fixture
from tests.support.upstream import Received, Script, ScriptedUpstream, Wait, model

KEY = {"Idempotency-Key": "k"}
AS_SDK = {"x-stainless-retry-count": "0"}, {"x-stainless-retry-count": "1"}
NUMBERS = count()


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path, redis_server: Server) -> str:  # noqa: F811 - a fixture
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'remora.db'}"
    return f"{redis_server.url}?prefix=again{next(NUMBERS)}"


@pytest.mark.parametrize("mode", ["queue", "parallel"])
@pytest.mark.parametrize("gone", [False, True], ids=["the client stays", "the client went"])
@pytest.mark.parametrize("headers", [(KEY, KEY), AS_SDK], ids=["key", "sdk"])
async def test_a_retry_beside_the_first_makes_no_second_turn(
    tmp_path: Path, store: str, mode: str, gone: bool, headers: tuple[dict[str, str], dict[str, str]]
) -> None:
    go_on = asyncio.Event()
    answer = model()

    def slow(request: Received) -> Script:
        return Script([Wait(go_on), *answer(request).steps])

    policy = f'[session]\nconcurrency = "{mode}"\n'
    async with (
        ScriptedUpstream(slow) as upstream,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True) as one,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True) as other,
    ):
        first = asyncio.create_task(one.chat("s", "hello", headers=headers[0]))
        await upstream.until(lambda u: len(u.requests) == 1)
        if gone:
            first.cancel()
        again = asyncio.create_task(other.chat("s", "hello", headers=headers[1]))
        # it asks the model as well, or waits for the first: so long that it could have asked
        await asyncio.wait({again}, timeout=0.5)
        go_on.set()
        await asyncio.gather(first, again, return_exceptions=True)
        assert again.result().status == 200
        await other.chat("s", "what was said?", headers={"X-Session-Record": "no"})
        said = [text for role, text in sent(upstream.requests[-1]) if role == "user"]
        assert said == ["hello", "what was said?"]


async def test_requests_that_are_no_retries_share_a_session_also_where_they_say_the_same(
    tmp_path: Path, store: str
) -> None:
    go_on = asyncio.Event()
    answer = model()

    def slow(request: Received) -> Script:
        return Script([Wait(go_on), *answer(request).steps])

    policy = '[session]\nconcurrency = "parallel"\n'
    async with (
        ScriptedUpstream(slow) as upstream,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True) as one,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True) as other,
    ):
        asked = [asyncio.create_task(each.chat("s", "a dice", headers=AS_SDK[0])) for each in (one, other, one, other)]
        await upstream.until(lambda u: len(u.requests) == 4)
        go_on.set()
        assert [reply.status for reply in await asyncio.gather(*asked)] == [200] * 4


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_paused_for_too_long_makes_no_second_turn(tmp_path: Path, store: str, stream: bool) -> None:
    go_on = asyncio.Event()
    answer = model()

    def slow(request: Received) -> Script:
        return Script([Wait(go_on), *answer(request).steps] if len(upstream.requests) == 1 else answer(request).steps)

    policy = '[session]\nconcurrency = "parallel"\n'
    async with (
        ScriptedUpstream(slow) as upstream,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True, keep_s=0.3) as one,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True, keep_s=0.3) as other,
    ):
        first = asyncio.create_task(one.chat("s", "hello", headers=KEY, stream=stream))
        await upstream.until(lambda u: len(u.requests) == 1)
        # it does not come again in time, as if its process had been stopped
        assert one.here.house.lines is not None
        await one.here.house.lines.close()
        again = await other.chat("s", "hello", headers=KEY, stream=stream)
        assert again.status == 200
        go_on.set()
        with contextlib.suppress(aiohttp.ClientPayloadError):
            late = await first
            assert (
                late.status == 409 and late.headers["x-should-retry"] == "false"
            ) or b"session_conflict" in late.body
        await other.chat("s", "what was said?", headers={"X-Session-Record": "no"})
        said = [text for role, text in sent(upstream.requests[-1]) if role == "user"]
        assert said == ["hello", "what was said?"]


@pytest.mark.parametrize("mode", ["queue", "parallel"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_retry_after_the_first_gets_its_reply(tmp_path: Path, store: str, mode: str, stream: bool) -> None:
    policy = f'[session]\nconcurrency = "{mode}"\n'
    async with (
        ScriptedUpstream(model()) as upstream,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True) as one,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True) as other,
    ):
        first = await one.chat("s", "hello", headers=KEY, stream=stream)
        again = await other.chat("s", "hello", headers=KEY, stream=stream)
        assert (again.status, again.body) == (200, first.body)
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("mode", ["queue", "parallel"])
async def test_a_key_that_another_process_is_using_for_another_request_is_refused(
    tmp_path: Path, store: str, mode: str
) -> None:
    go_on = asyncio.Event()
    answer = model()

    def slow(request: Received) -> Script:
        return Script([Wait(go_on), *answer(request).steps])

    policy = f'[session]\nconcurrency = "{mode}"\n'
    async with (
        ScriptedUpstream(slow) as upstream,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True) as one,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True) as other,
    ):
        first = asyncio.create_task(one.chat("s", "hello", headers=KEY))
        await upstream.until(lambda u: len(u.requests) == 1)
        reused = asyncio.create_task(other.chat("s", "something else", headers=KEY))
        await asyncio.wait({reused}, timeout=0.3)
        go_on.set()
        assert (await first).status == 200
        assert (await reused).code == "idempotency_key_reused"
        assert (await one.chat("s", "hello", headers=KEY)).body == first.result().body


@pytest.mark.parametrize("mode", ["queue", "reject"])
@pytest.mark.parametrize("headers", [(KEY, KEY), AS_SDK], ids=["key", "sdk"])
async def test_a_retry_gets_the_first_ones_reply_also_where_others_stand_before_it(
    tmp_path: Path, store: str, mode: str, headers: tuple[dict[str, str], dict[str, str]]
) -> None:
    """As where one process serves: it waits for the first one, and not for those who came between."""
    go_on, later = asyncio.Event(), asyncio.Event()
    answer = model()

    def slow(request: Received) -> Script:
        gate = later if sent(request)[-1] == ("user", "between") else go_on
        return Script([Wait(gate), *answer(request).steps])

    policy = f'[session]\nconcurrency = "{mode}"\n'
    async with (
        ScriptedUpstream(slow) as upstream,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True) as one,
        remora(upstream.url, tmp_path, policy, watched=False, store=store, shared=True) as other,
    ):
        first = asyncio.create_task(one.chat("s", "hello", headers=headers[0]))
        await upstream.until(lambda u: len(u.requests) == 1)
        first.cancel()
        asked = [asyncio.create_task(other.chat("s", "between"))]
        await asyncio.wait(asked, timeout=0.3)
        again = asyncio.create_task(other.chat("s", "hello", headers=headers[1]))
        await asyncio.wait({again}, timeout=0.3)
        go_on.set()
        assert (await again).status == 200
        later.set()
        await asyncio.gather(*asked)
        await other.chat("s", "what was said?", headers={"X-Session-Record": "no"})
        said = [text for role, text in sent(upstream.requests[-1]) if role == "user"]
        assert said == ["hello", *(["between"] if mode == "queue" else []), "what was said?"]


async def test_the_same_words_in_a_new_request_are_refused_like_any_other(tmp_path: Path) -> None:
    """An SDK says that it is no retry: where requests are refused while one runs, this one is."""
    go_on = asyncio.Event()
    answer = model()

    def slow(request: Received) -> Script:
        return Script([Wait(go_on), *answer(request).steps])

    async with (
        ScriptedUpstream(slow) as upstream,
        remora(upstream.url, tmp_path, '[session]\nconcurrency = "reject"\n', watched=False) as one,
    ):
        first = asyncio.create_task(one.chat("s", "hello", headers=AS_SDK[0]))
        await upstream.until(lambda u: len(u.requests) == 1)
        twice = asyncio.create_task(one.chat("s", "hello", headers=AS_SDK[0]))
        await asyncio.wait({twice}, timeout=0.5)
        go_on.set()
        assert (await twice).code == "session_busy"
        assert (await first).status == 200
