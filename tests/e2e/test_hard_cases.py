"""Laws that are easily broken, each named by its test's docstring."""

import asyncio
import gzip
import json
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.test_disconnect import STOP, delta, hang_up_after_one, no_visits, only_ref, paused
from tests.support.app import Answer, Json, Remora, remora, said, sent
from tests.support.upstream import Script, ScriptedUpstream, Wait, head, model, plain, sse


async def test_two_requests_with_one_idempotency_key_make_one_turn(upstream: ScriptedUpstream, proxy: Remora) -> None:
    """Retries: a repeat with the same Idempotency-Key makes no second turn; while the first still runs it waits."""
    key = {"Idempotency-Key": "k1"}
    first, again = await asyncio.gather(proxy.chat("s", "hello", headers=key), proxy.chat("s", "hello", headers=key))
    assert (first.status, again.status) == (200, 200)
    assert len(upstream.requests) == 1
    assert first.body == again.body


async def test_two_retries_that_waited_for_one_failure_make_one_turn(upstream: ScriptedUpstream, proxy: Remora) -> None:
    """Retries: when the first fails, one of those that waited for it runs, the others go on waiting."""
    key, go_on = {"Idempotency-Key": "k1"}, asyncio.Event()
    upstream.queue.append(Script([Wait(go_on), *plain(500, {"error": {"message": "x"}}).steps]))
    first = asyncio.create_task(proxy.chat("s", "hello", headers=key))
    await upstream.until(lambda u: len(u.requests) == 1)
    others = [asyncio.create_task(proxy.chat("s", "hello", headers=key)) for _ in range(2)]
    async with asyncio.timeout(5):
        while proxy.here.house.turnstile.running < 3:  # noqa: ASYNC110 - the product has no event for it
            await asyncio.sleep(0.01)
    go_on.set()
    assert (await first).status == 500
    await asyncio.gather(*others)
    assert len(upstream.requests) == 2


async def test_a_new_request_with_an_idempotency_key_ends_a_reply_that_nobody_reads(
    upstream: ScriptedUpstream, proxy: Remora
) -> None:
    """on_disconnect = finish: a new request on the session ends such a reply. A first use of a key is a new request."""
    upstream.queue.append(paused(asyncio.Event()))
    await hang_up_after_one(proxy)
    async with asyncio.timeout(5):
        await proxy.chat("s", "next", headers={"Idempotency-Key": "new"})
    assert sent(upstream.requests[-1]) == [("user", "count"), ("assistant", "one"), ("user", "next")]


async def test_reject_also_refuses_a_new_request_with_an_idempotency_key(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """concurrency = reject: 409 while another request runs. A first use of a key is no retry of that request."""
    async with remora(upstream.url, tmp_path, '[session]\nconcurrency = "reject"\n') as proxy:
        go_on, answer = asyncio.Event(), model("slow")
        upstream.replies = lambda request: Script([Wait(go_on), *answer(request).steps])
        first = asyncio.create_task(proxy.chat("s", "hello"))
        await upstream.until(lambda u: len(u.requests) == 1)
        other = asyncio.create_task(proxy.chat("s", "other", headers={"Idempotency-Key": "new"}))
        done, _ = await asyncio.wait((other,), timeout=2)
        go_on.set()
        await asyncio.gather(first, other)
        assert done, "it was queued"
        assert other.result().status == 409


NAMELESS = {"index": 0, "id": "c1", "type": "function", "function": {"arguments": "{}"}}


@pytest.mark.parametrize(
    "odd",
    [
        "ping",
        {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [NAMELESS]}, "finish_reason": None}]},
        {"id": "c", "choices": [None]},
    ],
    ids=["no-json", "call-without-name", "no-choice"],
)
async def test_a_stream_that_is_not_recorded_is_not_ended_as_if_it_were(
    upstream: ScriptedUpstream, proxy: Remora, odd: str | dict[str, object]
) -> None:
    """Promises 2 and 4: whoever saw the end of a stream finds its turn; else an error event and a break."""
    upstream.queue.append(sse([delta("one"), odd, delta(" two"), STOP]))
    try:
        answer = await proxy.chat("s", "count", stream=True)
    except aiohttp.ClientError:
        return
    assert answer.headers["X-Session-Turn"] == "1"
    await proxy.chat("s", "next")
    assert sent(upstream.requests[-1])[0] == ("user", "count")


MEMBERS = '[session]\nmembers = ["metadata.session_id"]\n'


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"role":"ipython","content":"x"}]}',
        b'{"model":"m","prompt":"x"}',
        b'{"model":"m","n":0,"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"m","model":"m","messages":[{"role":"user","content":"x"}]}',
        b"not json",
    ],
)
async def test_what_names_no_session_is_not_judged(upstream: ScriptedUpstream, tmp_path: Path, body: bytes) -> None:
    """Promise 1: a request that names no session goes through untouched, also where a policy reads body members."""
    upstream.replies = lambda request: plain(200, {"ok": True})
    async with remora(upstream.url, tmp_path, MEMBERS) as proxy:
        answer = await proxy.post("/v1/chat/completions", body)
    assert answer.status == 200
    assert upstream.requests[0].body == body


async def test_what_names_no_session_keeps_its_encoding(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Promise 1: a compressed body that names no session arrives compressed, also where a policy reads members."""
    upstream.replies = lambda request: plain(200, {"ok": True})
    body = gzip.compress(b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
    async with remora(upstream.url, tmp_path, MEMBERS) as proxy:
        await proxy.post("/v1/chat/completions", body, {"Content-Encoding": "gzip"})
    assert upstream.requests[0].get("Content-Encoding") == "gzip"
    assert upstream.requests[0].body == body


async def test_what_names_no_session_needs_no_tenant(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Promise 1: REMORA_TENANT=header:NAME concerns sessions only, also where a policy reads body members."""
    async with remora(upstream.url, tmp_path, MEMBERS, tenant="header:X-Team") as proxy:
        assert (await proxy.chat(None, "x")).status == 200


async def test_an_answered_request_is_not_to_be_tried_again(upstream: ScriptedUpstream, proxy: Remora) -> None:
    """DESIGN 4: any 5xx after the upstream has answered carries x-should-retry: false (SDKs would pay again)."""
    upstream.queue.append(plain(200, b"x", [("Content-Type", "application/json"), ("Content-Encoding", "br")]))
    answer = await proxy.chat("s", "hello")
    assert answer.status == 502
    assert answer.headers.get("x-should-retry") == "false"


async def test_an_empty_bearer_does_not_put_two_keys_into_one_tenant(upstream: ScriptedUpstream, proxy: Remora) -> None:
    """Promise 5: the tenant is the first credential that is present; `Authorization: Bearer` holds none."""
    await proxy.chat("s", "my secret", headers={"Authorization": "Bearer", "x-api-key": "key-a"})
    await proxy.chat("s", "hello", headers={"Authorization": "Bearer", "x-api-key": "key-b"})
    assert sent(upstream.requests[-1]) == [("user", "hello")]


async def test_after_the_commit_nobody_reads_on_for_a_client_who_left(
    upstream: ScriptedUpstream, proxy: Remora
) -> None:
    """No leak: when the turn is recorded and the client has gone, the upstream's connection is given up."""
    upstream.queue.append(sse([delta("one"), STOP, Wait(asyncio.Event())]))
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    body = json.dumps({"model": "gpt-4o", "stream": True, "messages": [said("user", "count")]}).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Session-Id: s\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    await reader.readuntil(b'"stop"')
    writer.close()
    await writer.wait_closed()
    await upstream.until(lambda u: u.open_connections == 0, within_s=4)


@pytest.mark.parametrize("concurrency", ["queue", "parallel"])
async def test_a_client_that_takes_nothing_does_not_make_two_entries(
    upstream: ScriptedUpstream, tmp_path: Path, concurrency: str
) -> None:
    """turnstile.py: an exchange is never interrupted while its entry is committed; a turn is recorded once, whole.

    The client takes nothing, so that the write times out while the rest of the reply lies ready to be read."""
    policy = f'[session]\nconcurrency = "{concurrency}"\non_disconnect = "keep_partial"\n'
    async with remora(upstream.url, tmp_path, policy, idle_timeout_s=1.0) as proxy:
        # a comment: heavy to send, nothing to record or count
        upstream.queue.append(sse([b": " + b"x" * 15_000_000 + b"\n\n", delta("one"), STOP]))
        _, writer = await asyncio.open_connection(proxy.host, proxy.port, limit=1024)
        body = json.dumps({"model": "gpt-4o", "stream": True, "messages": [said("user", "count")]}).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Session-Id: s\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
        await upstream.until(lambda u: len(u.requests) == 1)
        await no_visits(proxy)
        writer.transport.abort()
        ref = await only_ref(proxy)
        states = [r.entry.facts.state async for r in proxy.here.house.store.records(ref)]
    assert states == ["whole"], states


async def test_a_commit_that_fails_breaks_a_stream_of_known_length(upstream: ScriptedUpstream, proxy: Remora) -> None:
    """Promise 2: if the commit fails, an error event goes out and the connection breaks; not a whole body."""
    await proxy.chat("s", "first")
    events = b"".join(b"data: %b\n\n" % json.dumps(e).encode() for e in (delta("one"), STOP)) + b"data: [DONE]\n\n"
    cut, go_on = events.index(b"\n\n") + 2, asyncio.Event()
    lines = [("Content-Type", "text/event-stream"), ("Content-Length", str(len(events)))]
    upstream.queue.append(Script([head(200, lines), events[:cut], Wait(go_on), events[cut:]]))
    asked = asyncio.create_task(proxy.chat("s", "count", stream=True))
    await upstream.until(lambda u: len(u.requests) == 2)
    await asyncio.sleep(0.1)
    assert await proxy.here.house.store.erase(await only_ref(proxy))
    go_on.set()
    try:
        answer = await asked
    except aiohttp.ClientError:
        return
    raise AssertionError(f"the client got a whole reply: {answer.body[cut:]!r}")


async def test_a_late_result_never_makes_an_empty_request(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Promise 3: what goes upstream is valid: it has messages, and what the client just said is among them."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    reply = {"role": "assistant", "content": None, "tool_calls": [call]}
    async with remora(upstream.url, tmp_path, "[window]\nmax_tokens = 20\ntrim_to = 0.5\n") as proxy:
        upstream.queue.append(plain(200, {"choices": [{"index": 0, "message": reply, "finish_reason": "tool_calls"}]}))
        await proxy.chat("s", "call")
        for n in range(3):
            await proxy.chat("s", f"never mind {n} " + "word " * 30)
        answer = await proxy.chat("s", {"role": "tool", "tool_call_id": "c1", "content": "late"})
    assert answer.status != 200 or sent(upstream.requests[-1])[-1:] not in ([], [("assistant", "reply 3")])


PARALLEL = '[session]\nconcurrency = "parallel"\n'


async def _erased_while_asking(upstream: ScriptedUpstream, proxy: Remora, headers: dict[str, str]) -> Answer:
    """The session `s` is erased while the model answers `while` on it."""
    go_on, answer = asyncio.Event(), model("late")
    upstream.replies = lambda request: Script([Wait(go_on), *answer(request).steps])
    before = len(upstream.requests)
    asked = asyncio.create_task(proxy.chat("s", "while", headers=headers))
    await upstream.until(lambda u: len(u.requests) == before + 1)
    assert await proxy.here.house.store.erase(await only_ref(proxy))
    go_on.set()
    return await asked


async def test_an_erased_preamble_does_not_come_back(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Erasing is final, also under concurrent writes (FIELD 20): a reply under way brings no old content back."""
    async with remora(upstream.url, tmp_path, PARALLEL) as proxy:
        await proxy.chat("s", said("system", "SECRET"), "hello")
        await _erased_while_asking(upstream, proxy, {})
        await proxy.chat("s", "next")
    assert b"SECRET" not in upstream.requests[-1].body


async def test_an_erased_session_is_not_made_again_by_a_reply_under_way(
    upstream: ScriptedUpstream, proxy: Remora
) -> None:
    """Store contract: an append that expected a head never revives an erased ref; nor may the failed entry of it."""
    await proxy.chat("s", "hello")
    answer = await _erased_while_asking(upstream, proxy, {"X-Session-From": "0"})
    assert answer.status == 409
    assert [info.ref.name async for info in proxy.here.house.store.list()] == []


async def test_a_branch_of_an_erased_session_is_a_conflict(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """What was erased meanwhile is 409 and not to be retried, not a failure of the proxy (DESIGN 4)."""
    async with remora(upstream.url, tmp_path, PARALLEL) as proxy:
        await proxy.chat("s", "one")
        await proxy.chat("s", "two")
        answer = await _erased_while_asking(upstream, proxy, {"X-Session-From": "1"})
    assert (answer.status, answer.headers.get("x-should-retry")) == (409, "false")


async def test_the_turn_that_is_said_is_the_turn_that_was_recorded(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """X-Session-Turn names the turn as recorded, also where a plain parallel reply was appended behind another."""
    async with remora(upstream.url, tmp_path, PARALLEL) as proxy:
        go_on = asyncio.Event()
        upstream.queue.append(
            Script(
                [
                    Wait(go_on),
                    *plain(
                        200,
                        {
                            "choices": [
                                {
                                    "index": 0,
                                    "message": {"role": "assistant", "content": "slow"},
                                    "finish_reason": "stop",
                                }
                            ]
                        },
                    ).steps,
                ]
            )
        )
        slow = asyncio.create_task(proxy.chat("s", "slow"))
        await upstream.until(lambda u: len(u.requests) == 1)
        await proxy.chat("s", "quick")
        go_on.set()
        said_turn = (await slow).headers["X-Session-Turn"]
    assert said_turn == "2"


async def test_a_stream_without_its_content_type_is_recorded_all_the_same(
    upstream: ScriptedUpstream, proxy: Remora
) -> None:
    """FIELD 8: streamed replies are stored; the request asked for a stream and the body is one."""
    upstream.queue.append(sse([delta("one"), STOP], headers=()))
    answer = await proxy.chat("s", "count", stream=True)
    assert (answer.status, b"[DONE]" in answer.body) == (200, True)
    await proxy.chat("s", "next")
    assert sent(upstream.requests[-1]) == [("user", "count"), ("assistant", "one"), ("user", "next")]


async def test_a_whole_history_with_a_branch_header_is_not_sent_twice(
    upstream: ScriptedUpstream, proxy: Remora
) -> None:
    """Promise 3 and `history`: a client that keeps its own history and names a turn does not say everything twice."""
    await proxy.chat("s", "one")
    history: list[str | Json] = ["one", said("assistant", "reply 1"), "two"]
    await proxy.chat("s", *history)
    refused = await proxy.chat("s", *history[:2], "edited", headers={"X-Session-From": "1"})
    assert (refused.status, refused.code) == (400, "invalid_header")


async def test_a_gone_client_replay_is_kept_when_the_next_request_ends_the_wait_for_the_marker(
    upstream: ScriptedUpstream, proxy: Remora
) -> None:
    """Retries: a reply that is complete (its finish reason came) answers a repeat, however its end was hurried."""
    key = {"Idempotency-Key": "k1"}
    upstream.queue.append(sse([delta("one"), STOP, Wait(asyncio.Event())]))
    first = asyncio.create_task(proxy.chat("s", "count", stream=True, headers=key))
    await upstream.until(lambda u: len(u.requests) == 1)
    await asyncio.sleep(0.2)
    first.cancel()
    await asyncio.sleep(0.1)
    await proxy.chat("s", "next")
    before = len(upstream.requests)
    await proxy.chat("s", "count", stream=True, headers=key)
    assert len(upstream.requests) == before
