"""The same request again: the recorded reply, and no second turn."""

import asyncio

import pytest

from tests.e2e.test_disconnect import no_visits
from tests.support.app import Remora, sent
from tests.support.upstream import Script, ScriptedUpstream, Wait, model, plain

FIRST = {"x-stainless-retry-count": "0"}
AGAIN = {"x-stainless-retry-count": "1"}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_idempotency_key_gets_the_recorded_reply(
    proxy: Remora, upstream: ScriptedUpstream, stream: bool
) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await proxy.chat("s", "hello", headers=key, stream=stream)
    again = await proxy.chat("s", "hello", headers=key, stream=stream)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["X-Session-Turn"] == "1"
    assert len(upstream.requests) == 1
    await proxy.chat("s", "more")
    later = await proxy.chat("s", "hello", headers=key, stream=stream)
    assert later.body == first.body
    assert upstream.requests[0].get("Idempotency-Key") == "k1"
    assert len(sent(upstream.requests[-1])) == 3


async def test_an_idempotency_key_with_another_body_is_refused(proxy: Remora) -> None:
    key = {"Idempotency-Key": "k1"}
    await proxy.chat("s", "hello", headers=key)
    refused = await proxy.chat("s", "other", headers=key)
    assert (refused.status, refused.code) == (400, "idempotency_key_reused")


async def test_a_retry_while_the_first_still_runs_waits_for_it(upstream: ScriptedUpstream, proxy: Remora) -> None:
    go_on = asyncio.Event()
    answer = model("slow")

    def slow(request):  # type: ignore[no-untyped-def]
        return Script([Wait(go_on), *answer(request).steps])

    upstream.replies = slow
    first = asyncio.create_task(proxy.chat("s", "hello", headers=FIRST))
    await upstream.until(lambda u: len(u.requests) == 1)
    first.cancel()
    again = asyncio.create_task(proxy.chat("s", "hello", headers=AGAIN))
    await asyncio.sleep(0)
    go_on.set()
    assert (await again).text == "slow"
    assert len(upstream.requests) == 1


async def test_a_reply_that_was_never_fully_written_is_given_again(proxy: Remora, upstream: ScriptedUpstream) -> None:
    go_on = asyncio.Event()
    answer = model("slow")
    upstream.replies = lambda request: Script([Wait(go_on), *answer(request).steps])
    first = asyncio.create_task(proxy.chat("s", "hello", headers=FIRST))
    await upstream.until(lambda u: len(u.requests) == 1)
    first.cancel()
    go_on.set()
    await no_visits(proxy)
    again = await proxy.chat("s", "hello", headers=AGAIN)
    assert again.text == "slow"
    assert len(upstream.requests) == 1


async def test_after_a_delivered_reply_the_same_body_is_a_new_turn(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await proxy.chat("s", "yes", headers=FIRST)
    await proxy.chat("s", "yes", headers=AGAIN)
    assert sent(upstream.requests[1]) == [("user", "yes"), ("assistant", "reply 1"), ("user", "yes")]


async def test_a_retry_of_what_failed_is_a_request_of_its_own(proxy: Remora, upstream: ScriptedUpstream) -> None:
    upstream.queue.append(plain(500, {"error": {"message": "x"}}, reason="No"))
    assert (await proxy.chat("s", "hello", headers=FIRST)).status == 500
    assert (await proxy.chat("s", "hello", headers=AGAIN)).text == "reply 1"
    assert sent(upstream.requests[1]) == [("user", "hello")]


async def test_another_session_is_not_given_the_reply(proxy: Remora, upstream: ScriptedUpstream) -> None:
    key = {"Idempotency-Key": "k1"}
    await proxy.chat("s", "hello", headers=key)
    await proxy.chat("t", "hello", headers=key)
    await proxy.chat("s", "hello", headers={**key, "Authorization": "Bearer other"})
    assert len(upstream.requests) == 3
