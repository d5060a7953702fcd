"""A client that hangs up: the turn is finished, kept in part, or discarded, as the policy says."""

import asyncio
import json
from pathlib import Path

import pytest

from proxy.stores.contract import Ref
from tests.support.app import Remora, remora, said, sent
from tests.support.upstream import Reset, Script, ScriptedUpstream, Step, Wait, chunk, head, sse


def delta(text: str) -> dict[str, object]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


STOP = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def paused(event: asyncio.Event) -> Script:
    """Says `one`, waits, then says ` two` and stops."""
    return sse([delta("one"), Wait(event), delta(" two"), STOP])


async def hang_up_after_one(proxy: Remora, session: str = "s") -> None:
    """Asks for a stream, reads until `one` has come, and cuts the connection."""
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    body = json.dumps({"model": "gpt-4o", "stream": True, "messages": [said("user", "count")]}).encode()
    lines = [
        b"POST /v1/chat/completions HTTP/1.1", b"Host: x", b"Authorization: Bearer sk-client",
        b"X-Session-Id: " + session.encode(), b"Content-Type: application/json",
        b"Content-Length: %d" % len(body), b"", body,
    ]  # fmt: skip
    writer.write(b"\r\n".join(lines))
    await reader.readuntil(b'"one"')
    writer.close()
    await writer.wait_closed()


async def no_visits(proxy: Remora) -> None:
    async with asyncio.timeout(10):
        while proxy.here.house.turnstile.running:  # noqa: ASYNC110 - the product has no event for it, and needs none
            await asyncio.sleep(0.01)


async def test_finish_records_the_whole_reply_for_nobody(proxy: Remora, upstream: ScriptedUpstream) -> None:
    go_on = asyncio.Event()
    upstream.queue.append(paused(go_on))
    await hang_up_after_one(proxy)
    go_on.set()
    await no_visits(proxy)
    await proxy.chat("s", "next")
    assert sent(upstream.requests[-1]) == [("user", "count"), ("assistant", "one two"), ("user", "next")]


async def test_keep_partial_keeps_what_was_read_and_ends_the_call(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, '[session]\non_disconnect = "keep_partial"\n') as proxy:
        upstream.queue.append(paused(asyncio.Event()))
        await hang_up_after_one(proxy)
        await no_visits(proxy)
        await upstream.until(lambda u: u.open_connections == 0)
        await proxy.chat("s", "next")
        assert sent(upstream.requests[-1]) == [("user", "count"), ("assistant", "one"), ("user", "next")]


async def test_discard_leaves_no_trace(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, '[session]\non_disconnect = "discard"\n') as proxy:
        upstream.queue.append(paused(asyncio.Event()))
        await hang_up_after_one(proxy)
        await no_visits(proxy)
        await upstream.until(lambda u: u.open_connections == 0)
        await proxy.chat("s", "next")
        assert sent(upstream.requests[-1]) == [("user", "next")]


async def test_the_stop_button_under_finish_keeps_the_part_when_the_next_request_comes(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    upstream.queue.append(paused(asyncio.Event()))
    await hang_up_after_one(proxy)
    async with asyncio.timeout(10):
        await proxy.chat("s", "next")
    assert sent(upstream.requests[-1]) == [("user", "count"), ("assistant", "one"), ("user", "next")]
    assert upstream.requests[-1].json()["messages"][1] == said("assistant", "one")


async def test_a_plain_reply_is_finished_for_nobody(proxy: Remora, upstream: ScriptedUpstream) -> None:
    asked = asyncio.create_task(proxy.chat("s", "hello"))
    await upstream.until(lambda u: len(u.requests) == 1)
    asked.cancel()
    await no_visits(proxy)
    await proxy.chat("s", "next")
    assert sent(upstream.requests[-1]) == [("user", "hello"), ("assistant", "reply 1"), ("user", "next")]


async def test_a_stream_that_breaks_breaks_for_the_client_and_is_not_recorded(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    broken: list[Step] = [head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])]
    broken += [chunk(b"data: " + json.dumps(delta("one")).encode() + b"\n\n")]
    upstream.queue.append(Script([*broken, Reset()]))
    with pytest.raises(Exception, match=r"(?i)payload|closed|reset|disconnected"):
        await proxy.chat("s", "count", stream=True)
    await no_visits(proxy)
    await proxy.chat("s", "next")
    assert sent(upstream.requests[-1]) == [("user", "next")]
    failed = [record async for record in proxy.here.house.store.records(await only_ref(proxy))]
    assert [record.entry.facts.state for record in failed] == ["failed", "whole"]
    assert b"one" in failed[0].entry.wire


async def only_ref(proxy: Remora) -> Ref:
    refs = [info.ref async for info in proxy.here.house.store.list()]
    assert len(refs) == 1
    return refs[0]
