"""What the other routes of the stateful APIs answer is strictly of the SDK's types, and of the specification where it
has one: background, cancel, resume, conversations, compaction, token counts, stored chat completions."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionDeleted,
    ChatCompletionStoreMessage,
)
from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItem,
    ConversationItemList,
)
from openai.types.responses import CompactedResponse, InputTokenCountResponse, ResponseItem

from proxy.settings import Settings
from tests.dialects.responses import grammar
from tests.support.app import Remora, remora
from tests.support.openresponses import check_error, check_event, check_reply, check_stream, check_type, valid
from tests.support.steps import chunks, completion, stepping
from tests.support.upstream import ScriptedUpstream, Wait, sse

Json = dict[str, Any]
PAGE = {"object", "data", "first_id", "last_id", "has_more"}
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": False}
ITEMS: list[Json] = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "two", "annotations": []}]},
    {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "seen"},
    {"role": "user", "content": "three"},
]


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    more: Json = {"stored_completions": True} if "stored_completions" in Settings.__struct_fields__ else {}
    async with remora(upstream.url, tmp_path, responses="translate", **more) as proxy:
        yield proxy


async def raw(proxy: Remora, method: str, path: str, body: Json | None = None) -> tuple[int, bytes]:
    headers = {"Authorization": "Bearer sk-client", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    async with proxy.http.request(method, proxy.url + "/v1" + path, data=data, headers=headers) as reply:
        return reply.status, await reply.read()


async def done(proxy: Remora, method: str, path: str, body: Json | None = None) -> bytes:
    status, answer = await raw(proxy, method, path, body)
    assert status == 200, (method, path, answer)
    return answer


async def refused(proxy: Remora, expected: int, method: str, path: str, body: Json | None = None) -> Json:
    status, answer = await raw(proxy, method, path, body)
    assert status == expected, (method, path, answer)
    return check_error(answer)


async def settled(proxy: Remora, id: str) -> Json:
    """The response once it is no longer being made; valid whenever it is looked at."""
    async with asyncio.timeout(10):
        while True:
            made = check_reply(await done(proxy, "GET", f"/responses/{id}"))
            if made["status"] not in ("queued", "in_progress"):
                return made


def asked(**more: object) -> Json:
    return {"model": "gpt-4o", "input": "hi", **more}


async def test_a_response_in_the_background_is_valid_at_every_moment(served: Remora) -> None:
    made = check_reply(await done(served, "POST", "/responses", asked(background=True, metadata={"a": "b"})))
    assert (made["background"], made["output"]) == (True, [])
    assert made["status"] in ("queued", "in_progress")
    found = await settled(served, made["id"])
    assert (found["status"], found["output_text"], found["metadata"]) == ("completed", "reply 1", {"a": "b"})
    assert found["background"]


async def test_a_cancelled_response_is_valid_and_stays_cancelled(served: Remora, upstream: ScriptedUpstream) -> None:
    never = asyncio.Event()
    begun = list(chunks({"id": "c", "created": 1, "model": "m"}, {"content": "hello there"}, None, None))
    upstream.replies = lambda request: sse([*begun, Wait(never)])
    made = check_reply(await done(served, "POST", "/responses", asked(background=True)))
    await upstream.until(lambda server: bool(server.requests))
    cancelled = check_reply(await done(served, "POST", f"/responses/{made['id']}/cancel"))
    assert (cancelled["id"], cancelled["status"]) == (made["id"], "cancelled")
    assert (await settled(served, made["id"]))["status"] == "cancelled"
    again = check_reply(await done(served, "POST", f"/responses/{made['id']}/cancel"))
    assert again["status"] == "cancelled"
    await upstream.until(lambda server: not server.open_connections)


async def test_a_stream_in_the_background_is_valid_and_can_be_taken_up_anywhere(served: Remora) -> None:
    stream = await done(served, "POST", "/responses", asked(background=True, stream=True))
    events = grammar.events(stream)
    for event in events:
        check_event(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    id = events[0]["response"]["id"]
    await taken_up(served, id, stream)


async def test_a_stored_stream_can_be_taken_up_anywhere(served: Remora) -> None:
    stream = await done(served, "POST", "/responses", asked(stream=True))
    await taken_up(served, check_stream(stream)["id"], stream)
    plain = check_reply(await done(served, "POST", "/responses", asked()))
    await refused(served, 400, "GET", f"/responses/{plain['id']}?stream=true")


async def taken_up(proxy: Remora, id: str, stream: bytes) -> None:
    parts = stream.split(b"\n\n")[:-1]
    assert await done(proxy, "GET", f"/responses/{id}?stream=true") == stream
    for at in (0, 3, len(parts) - 2, len(parts) - 1):
        rest = b"".join(part + b"\n\n" for part in parts[at + 1 :])
        assert await done(proxy, "GET", f"/responses/{id}?stream=true&starting_after={at}") == rest


async def test_what_cannot_be_cancelled_or_run_in_the_background_is_refused_as_openai_does(served: Remora) -> None:
    made = check_reply(await done(served, "POST", "/responses", asked()))
    said = await refused(served, 400, "POST", f"/responses/{made['id']}/cancel")
    assert said["message"] == "Cannot cancel a synchronous response."
    said = await refused(served, 400, "POST", "/responses", asked(background=True, store=False))
    assert "background can only be used when `store` is true" in said["message"]
    said = await refused(served, 404, "POST", "/responses/resp_x/cancel")
    assert "Response with id 'resp_x' not found." in said["message"]


async def test_a_conversation_and_its_items(served: Remora) -> None:
    made = json.loads(await done(served, "POST", "/conversations", {"items": ITEMS, "metadata": {"a": "b"}}))
    check_type(Conversation, made)
    assert made["metadata"] == {"a": "b"}
    id = made["id"]
    assert json.loads(await done(served, "GET", f"/conversations/{id}")) == made
    changed = json.loads(await done(served, "POST", f"/conversations/{id}", {"metadata": {"c": "d"}}))
    check_type(Conversation, changed)
    assert changed == {**made, "metadata": {"c": "d"}}
    page = await items(served, id)
    assert [item["type"] for item in page] == [item.get("type", "message") for item in ITEMS]
    assert all(item["id"] for item in page)
    added = json.loads(await done(served, "POST", f"/conversations/{id}/items", {"items": ITEMS[:2]}))
    check_type(ConversationItemList, added)
    whole = await items(served, id)
    assert whole == [*page, *added["data"]]
    for item in whole:
        found = json.loads(await done(served, "GET", f"/conversations/{id}/items/{item['id']}"))
        check_type(ConversationItem, found)
        assert found == item
    left = json.loads(await done(served, "DELETE", f"/conversations/{id}/items/{whole[0]['id']}"))
    check_type(Conversation, left)
    assert await items(served, id) == whole[1:]
    await refused(served, 404, "GET", f"/conversations/{id}/items/{whole[0]['id']}")
    gone = json.loads(await done(served, "DELETE", f"/conversations/{id}"))
    check_type(ConversationDeletedResource, gone)
    for method, path in (("GET", ""), ("GET", "/items"), ("DELETE", ""), ("POST", "/items")):
        body = {"items": ITEMS[:1]} if method == "POST" else None
        await refused(served, 404, method, f"/conversations/{id}{path}", body)
    await refused(served, 404, "POST", "/responses", asked(conversation=id))


async def items(proxy: Remora, conversation: str) -> list[Json]:
    """All of them, oldest first, read in pages of two."""
    found: list[Json] = []
    while True:
        after = f"&after={found[-1]['id']}" if found else ""
        path = f"/conversations/{conversation}/items?order=asc&limit=2{after}"
        page = json.loads(await done(proxy, "GET", path))
        assert set(page) == PAGE
        check_type(ConversationItemList, page)
        found += page["data"]
        if not page["has_more"]:
            return found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("named", ["conversation", "object", "conversation_id"])
async def test_a_response_in_a_conversation_names_it(
    served: Remora, upstream: ScriptedUpstream, named: str, stream: bool
) -> None:
    upstream.replies = stepping(2)
    id = json.loads(await done(served, "POST", "/conversations", {}))["id"]
    member: Json = {"conversation": {"id": id}} if named == "object" else {named: id}
    answer = await done(served, "POST", "/responses", asked(**member, tools=[LOOK], stream=stream))
    made = (check_stream if stream else check_reply)(answer)
    assert (made["conversation"], made["conversation_id"]) == ({"id": id}, id)
    listed = await items(served, id)
    assert [item["type"] for item in listed] == ["message", "function_call", "function_call"]
    assert [item["id"] for item in listed[1:]] == [item["id"] for item in made["output"]]


async def test_a_compaction_is_valid_and_can_be_gone_on_from(served: Remora, upstream: ScriptedUpstream) -> None:
    made = json.loads(await done(served, "POST", "/responses/compact", asked(input=ITEMS)))
    valid("CompactResource", made)
    check_compacted(made)
    assert [item["type"] for item in made["output"]] == ["message", "message", "compaction"]
    follow = [*made["output"], {"role": "user", "content": "go on"}]
    check_reply(await done(served, "POST", "/responses", asked(input=follow)))
    chained = check_reply(await done(served, "POST", "/responses", asked()))
    compacted = json.loads(
        await done(served, "POST", "/responses/compact", {"model": "gpt-4o", "previous_response_id": chained["id"]})
    )
    check_compacted(compacted)
    await refused(served, 400, "POST", "/responses/compact", {"input": "hi"})


def check_compacted(made: Json) -> None:
    """The SDK says in words that user messages come first, but its type takes items of replies alone."""
    *users, last = made["output"]
    check_type(list[ResponseItem], users)
    assert all(item["role"] == "user" for item in users)
    check_type(CompactedResponse, {**made, "output": [last]})


async def test_tokens_are_counted_without_asking_the_model(served: Remora, upstream: ScriptedUpstream) -> None:
    made = json.loads(await done(served, "POST", "/responses/input_tokens", asked()))
    check_type(InputTokenCountResponse, made)
    longer = json.loads(await done(served, "POST", "/responses/input_tokens", asked(input=ITEMS, tools=[LOOK])))
    assert 0 < made["input_tokens"] < longer["input_tokens"]
    assert upstream.requests == []


async def test_stored_chat_completions(served: Remora, upstream: ScriptedUpstream) -> None:
    upstream.replies = lambda request: completion(request.json(), {"content": "hello"}, "stop")
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "metadata": {"a": "b"}, "store": True}
    made = json.loads(await done(served, "POST", "/chat/completions", body))
    id = made["id"]
    found = json.loads(await done(served, "GET", f"/chat/completions/{id}"))
    ChatCompletion.model_validate(found, strict=True)
    assert found["choices"][0]["message"]["content"] == "hello"
    said = json.loads(await done(served, "GET", f"/chat/completions/{id}/messages"))
    assert set(said) == PAGE
    for message in said["data"]:
        # the SDK's type has the role of replies for all of them
        ChatCompletionStoreMessage.model_validate({**message, "role": "assistant"}, strict=True)
    assert [message["content"] for message in said["data"]] == ["hi"]
    changed = json.loads(await done(served, "POST", f"/chat/completions/{id}", {"metadata": {"c": "d"}}))
    ChatCompletion.model_validate(changed, strict=True)
    listed = json.loads(await done(served, "GET", "/chat/completions?metadata[c]=d"))
    assert set(listed) == PAGE
    assert [each["id"] for each in listed["data"]] == [id]
    gone = json.loads(await done(served, "DELETE", f"/chat/completions/{id}"))
    check_type(ChatCompletionDeleted, gone)
    await refused(served, 404, "GET", f"/chat/completions/{id}")
