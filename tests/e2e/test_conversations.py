"""The Conversations API over a chat-only upstream, with the openai SDK unchanged."""

import asyncio
import functools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.app import Remora, remora, sent
from tests.support.upstream import ScriptedUpstream, Wait, plain, sse


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path) as proxy:
        yield proxy


@pytest.fixture
async def client(served: Remora) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as made:
        yield made


def user(text: str) -> Any:
    return {"type": "message", "role": "user", "content": text}


async def texts(client: AsyncOpenAI, id: str, **query: Any) -> list[str]:
    found = []
    async for item in client.conversations.items.list(id, **query):
        parts = item.to_dict().get("content") or [{"text": item.type}]
        found.append("".join(part["text"] for part in cast("list[dict[str, str]]", parts)))
    return found


async def test_a_conversation_has_metadata_and_can_be_changed_and_deleted(client: AsyncOpenAI) -> None:
    made = await client.conversations.create(metadata={"a": "b"})
    assert made.id.startswith("conv_")
    assert made.object == "conversation"
    assert (await client.conversations.retrieve(made.id)).to_dict() == made.to_dict()
    assert (await client.conversations.update(made.id, metadata={"c": "d"})).metadata == {"c": "d"}
    assert (await client.conversations.retrieve(made.id)).metadata == {"c": "d"}
    gone = await client.conversations.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "conversation.deleted")
    for call in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
        with pytest.raises(openai.NotFoundError, match=f"Conversation with id '{made.id}' not found"):
            await call(made.id)
    for name in ("conv_x", "x", "conv_" + "0" * 32):
        with pytest.raises(openai.NotFoundError):
            await client.conversations.retrieve(name)


async def test_responses_of_a_conversation_see_and_extend_it(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    made = await client.conversations.create(items=[user("zero"), {"role": "assistant", "content": "so be it"}])
    one = await client.responses.create(model="gpt-4o", input="one", conversation=made.id)
    assert one.conversation is not None
    assert one.conversation.id == made.id
    assert one.to_dict()["conversation_id"] == made.id
    two = await client.responses.create(model="gpt-4o", input="two", conversation={"id": made.id}, stream=True)
    assert [event.type async for event in two][-1] == "response.completed"
    await client.responses.create(model="gpt-4o", input="three", extra_body={"conversation_id": made.id})
    assert sent(upstream.requests[-1]) == [
        ("user", "zero"), ("assistant", "so be it"), ("user", "one"), ("assistant", "reply 1"),
        ("user", "two"), ("assistant", "reply 2"), ("user", "three"),
    ]  # fmt: skip
    assert await texts(client, made.id, order="asc") == [
        "zero", "so be it", "one", "reply 1", "two", "reply 2", "three", "reply 3",
    ]  # fmt: skip
    # the response can be asked for, and what is made with store: false is read from the conversation, not added
    assert (await client.responses.retrieve(one.id)).output_text == "reply 1"
    await client.responses.create(model="gpt-4o", input="secret", conversation=made.id, store=False)
    assert len(await texts(client, made.id)) == 8
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        await client.responses.create(model="gpt-4o", input="x", conversation=made.id, previous_response_id=one.id)
    with pytest.raises(openai.NotFoundError, match="Conversation with id"):
        await client.responses.create(model="gpt-4o", input="x", conversation="conv_" + "0" * 32)


async def test_items_that_are_sent_again_are_added_once(client: AsyncOpenAI) -> None:
    made = await client.conversations.create()
    add = functools.partial(client.conversations.items.create, made.id)
    keyed = {"Idempotency-Key": "k"}
    first, beside = await asyncio.gather(*[add(items=[user("one")], extra_headers=keyed) for _ in range(2)])
    again = await add(items=[user("one")], extra_headers=keyed)
    assert first.to_dict() == beside.to_dict() == again.to_dict()
    with pytest.raises(openai.BadRequestError, match="Idempotency-Key"):
        await add(items=[user("two")], extra_headers=keyed)
    # without a key, and when the client has had its answer, they are meant
    await add(items=[user("one")])
    await add(items=[user("one")], extra_headers={"x-stainless-retry-count": "1"})
    assert await texts(client, made.id) == ["one"] * 3


async def test_items_are_listed_in_pages(client: AsyncOpenAI) -> None:
    made = await client.conversations.create(items=[user(str(n)) for n in range(7)])
    added = await client.conversations.items.create(made.id, items=[user(str(n)) for n in range(7, 12)])
    assert [item.to_dict()["content"][0]["text"] for item in added.data] == ["7", "8", "9", "10", "11"]  # type: ignore[index]
    for limit in (1, 2, 3, 5, 100):
        for order in ("asc", "desc"):
            found = await texts(client, made.id, limit=limit, order=order)
            assert found == [str(n) for n in range(12)][:: 1 if order == "asc" else -1], (limit, order)
    page = await client.conversations.items.list(made.id, limit=5, order="asc")
    assert (page.has_more, page.last_id) == (True, page.data[-1].id)
    item = await client.conversations.items.retrieve(page.data[2].id or "", conversation_id=made.id)
    assert item.to_dict() == page.data[2].to_dict()
    with pytest.raises(openai.BadRequestError):
        await client.conversations.items.list(made.id, after="msg_x")
    with pytest.raises(openai.NotFoundError, match="Item with id 'msg_x' not found"):
        await client.conversations.items.retrieve("msg_x", conversation_id=made.id)


async def test_a_deleted_item_is_not_sent_any_more(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    made = await client.conversations.create(items=[user("zero"), user("secret"), user("last")])
    await client.responses.create(model="gpt-4o", input="one", conversation=made.id)
    items = (await client.conversations.items.list(made.id, order="asc")).data
    await client.conversations.items.delete(items[1].id or "", conversation_id=made.id)
    assert await texts(client, made.id, order="asc") == ["zero", "last", "one", "reply 1"]
    await client.responses.create(model="gpt-4o", input="two", conversation=made.id)
    assert [text for _, text in sent(upstream.requests[-1])] == ["zero", "last", "one", "reply 1", "two"]
    items = (await client.conversations.items.list(made.id, order="asc")).data
    for gone in (3, 0):
        await client.conversations.items.delete(items[gone].id or "", conversation_id=made.id)
    await client.responses.create(model="gpt-4o", input="three", conversation=made.id)
    assert [text for _, text in sent(upstream.requests[-1])] == ["last", "one", "two", "reply 2", "three"]
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.delete(items[0].id or "", conversation_id=made.id)


async def test_deleting_a_call_takes_its_result_along_and_a_result_leaves_a_valid_history(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    def call(id: str) -> Any:
        return {"type": "function_call", "call_id": id, "name": "look", "arguments": "{}"}

    def result(id: str) -> Any:
        return {"type": "function_call_output", "call_id": id, "output": f"found {id}"}

    made = await client.conversations.create(
        items=[user("zero"), call("a"), call("b"), result("a"), result("b"), user("one")]
    )
    items = (await client.conversations.items.list(made.id, order="asc")).data
    await client.conversations.items.delete(items[1].id or "", conversation_id=made.id)
    await client.responses.create(model="gpt-4o", input="two", conversation=made.id)
    messages = upstream.requests[-1].json()["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "user", "user"]
    assert [c["id"] for c in messages[1]["tool_calls"]] == ["b"]
    assert messages[2]["tool_call_id"] == "b"
    await client.conversations.items.delete(items[4].id or "", conversation_id=made.id)
    await client.responses.create(model="gpt-4o", input="three", conversation=made.id)
    messages = upstream.requests[-1].json()["messages"]
    assert [m["role"] for m in messages[:3]] == ["user", "assistant", "tool"]
    assert messages[2]["tool_call_id"] == "b"
    assert "found" not in messages[2]["content"]
    with pytest.raises(openai.BadRequestError, match="No tool call found"):
        await client.conversations.items.create(made.id, items=[result("c")])


async def test_what_is_deleted_while_a_response_is_made_does_not_come_back(
    client: AsyncOpenAI, upstream: ScriptedUpstream, served: Remora
) -> None:
    go_on = asyncio.Event()
    made = await client.conversations.create(items=[user("zero")])
    upstream.queue.append(sse([{"choices": [{"index": 0, "delta": {"content": "one"}}]}, Wait(go_on)]))
    running = await client.responses.create(model="gpt-4o", input="one", conversation=made.id, background=True)
    await client.conversations.delete(made.id)
    go_on.set()
    for id in (made.id, running.id):
        assert (await served.http.get(f"{served.url}/v1/responses/{id}")).status == 404
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(made.id)


async def test_another_tenant_sees_nothing(client: AsyncOpenAI, served: Remora) -> None:
    made = await client.conversations.create(items=[user("zero")])
    [item] = (await client.conversations.items.list(made.id)).data
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-other", max_retries=0) as other:
        for attempt in (
            other.conversations.retrieve(made.id),
            other.conversations.delete(made.id),
            other.conversations.update(made.id, metadata={}),
            other.conversations.items.create(made.id, items=[user("x")]),
            other.conversations.items.retrieve(item.id or "", conversation_id=made.id),
            other.conversations.items.delete(item.id or "", conversation_id=made.id),
            other.responses.create(model="gpt-4o", input="x", conversation=made.id),
            other.responses.create(model="gpt-4o", input=[{"type": "item_reference", "id": item.id or ""}]),
        ):
            with pytest.raises(openai.NotFoundError):
                await attempt
    assert await texts(client, made.id) == ["zero"]


async def test_items_can_be_referred_to(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    made = await client.conversations.create(items=[user("zero")])
    [item] = (await client.conversations.items.list(made.id)).data
    await client.responses.create(
        model="gpt-4o", input=[{"type": "item_reference", "id": item.id or ""}, user("and this")]
    )
    assert sent(upstream.requests[-1]) == [("user", "zero"), ("user", "and this")]


async def test_input_tokens_and_compaction(client: AsyncOpenAI, upstream: ScriptedUpstream, served: Remora) -> None:
    first = await client.responses.create(model="gpt-4o", input="one " * 100)
    small = await client.responses.input_tokens.count(model="gpt-4o", input="one " * 100)
    large = await client.responses.input_tokens.count(model="gpt-4o", input="two", previous_response_id=first.id)
    assert (small.object, 100 < small.input_tokens < 120) == ("response.input_tokens", True)
    assert small.input_tokens < large.input_tokens < 150
    assert len(upstream.requests) == 1
    message = {"role": "assistant", "content": "They said one, a hundred times."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    upstream.queue.append(plain(200, {"object": "chat.completion", "choices": [choice]}))
    compact = await client.responses.compact(model="gpt-4o", input="two", previous_response_id=first.id)
    assert compact.object == "response.compaction"
    assert compact.output[-1].type == "compaction"
    asked = upstream.requests[-1].json()["messages"]
    assert [m["role"] for m in asked] == ["user", "assistant", "user", "user"]
    following: Any = [*(item.to_dict(warnings=False) for item in compact.output), user("three")]
    await client.responses.create(model="gpt-4o", input=following)
    said = [text for _, text in sent(upstream.requests[-1])]
    assert any("They said one, a hundred times." in text for text in said)
    assert said[-1] == "three"


async def test_a_websocket_is_refused(served: Remora) -> None:
    reply = await served.http.get(
        f"{served.url}/v1/responses",
        headers={
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "x" * 22 + "==",
        },
    )  # fmt: skip
    assert (reply.status, json.loads(await reply.read())["error"]["code"]) == (426, "upgrade_required")
