"""Bad input, upstreams and stores that fail: a clear answer, and nothing left behind."""

import asyncio
import gzip
import json
import zlib
from pathlib import Path

import pytest

from tests.support.app import Remora, remora, said, sent
from tests.support.upstream import Close, Reset, Script, ScriptedUpstream, Wait, head, plain, sse

S = {"X-Session-Id": "s"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_body"),
        (b"not json", "invalid_body"),
        (b"[]", "invalid_body"),
        (b'{"model": "m"}', "invalid_body"),
        (b'{"messages": null}', "invalid_body"),
        (b'{"messages": "hi"}', "invalid_body"),
        (b'{"messages": []}', "invalid_body"),
        (b'{"messages": [1]}', "invalid_body"),
        (b'{"messages": [{"content": "x"}]}', "invalid_body"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "invalid_body"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "invalid_body"),
        (b'{"messages": [{"role": "user", "content": "x"}], "messages": []}', "invalid_body"),
        (b'{"messages": [{"role": "tool", "content": "x"}]}', "invalid_body"),
        (b'{"messages": [{"role": "tool", "tool_call_id": "a", "content": "x"}]}', "unknown_tool_call"),
        (b'{"messages": ' + b"[" * 100_000, "invalid_body"),
    ],
)
async def test_bad_bodies_are_refused_and_leave_nothing_behind(
    proxy: Remora, upstream: ScriptedUpstream, body: bytes, code: str
) -> None:
    refused = await proxy.post("/v1/chat/completions", body, S)
    assert (refused.status, refused.code) == (400, code)
    error = refused.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert upstream.requests == []
    assert [info async for info in proxy.here.house.store.list()] == []


@pytest.mark.parametrize("session", ["", "x" * 257, "a b", "\u00e9"])
async def test_bad_session_ids_are_refused(proxy: Remora, session: str) -> None:
    refused = await proxy.chat(session, "x")
    assert (refused.status, refused.code) == (400, "invalid_session_id")


async def test_a_body_over_the_limit_is_refused_also_when_it_comes_compressed(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, max_body_bytes=10_000) as proxy:
        body = json.dumps({"messages": [said("user", "x" * 20_000)]}).encode()
        refused = await proxy.post("/v1/chat/completions", body, S)
        assert (refused.status, refused.code) == (413, "body_too_large")
        refused = await proxy.post("/v1/chat/completions", gzip.compress(body), {**S, "Content-Encoding": "gzip"})
        assert (refused.status, refused.code) == (413, "body_too_large")
        assert (await proxy.chat("s", "small")).status == 200


@pytest.mark.parametrize(("encoding", "packed"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies_are_read(proxy: Remora, upstream: ScriptedUpstream, encoding: str, packed) -> None:  # type: ignore[no-untyped-def]
    body = json.dumps({"messages": [said("user", "hello")]}).encode()
    await proxy.post("/v1/chat/completions", packed(body), {**S, "Content-Encoding": encoding})
    assert sent(upstream.requests[0]) == [("user", "hello")]
    assert upstream.requests[0].get("Content-Encoding") is None
    refused = await proxy.post("/v1/chat/completions", body, {**S, "Content-Encoding": "br"})
    assert (refused.status, refused.code) == (415, "unsupported_encoding")
    broken = await proxy.post("/v1/chat/completions", packed(body)[:-6], {**S, "Content-Encoding": encoding})
    assert (broken.status, broken.code) == (400, "invalid_body")


async def test_an_upstream_that_is_not_there_is_502(tmp_path: Path) -> None:
    async with remora("http://127.0.0.1:9", tmp_path) as proxy:
        refused = await proxy.chat("s", "x")
        assert (refused.status, refused.code) == (502, "upstream_unreachable")
        refused = await proxy.chat(None, "x")
        assert (refused.status, refused.code) == (502, "upstream_unreachable")


async def test_an_upstream_that_says_nothing_is_504(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, first_byte_timeout_s=0.2) as proxy:
        upstream.queue.append(Script([Wait(asyncio.Event())]))
        refused = await proxy.chat("s", "x")
        assert (refused.status, refused.code) == (504, "upstream_timeout")
        assert len(sent(upstream.requests[0])) == 1
        await proxy.chat("s", "y")
        assert sent(upstream.requests[1]) == [("user", "y")]


@pytest.mark.parametrize(
    "script",
    [
        Script([Close()]),
        Script([Reset()]),
        Script([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", Close()]),
        Script([b"nonsense\r\n\r\n", Close()]),
    ],
)
async def test_a_plain_reply_that_breaks_is_502_and_not_recorded(
    proxy: Remora, upstream: ScriptedUpstream, script: Script
) -> None:
    upstream.queue.append(script)
    refused = await proxy.chat("s", "x")
    assert refused.status == 502
    await proxy.chat("s", "y")
    assert sent(upstream.requests[-1]) == [("user", "y")]


@pytest.mark.parametrize(
    "body", [b"<html>busy</html>", b"\xff\xfe", b'{"object": "list"}', b'{"error": {"message": "x"}}', b""]
)
async def test_a_200_that_is_no_completion_is_relayed_and_not_recorded(
    proxy: Remora, upstream: ScriptedUpstream, body: bytes
) -> None:
    upstream.queue.append(plain(200, body, [("Content-Type", "text/html")]))
    answer = await proxy.chat("s", "x")
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, body, "text/html")
    assert "X-Session-Turn" not in answer.headers
    await proxy.chat("s", "y")
    assert sent(upstream.requests[-1]) == [("user", "y")]


async def test_an_error_inside_a_stream_is_relayed_and_nothing_is_recorded(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    delta = {"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": None}]}
    upstream.queue.append(sse([delta, {"error": {"message": "overloaded", "code": 503}}]))
    answer = await proxy.chat("s", "x", stream=True)
    assert b"overloaded" in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n")
    await proxy.chat("s", "y")
    assert sent(upstream.requests[-1]) == [("user", "y")]


async def test_a_compressed_reply_is_decoded(proxy: Remora, upstream: ScriptedUpstream) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "small"}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]
    upstream.queue.append(plain(200, gzip.compress(body), headers))
    answer = await proxy.chat("s", "x")
    assert answer.body == body
    assert "Content-Encoding" not in answer.headers
    await proxy.chat("s", "y")
    assert sent(upstream.requests[-1])[1] == ("assistant", "small")


async def test_a_reply_that_unpacks_beyond_the_limit_is_502(proxy: Remora, upstream: ScriptedUpstream) -> None:
    bomb = gzip.compress(b'{"choices": [' + b" " * (65 * 1024 * 1024))
    headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]
    upstream.queue.append(plain(200, bomb, headers))
    refused = await proxy.chat("s", "x")
    assert (refused.status, refused.code) == (502, "upstream_reply_too_large")
    assert refused.headers["x-should-retry"] == "false"


async def test_a_stream_without_done_or_finish_reason_ends_with_its_body(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    delta = {"choices": [{"index": 0, "delta": {"content": "one"}}]}
    upstream.queue.append(sse([delta], done=False))
    await proxy.chat("s", "x", stream=True)
    await proxy.chat("s", "y")
    assert sent(upstream.requests[-1])[1] == ("assistant", "one")


async def test_the_terminal_event_waits_for_the_commit(proxy: Remora, upstream: ScriptedUpstream) -> None:
    """The store is closed while the model speaks: the stream's end is an error event and a broken connection."""
    go_on = asyncio.Event()
    delta = {"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": None}]}
    stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    upstream.queue.append(sse([delta, Wait(go_on), stop]))
    body = json.dumps({"stream": True, "messages": [said("user", "x")]}).encode()
    headers = {"X-Session-Id": "s", "Content-Type": "application/json"}
    async with proxy.http.post(proxy.url + "/v1/chat/completions", data=body, headers=headers) as reply:
        await reply.content.readuntil(b"\n\n")
        await proxy.here.house.store.close()
        go_on.set()
        rest = b""
        with pytest.raises(Exception, match=r"(?i)payload|closed|disconnect"):
            while part := await reply.content.readany():
                rest += part
        assert b"store_unavailable" in rest
        assert b'"stop"' not in rest
        assert b"[DONE]" not in rest


async def test_a_plain_reply_that_cannot_be_recorded_is_503_and_not_to_be_retried(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    go_on = asyncio.Event()
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    upstream.queue.append(Script([Wait(go_on), head(200, [("Content-Length", str(len(body)))]) + body]))
    asked = asyncio.create_task(proxy.chat("s", "x"))
    await upstream.until(lambda u: len(u.requests) == 1)
    await proxy.here.house.store.close()
    go_on.set()
    refused = await asked
    assert (refused.status, refused.code, refused.headers["x-should-retry"]) == (503, "store_unavailable", "false")


@pytest.mark.parametrize(("policy", "status"), [("refuse", 503), ("stateless", 200)])
async def test_when_history_cannot_be_read_the_policy_says_what_happens(
    upstream: ScriptedUpstream, tmp_path: Path, policy: str, status: int
) -> None:
    async with remora(upstream.url, tmp_path, f'[session]\non_store_failure = "{policy}"\n') as proxy:
        await proxy.here.house.store.close()
        answer = await proxy.chat("s", "x")
        assert answer.status == status
        if status == 200:
            assert answer.headers["X-Session-Context"] == 'policy="default", stateless'
        else:
            assert answer.code == "store_unavailable"
            assert upstream.requests == []
        async with proxy.http.get(proxy.admin + "/readyz") as ready:
            assert ready.status == 503


async def test_health_is_on_the_other_port(proxy: Remora, upstream: ScriptedUpstream) -> None:
    for path in ("/healthz", "/readyz"):
        async with proxy.http.get(proxy.admin + path) as reply:
            assert reply.status == 200
    upstream.queue.append(plain(404, b"", reason="Not Found"))
    async with proxy.http.get(proxy.url + "/healthz") as reply:
        assert reply.status == 404
        assert upstream.requests[-1].target == "/healthz"
