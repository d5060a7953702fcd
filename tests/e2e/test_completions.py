"""Stored chat completions, with the openai SDK unchanged."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState

from tests.support.app import Remora, remora, said, sent
from tests.support.upstream import Close, Received, Script, ScriptedUpstream, Wait, model, plain, sse

HELLO: Any = [said("system", "Be kind."), said("user", "hello")]


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path, stored_completions=True, store="memory:", max_body_bytes=100_000) as made:
        yield made


@pytest.fixture
async def client(served: Remora) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as made:
        yield made


async def listed(client: AsyncOpenAI, **query: Any) -> list[str]:
    return [each.id async for each in client.chat.completions.list(**query)]


async def test_a_stored_completion_is_listed_read_labelled_and_deleted(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    made = await client.chat.completions.create(model="gpt-4o", messages=HELLO, store=True, metadata={"k": "v"})
    assert upstream.requests[0].json() == {
        "model": "gpt-4o", "messages": HELLO, "store": True, "metadata": {"k": "v"}
    }  # fmt: skip
    found = await client.chat.completions.retrieve(made.id)
    assert found.to_dict() == {**made.to_dict(), "metadata": {"k": "v"}}
    assert await listed(client) == [made.id]
    messages = await client.chat.completions.messages.list(made.id)
    assert [(each.id, each.to_dict()["role"], each.content) for each in messages.data] == [
        (f"{made.id}-0", "system", "Be kind."),
        (f"{made.id}-1", "user", "hello"),
    ]
    changed = await client.chat.completions.update(made.id, metadata={"a": "b"})
    assert changed.to_dict() == {**made.to_dict(), "metadata": {"a": "b"}}
    assert (await client.chat.completions.retrieve(made.id)).to_dict() == changed.to_dict()
    gone = await client.chat.completions.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "chat.completion.deleted")
    for ask in (
        client.chat.completions.retrieve(made.id),
        client.chat.completions.update(made.id, metadata={}),
        client.chat.completions.delete(made.id),
        client.chat.completions.messages.list(made.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await ask
    assert await listed(client) == []
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("usage", [False, True])
async def test_a_streamed_completion_is_stored_as_the_sdk_adds_it_up(client: AsyncOpenAI, usage: bool) -> None:
    stream = await client.chat.completions.create(
        model="gpt-4o", messages=HELLO, store=True, stream=True, stream_options={"include_usage": usage}
    )
    state = ChatCompletionStreamState()
    async for chunk in stream:
        state.handle_chunk(chunk)
    final = state.get_final_completion()
    found = await client.chat.completions.retrieve(final.id)
    assert found.choices[0].message.content == final.choices[0].message.content == "reply 1"
    assert (found.created, found.model, found.object) == (final.created, final.model, final.object)
    assert found.choices[0].finish_reason == "stop"
    assert (found.usage and found.usage.total_tokens) == (final.usage and final.usage.total_tokens)
    assert (found.usage is not None) == usage


async def test_pages_follow_each_other_and_filters_choose(client: AsyncOpenAI) -> None:
    ids = []
    for n in range(7):
        made = await client.chat.completions.create(
            model=f"model-{n % 2}", messages=HELLO, store=True, metadata={"n": str(n), "odd": str(n % 2)}
        )
        ids.append(made.id)
    assert await listed(client, limit=2) == ids
    assert await listed(client, limit=2, order="desc") == ids[::-1]
    assert await listed(client, limit=3, after=ids[3]) == ids[4:]
    assert await listed(client, limit=1, model="model-1") == ids[1::2]
    assert await listed(client, limit=2, metadata={"odd": "0"}) == ids[0::2]
    assert await listed(client, metadata={"odd": "0", "n": "4"}) == [ids[4]]
    assert await listed(client, metadata={"odd": "0"}, model="model-1") == []
    first = await client.chat.completions.list(limit=7)
    assert first.has_more is False
    for wrong in ({"limit": 0}, {"order": "up"}, {"after": "nothing"}, {"extra_query": {"metadata": "x"}}):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.list(**wrong)
        assert refused.value.param == next(iter(wrong if "extra_query" not in wrong else {"metadata": 0}))


async def test_messages_come_in_pages_too(client: AsyncOpenAI) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    asked: Any = [said("user", f"m{n}") for n in range(5)] + [{"role": "user", "content": parts}]
    made = await client.chat.completions.create(model="gpt-4o", messages=asked, store=True)
    found = [each async for each in client.chat.completions.messages.list(made.id, limit=2)]
    assert [each.content for each in found] == ["m0", "m1", "m2", "m3", "m4", None]
    assert [each.content_parts for each in found[:-1]] == [None] * 5
    assert [part.to_dict() for part in found[-1].content_parts or ()] == parts
    newest = await client.chat.completions.messages.list(made.id, limit=1, order="desc")
    assert [each.id for each in newest.data] == [found[-1].id]


async def test_what_is_not_to_be_stored_passes_untouched(served: Remora, upstream: ScriptedUpstream) -> None:
    bodies = [
        b'{"model": "m", "messages": [{"role":"user","content":"x"}], "store": false}',
        b'{"store":null,"messages":[]}',
        b'{"messages": [',
        b'{"store":true,"store":false,"messages":[]}',
        b"",
    ]
    for body in bodies:
        upstream.queue.append(plain(200, b"anything", [("Content-Type", "text/plain"), ("X-Own", "1")]))
        answer = await served.post("/v1/chat/completions", body)
        assert (answer.status, answer.body, answer.headers["X-Own"]) == (200, b"anything", "1")
        assert upstream.requests[-1].body == body
    async with served.http.get(f"{served.url}/v1/chat/completions") as reply:
        assert (await reply.json())["data"] == []


async def test_the_request_goes_up_as_it_came_and_the_reply_comes_down_as_it_was(
    served: Remora, upstream: ScriptedUpstream
) -> None:
    body = b'{ "messages":[{"role":"latest","content":1.0}], "x":1e400, "store" : true,"metadata":null }'
    reply = b'{"id":"c-1", "choices":[{"index":0,"message":{"role":"assistant","content":"\\u00fc"}}], "n":1.0}'
    upstream.queue.append(plain(200, reply, [("Content-Type", "application/json"), ("X-Own", "1")]))
    packed = gzip.compress(body)
    answer = await served.post("/v1/chat/completions", packed, {"Content-Encoding": "gzip", "X-Mine": "2"})
    assert (answer.status, answer.body, answer.headers["X-Own"]) == (200, reply, "1")
    asked = upstream.requests[0]
    assert (asked.body, asked.get("Content-Encoding"), asked.get("X-Mine")) == (packed, "gzip", "2")
    async with served.http.get(
        f"{served.url}/v1/chat/completions/c-1", headers={"Authorization": "Bearer sk-client"}
    ) as got:
        text = await got.text()
    assert '"n":1.0' in text
    found = json.loads(text)
    assert (found["object"], found["metadata"], found["choices"][0]["message"]["content"]) == (
        "chat.completion",
        {},
        "ü",
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_with_a_session_the_turn_is_recorded_and_the_completion_stored(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream, stream: bool
) -> None:
    for n in (1, 2):
        answer = await served.chat("s", f"u{n}", stream=stream, store=True)
        assert answer.headers["X-Session-Turn"] == str(n)
    assert sent(upstream.requests[1]) == [("user", "u1"), ("assistant", "reply 1"), ("user", "u2")]
    assert upstream.requests[1].json()["store"] is True
    ids = await listed(client)
    assert ids == ["chatcmpl-1", "chatcmpl-2"]
    assert (await client.chat.completions.retrieve(ids[1])).choices[0].message.content == "reply 2"
    # the history is the session's; only what the client itself sent is kept again
    messages = await client.chat.completions.messages.list(ids[1])
    assert [each.content for each in messages.data] == ["u2"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_that_is_given_again_is_not_stored_again(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream, stream: bool
) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await served.chat("s", "hello", headers=key, stream=stream, store=True)
    await client.chat.completions.update("chatcmpl-1", metadata={"mine": "1"})
    again = await served.chat("s", "hello", headers=key, stream=stream, store=True)
    assert again.body == first.body
    assert len(upstream.requests) == 1
    assert await listed(client, metadata={"mine": "1"}) == await listed(client) == ["chatcmpl-1"]


async def test_the_newest_completion_of_an_id_is_the_one_that_is_found(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    def same(text: str, **more: str) -> Script:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return plain(200, {**more, "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    upstream.queue += [same("a", id="c"), same("other", id="d"), same("b", id="c"), same("lost"), same("x", id="\x00")]
    for n in range(5):
        answer = await served.chat(None, f"u{n}", store=True, metadata={"n": str(n)})
        assert answer.status == 200
    assert await listed(client) == ["d", "c"]
    found = await client.chat.completions.retrieve("c")
    assert (found.choices[0].message.content, found.to_dict()["metadata"]) == ("b", {"n": "2"})
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.retrieve("\x00")


async def test_ids_of_any_form_can_be_asked_for(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    id = "a/b c?d%2F#ü"
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    upstream.queue.append(plain(200, {"id": id, "choices": [choice]}))
    await client.chat.completions.create(model="m", messages=HELLO, store=True)
    found = await client.chat.completions.retrieve(id)
    assert (found.id, found.model, found.object) == (id, "m", "chat.completion")
    assert found.created > 1_700_000_000
    assert len((await client.chat.completions.messages.list(id)).data) == 2
    assert (await client.chat.completions.delete(id)).id == id


async def test_tenants_do_not_see_each_others_completions(served: Remora, client: AsyncOpenAI) -> None:
    made = await client.chat.completions.create(model="m", messages=HELLO, store=True)
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-other", max_retries=0) as other:
        assert await listed(other) == []
        with pytest.raises(openai.NotFoundError) as unknown:
            await other.chat.completions.retrieve(made.id)
        with pytest.raises(openai.NotFoundError) as never:
            await other.chat.completions.retrieve("chatcmpl-x")
        assert str(unknown.value).replace(made.id, "chatcmpl-x") == str(never.value)
        with pytest.raises(openai.NotFoundError):
            await other.chat.completions.delete(made.id)
        with pytest.raises(openai.BadRequestError):
            await other.chat.completions.list(after=made.id)
    assert await listed(client) == [made.id]


async def test_without_the_setting_everything_passes_through(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, store="memory:") as proxy:
        upstream.queue += [plain(200, b"{}"), plain(200, b"[]"), plain(404, b"own")]
        await proxy.chat(None, "hello", store=True)
        async with proxy.http.get(f"{proxy.url}/v1/chat/completions?limit=0") as reply:
            assert await reply.read() == b"[]"
        async with proxy.http.delete(f"{proxy.url}/v1/chat/completions/c") as reply:
            assert (reply.status, await reply.read()) == (404, b"own")
    assert [request.target for request in upstream.requests[1:]] == [
        "/v1/chat/completions?limit=0",
        "/v1/chat/completions/c",
    ]


async def test_what_is_too_long_to_be_looked_at_passes_through_unstored(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    assert (await served.chat(None, "x" * 100_000, store=True)).status == 200
    assert len(upstream.requests) == 1
    assert (await client.chat.completions.list()).data == []


@pytest.mark.parametrize(
    "metadata", [[], "x", {"k": 1}, {"k" * 65: "v"}, {"k": "v" * 513}, {str(n): "" for n in range(17)}]
)
async def test_metadata_that_cannot_be_kept_is_refused(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream, metadata: Any
) -> None:
    refused = await served.chat(None, "hello", store=True, metadata=metadata)
    assert (refused.status, refused.json()["error"]["param"]) == (400, "metadata")
    assert not upstream.requests
    await client.chat.completions.create(model="m", messages=HELLO, store=True)
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.update("chatcmpl-1", metadata=metadata)
    assert (await client.chat.completions.retrieve("chatcmpl-1")).to_dict()["metadata"] == {}
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.update("chatcmpl-1", metadata={}, extra_body={"model": "x"})
    assert (await client.chat.completions.update("chatcmpl-1", metadata=None)).to_dict()["metadata"] == {}


async def test_a_request_that_shall_leave_no_record_stores_nothing(served: Remora, client: AsyncOpenAI) -> None:
    for session in (None, "s"):
        answer = await served.chat(session, "hello", store=True, headers={"X-Session-Record": "no"})
        assert answer.status == 200
    assert await listed(client) == []


@pytest.mark.parametrize("session", [None, "s"])
async def test_what_is_no_whole_completion_is_relayed_and_not_stored(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream, session: str | None
) -> None:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}
    for script, status in (
        (plain(500, b"bad"), 500),
        (plain(200, b"<html>", [("Content-Type", "text/html")]), 200),
        (plain(200, {"id": "c", "error": {"message": "no"}}), 200),
        (sse([chunk, {"error": {"message": "no", "code": "overload"}}]), 200),
        (plain(200, b"", [("Content-Type", "application/json")]), 200),
    ):
        upstream.queue.append(script)
        answer = await served.chat(session, "hello", store=True)
        assert answer.status == status
    assert await listed(client) == []


async def test_a_reply_that_breaks_off_breaks_off_for_the_client_as_well(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}
    whole = plain(200, {"id": "c"}).steps
    cut = b"".join(step for step in whole if isinstance(step, bytes))[:-3]
    for script in (sse([chunk, Close()]), Script([cut, Close()])):
        upstream.queue.append(script)
        with pytest.raises(aiohttp.ClientPayloadError):
            await served.chat(None, "hello", store=True)
    assert await listed(client) == []


async def test_a_reply_that_comes_compressed_all_the_same_is_stored(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    def packed(request: Received) -> Script:
        steps = [step for step in model("hi")(request).steps if isinstance(step, bytes)]
        head, _, body = b"".join(steps).partition(b"\r\n\r\n")
        kind = next(line for line in head.decode().split("\r\n") if line.startswith("Content-Type")).split(": ")[1]
        if request.json().get("stream"):
            body = b'data: {"id":"c-s","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
        return plain(200, gzip.compress(body), [("Content-Type", kind), ("Content-Encoding", "gzip")])

    upstream.replies = packed
    plain_one = await served.chat(None, "hello", store=True)
    assert "Content-Encoding" not in plain_one.headers
    assert (plain_one.text, upstream.requests[0].get("Accept-Encoding")) == ("hi", "identity")
    streamed = await served.chat(None, "hello", store=True, stream=True)
    assert b'"content":"hi"' in streamed.body
    assert await listed(client) == ["chatcmpl-1", "c-s"]
    for encoding in ("br", "gzip"):
        upstream.queue.append(plain(200, b"{}", [("Content-Encoding", encoding)]))
        if encoding == "br":
            assert (await served.chat(None, "hello", store=True)).code == "upstream_broken"
        else:
            with pytest.raises(aiohttp.ClientError):
                await served.chat(None, "hello", store=True)


@pytest.mark.parametrize("session", [None, "s"])
async def test_the_end_of_a_stream_is_seen_when_the_completion_can_be_read(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream, session: str | None
) -> None:
    """Also where the upstream keeps silent after the finish reason, and sends usage and end marker late."""
    go_on = asyncio.Event()
    about = {"id": "c", "created": 1, "model": "m"}
    last = {**about, "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    upstream.queue.append(sse([last, Wait(go_on), {**about, "choices": [], "usage": usage}]))
    headers = {"Authorization": "Bearer sk-client"} | ({"X-Session-Id": session} if session else {})
    body = {"model": "m", "messages": HELLO, "store": True, "stream": True}
    async with served.http.post(f"{served.url}/v1/chat/completions", json=body, headers=headers) as reply:
        async with asyncio.timeout(10):
            assert b'"finish_reason": "stop"' in await reply.content.readuntil(b"\n\n")
        assert (await client.chat.completions.retrieve("c")).choices[0].message.content == "hi"
        await client.chat.completions.update("c", metadata={"meanwhile": "1"})
        go_on.set()
        assert b"[DONE]" in await reply.read()
    found = await client.chat.completions.retrieve("c")
    assert found.usage is not None
    assert found.usage.total_tokens == 3
    assert found.to_dict()["metadata"] == {"meanwhile": "1"}


async def test_a_client_that_hangs_up_before_the_end_leaves_nothing_stored(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    never = asyncio.Event()
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}
    upstream.queue.append(sse([chunk, Wait(never)]))
    body = {"model": "m", "messages": HELLO, "store": True, "stream": True}
    async with served.http.post(f"{served.url}/v1/chat/completions", json=body) as reply:
        await reply.content.readuntil(b"\n\n")
        reply.close()
    await upstream.until(lambda u: u.open_connections == 0)
    assert await listed(client) == []
