"""Responses and conversations where something else happens meanwhile, again, or in an unusual order."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.app import Remora, remora, sent
from tests.support.upstream import Reset, ScriptedUpstream, Wait, plain, sse

STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def delta(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path) as proxy:
        yield proxy


@pytest.fixture
async def client(served: Remora) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as made:
        yield made


def texts(upstream: ScriptedUpstream) -> list[str]:
    return [text for _, text in sent(upstream.requests[-1])]


async def test_several_items_of_one_entry_can_be_deleted(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    made = await client.conversations.create(
        items=[{"type": "message", "role": "user", "content": text} for text in ("secret 1", "secret 2", "keep")]
    )
    items = (await client.conversations.items.list(made.id, order="asc")).data
    for item in items[:2]:
        await client.conversations.items.delete(item.id or "", conversation_id=made.id)
    await client.responses.create(model="m", input="next", conversation=made.id)
    assert texts(upstream) == ["keep", "next"]


async def test_what_a_deleted_call_held_together_stays(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    said: Any = [
        {"type": "message", "role": "user", "content": "go"},
        {"type": "message", "role": "assistant", "content": "first"},
        {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
        {"type": "message", "role": "assistant", "content": "second"},
        {"type": "function_call_output", "call_id": "a", "output": "found"},
    ]
    made = await client.conversations.create(items=said)
    items = (await client.conversations.items.list(made.id, order="asc")).data
    await client.conversations.items.delete(items[2].id or "", conversation_id=made.id)
    await client.responses.create(model="m", input="next", conversation=made.id)
    whole = json.dumps(upstream.requests[-1].json()["messages"])
    assert "first" in whole
    assert "second" in whole
    assert "look" not in whole
    assert "found" not in whole


async def test_other_calls_of_a_message_keep_their_results(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    said: Any = [
        {"type": "message", "role": "user", "content": "go"},
        {"type": "message", "role": "assistant", "content": "first"},
        {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
        {"type": "message", "role": "assistant", "content": "second"},
        {"type": "function_call", "call_id": "b", "name": "listen", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "found"},
        {"type": "function_call_output", "call_id": "b", "output": "heard"},
    ]
    made = await client.conversations.create(items=said)
    items = (await client.conversations.items.list(made.id, order="asc")).data
    await client.conversations.items.delete(items[2].id or "", conversation_id=made.id)
    await client.responses.create(model="m", input="next", conversation=made.id)
    _, told, result, _ = upstream.requests[-1].json()["messages"]
    assert (told["content"], [call["id"] for call in told["tool_calls"]]) == ("first\n\nsecond", ["b"])
    assert (result["tool_call_id"], result["content"]) == ("b", "heard")


async def test_deletions_at_the_same_moment(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    policy = '[session]\nconcurrency = "parallel"\n'
    async with (
        remora(upstream.url, tmp_path, policy) as served,
        AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        made = await client.conversations.create(
            items=[{"type": "message", "role": "user", "content": str(n)} for n in range(8)]
        )
        items = (await client.conversations.items.list(made.id, order="asc")).data
        await asyncio.gather(
            *(client.conversations.items.delete(items[n].id or "", conversation_id=made.id) for n in (0, 2, 4, 6))
        )
        await client.responses.create(model="m", input="next", conversation=made.id)
        assert texts(upstream) == ["1", "3", "5", "7", "next"]


async def test_branches_made_at_once_do_not_mix(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    root = await client.responses.create(model="m", input="root")
    go_on = asyncio.Event()
    upstream.queue.append(sse([delta("slow"), Wait(go_on), STOP]))
    slow = asyncio.create_task(client.responses.create(model="m", input="a", previous_response_id=root.id))
    await upstream.until(lambda u: len(u.requests) == 2)
    fast = await client.responses.create(model="m", input="b", previous_response_id=root.id)
    go_on.set()
    one = await slow
    await client.responses.create(model="m", input="after", previous_response_id=one.id)
    assert texts(upstream) == ["root", "reply 1", "a", "slow", "after"]
    await client.responses.create(model="m", input="after", previous_response_id=fast.id)
    assert texts(upstream)[2] == "b"


async def test_a_branch_does_not_move_a_conversation(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    made = await client.conversations.create()
    one = await client.responses.create(model="m", input="one", conversation=made.id)
    await client.responses.create(model="m", input="two", conversation=made.id)
    with pytest.raises(openai.BadRequestError, match="part of a conversation"):
        await client.responses.create(model="m", input="x", previous_response_id=one.id)
    await client.responses.create(model="m", input="three", conversation=made.id)
    assert texts(upstream) == ["one", "reply 1", "two", "reply 2", "three"]


async def test_a_stream_ends_when_its_reply_has_ended(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    """The upstream need not close its own."""
    upstream.queue.append(sse([delta("one"), STOP, "[DONE]", Wait(asyncio.Event())], done=False))
    async with asyncio.timeout(10):
        events = [event async for event in await client.responses.create(model="m", input="x", stream=True)]
    assert events[-1].type == "response.completed"


async def test_a_background_request_made_again_is_the_same_response(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    go_on = asyncio.Event()
    upstream.queue.append(sse([delta("one"), Wait(go_on), STOP]))
    body = {"model": "m", "input": "one", "background": True}
    key = {"Idempotency-Key": "k"}

    async def post(said: Any, headers: Any) -> Any:
        return await served.post("/v1/responses", json.dumps(said).encode(), headers)

    first, *again = await asyncio.gather(*(post(body, key) for _ in range(3)))
    assert {each.json()["id"] for each in again} == {first.json()["id"]}
    assert (await post({**body, "input": "other"}, key)).code == "idempotency_key_reused"
    go_on.set()
    async with asyncio.timeout(10):
        while (await client.responses.retrieve(first.json()["id"])).status != "completed":  # noqa: ASYNC110 - it is made
            await asyncio.sleep(0.02)
    late = (await post(body, key)).json()
    assert (late["id"], late["status"]) == (first.json()["id"], "completed")
    assert len(upstream.requests) == 1


async def test_a_stream_that_is_made_again_after_one_that_failed_is_whole(
    served: Remora, upstream: ScriptedUpstream
) -> None:
    """It has the same id, and takes longer than the time in which the first one's end is written."""
    failing, whole = asyncio.Event(), asyncio.Event()
    upstream.queue += [
        sse([delta("half"), Wait(failing), Reset()]),
        sse([delta("who"), delta("le"), Wait(whole), STOP]),
    ]
    body = json.dumps({"model": "m", "input": "x", "stream": True}).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-client"}
    store = served.here.house.store

    async def written(events: int) -> None:
        async with asyncio.timeout(10):
            while [run.events for run in await store.stale_runs(0, 1)] != [events]:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.02)

    first = await served.http.post(
        f"{served.url}/v1/responses", data=body, headers={**headers, "x-stainless-retry-count": "0"}
    )
    id = json.loads((await first.content.readuntil(b"\n\n")).split(b"data: ")[1])["response"]["id"]
    await written(5)
    first.close()
    again = asyncio.create_task(served.post("/v1/responses", body, {"x-stainless-retry-count": "1"}))
    # it waits for the first
    await asyncio.wait({again}, timeout=0.5)
    failing.set()
    await written(6)
    whole.set()
    events = [json.loads(line[6:]) for line in (await again).body.decode().splitlines() if line.startswith("data: ")]
    assert (events[-1]["type"], events[-1]["response"]["id"]) == ("response.completed", id)
    async with served.http.get(f"{served.url}/v1/responses/{id}?stream=true", headers=headers) as reply:
        assert await reply.read() == again.result().body


async def test_what_is_kept_is_what_was_streamed(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    """Also where the model speaks in another order than that of a reply in one piece, and to its last event."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    for deltas in (
        [{"tool_calls": [call]}, {"content": "late"}],
        [{"content": "first"}, {"reasoning_content": "hm"}, {"content": "second"}],
    ):
        *before, last = [{"choices": [{"index": 0, "delta": each}]} for each in deltas]
        last["choices"][0]["finish_reason"] = "stop"
        upstream.queue.append(sse([*before, last]))
        made = await client.conversations.create()
        stream = await client.responses.create(model="m", input="x", conversation=made.id, stream=True)
        events: list[Any] = [event async for event in stream]
        told = events[-1].response
        assert (await client.responses.retrieve(told.id)).to_dict() == told.to_dict()
        done = [event.item.id for event in events if event.type == "response.output_item.done"]
        assert done == [item.id for item in told.output]
        for id in done:
            assert (await client.conversations.items.retrieve(id, conversation_id=made.id)).id == id
        await client.conversations.items.delete(done[0], conversation_id=made.id)
        await client.responses.create(model="m", input="next", conversation=made.id)
        assert upstream.requests[-1].json()["messages"][1]["content"] == ("late" if "late" in str(deltas) else "second")


async def test_a_stream_made_of_a_plain_reply_can_be_taken_up_again(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    upstream.queue.append(plain(200, {"object": "chat.completion", "choices": [choice]}))
    async with remora(upstream.url, tmp_path) as served:
        told = await served.post("/v1/responses", json.dumps({"model": "m", "input": "x", "stream": True}).encode())
        id = json.loads(told.body.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
    async with remora(upstream.url, tmp_path) as served:
        headers = {"Authorization": "Bearer sk-client"}
        async with served.http.get(f"{served.url}/v1/responses/{id}?stream=true", headers=headers) as reply:
            assert await reply.read() == told.body


async def test_what_is_deleted_while_it_streams_does_not_come_back(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.queue.append(sse([delta("secret"), Wait(asyncio.Event())]))
    stream = await client.responses.create(model="m", input="x", stream=True)
    id = ""
    async for event in stream:
        if event.type == "response.created":
            id = event.response.id
        if event.type == "response.output_text.delta":
            await client.responses.delete(id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(id, stream=True)


@pytest.mark.parametrize("kept", [False, True])
async def test_what_is_deleted_while_another_goes_on_from_it_is_gone_when_nothing_does(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream, *, kept: bool
) -> None:
    await served.chat("s", "hello")
    store = served.here.house.store
    [tenant] = [info.ref.tenant async for info in store.list()]
    parent = (await client.responses.create(model="m", input="secret")).id
    go_on = asyncio.Event()
    upstream.queue.append(sse([delta("one"), Wait(go_on), STOP]))
    child = asyncio.create_task(client.responses.create(model="m", input="x", previous_response_id=parent, store=kept))
    await upstream.until(lambda u: len(u.requests) == 3)
    await client.responses.delete(parent)
    go_on.set()
    made = await child
    if kept:
        await client.responses.create(model="m", input="y", previous_response_id=made.id)
        assert texts(upstream) == ["secret", "reply 2", "x", "one", "y"]
        return
    async with asyncio.timeout(10):
        while await store.find(tenant, parent[37:], parent[5:37]):  # noqa: ASYNC110 - its end is not told of
            await asyncio.sleep(0.01)


async def test_a_reply_that_is_none_is_an_error(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    for body in ("<html>no</html>", json.dumps({"error": {"message": "no"}})):
        for stream in (False, True):
            upstream.queue.append(plain(200, body, (("Content-Type", "application/json"),)))
            with pytest.raises(openai.APIStatusError) as refused:
                await client.responses.create(model="m", input="x", stream=stream)
            assert refused.value.status_code == 502


async def test_what_has_no_meaning_here_is_refused(served: Remora) -> None:
    body = json.dumps({"model": "m", "input": "x"}).encode()
    assert (await served.post("/v1/responses", body, {"X-Session-From": "1", "X-Session-Id": "s"})).code == (
        "invalid_header"
    )
    background = json.dumps({"model": "m", "input": "x", "background": True}).encode()
    assert (await served.post("/v1/responses", background, {"X-Session-Record": "no"})).code == "invalid_header"
    unrecorded = await served.post("/v1/responses", body, {"X-Session-Record": "no"})
    assert unrecorded.json()["store"] is False


async def test_a_session_is_named_in_the_body_and_side_calls_leave_no_trace(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    policy = '[session]\nmembers = ["user"]\n[[session.ignore]]\nstarts_with = "Title:"\n'
    async with (
        remora(upstream.url, tmp_path, policy) as served,
        AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        await client.responses.create(model="m", input="one", user="anna")
        side = await client.responses.create(model="m", input="Title: what is it?", user="anna")
        assert side.object == "response"
        await client.responses.create(model="m", input="two", user="anna")
        assert texts(upstream) == ["one", "reply 1", "two"]
