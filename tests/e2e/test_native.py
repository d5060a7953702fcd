"""The Responses and Conversations APIs over an upstream that speaks stateless Responses itself."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.e2e.test_summary import idle
from tests.support import openresponses
from tests.support.app import Remora, remora
from tests.support.stateless import Stateless, call, events, message, response, shown
from tests.support.upstream import Received, Reset, Script, ScriptedUpstream, Wait, plain, sse

TOOL: Any = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": False}
SEARCH: Any = {"type": "web_search"}


@pytest.fixture
def model(upstream: ScriptedUpstream) -> Stateless:
    made = Stateless()
    upstream.replies = made
    return made


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path, model: Stateless) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path, responses="native") as proxy:
        yield proxy


@pytest.fixture
async def client(served: Remora) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as made:
        yield made


async def streamed(served: Remora, **members: object) -> bytes:
    answer = await served.post("/v1/responses", json.dumps({"model": "m", "stream": True, **members}).encode())
    assert answer.status == 200, answer.body
    return answer.body


async def ended(client: AsyncOpenAI, id: str) -> Any:
    async with asyncio.timeout(20):
        while (found := await client.responses.retrieve(id)).status in ("queued", "in_progress"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def test_a_chain_shows_the_model_everything_before_and_branches(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    first = await client.responses.create(model="m", input="one", instructions="Be kind.", metadata={"a": "b"})
    assert (first.output_text, first.status, first.previous_response_id) == ("reply 1", "completed", None)
    assert (first.instructions, first.metadata, first.to_dict()["store"]) == ("Be kind.", {"a": "b"}, True)
    assert first.usage is not None
    assert first.usage.input_tokens_details.cached_tokens == 32
    second = await client.responses.create(model="m", input="two", previous_response_id=first.id)
    assert (second.previous_response_id, second.instructions, second.output_text) == (first.id, None, "reply 2")
    third = await client.responses.create(model="m", input="three", previous_response_id=second.id)
    assert shown(upstream.requests[-1]) == ["one", "reply 1", "two", "reply 2", "three"]
    assert "instructions" not in upstream.requests[-1].json()
    await client.responses.create(model="m", input="other", previous_response_id=first.id)
    assert shown(upstream.requests[-1]) == ["one", "reply 1", "other"]
    for made in (first, second, third):
        assert (await client.responses.retrieve(made.id)).model_dump() == made.model_dump()
    await client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(second.id)
    await client.responses.create(model="m", input="four", previous_response_id=third.id)
    assert shown(upstream.requests[-1]) == ["one", "reply 1", "two", "reply 2", "three", "reply 3", "four"]


async def test_members_travel_with_their_bytes_and_the_input_is_listed(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    body = (
        b'{"model":"m", "temperature": 0.50, "top_k": 123456789012345678901234567890, "store": true, '
        b'"input": [{"role": "user", "content": "one", "x": 1.0}], "include": ["a"], "background": null}'
    )
    made = (await served.post("/v1/responses", body)).json()
    [request] = upstream.requests
    item = b'{"role": "user", "content": "one", "x": 1.0}'
    for kept in (b'"temperature":0.50', b"123456789012345678901234567890", item):
        assert kept in request.body
    assert request.json()["include"] == ["a", "reasoning.encrypted_content"]
    assert "background" not in request.json()
    [listed] = (await client.responses.input_items.list(made["id"])).data
    assert listed.to_dict()["content"] == [{"type": "input_text", "text": "one"}]
    assert str(listed.to_dict()["id"]).startswith("msg_" + made["id"][5:])


@pytest.mark.parametrize("number", [0, 7])
async def test_a_stream_has_the_events_of_the_api_under_its_own_ids_and_numbers(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream, number: int
) -> None:
    made = response({"model": "m"}, [message("one two three"), call("call_1")])
    sent = [re.sub(rb'(?<="sequence_number": )\d+', lambda at: b"%d" % (int(at[0]) + number), each)
            for each in events(made)]  # fmt: skip
    upstream.queue.append(sse([b": ping\n\n", *sent[:4], b"data: ping\n\n", *sent[4:]]))
    body = await streamed(served, input="one", tools=[TOOL])
    last = openresponses.check_stream(body)
    assert [item["type"] for item in last["output"]] == ["message", "function_call"]
    assert b"_up" not in body
    kept = await client.responses.retrieve(last["id"])
    assert kept.to_dict() == last
    again = [event async for event in await client.responses.retrieve(last["id"], stream=True)]
    assert [event.sequence_number for event in again] == [*range(body.count(b"\n\n"))]
    async with client.responses.stream(
        model="m", previous_response_id=last["id"],
        input=[{"type": "function_call_output", "call_id": "call_1", "output": "seen"}],
    ) as stream:  # fmt: skip
        assert (await stream.get_final_response()).output_text == "reply 1"
    assert shown(upstream.requests[-1]) == ["one", "one two three", "function_call:call_1", "call_1=seen"]


async def test_reasoning_survives_the_next_turn_byte_for_byte(
    client: AsyncOpenAI, upstream: ScriptedUpstream, model: Stateless
) -> None:
    model.thinks = True
    first = await client.responses.create(model="m", input="one")
    second = await client.responses.create(model="m", input="two", previous_response_id=first.id)
    async with client.responses.stream(model="m", input="three", previous_response_id=second.id) as stream:
        third = await stream.get_final_response()
    await client.responses.create(model="m", input="four", previous_response_id=third.id)
    one, two, three = [*model.sealed][:3]
    assert shown(upstream.requests[-1]) == [
        "one", f"thought:{one}", "reply 1", "two", f"thought:{two}", "reply 2", "three", f"thought:{three}", "reply 3",
        "four",
    ]  # fmt: skip
    # a client that keeps its own history sends the items that it got
    sent = [each.to_dict() for each in first.output]
    await client.responses.create(model="m", store=False, input=[{"role": "user", "content": "one"}, *sent,  # type: ignore[list-item]
                                                                 {"role": "user", "content": "two"}])  # fmt: skip
    assert shown(upstream.requests[-1]) == ["one", f"thought:{one}", "reply 1", "two"]


async def test_a_tool_loop(client: AsyncOpenAI, upstream: ScriptedUpstream, model: Stateless) -> None:
    model.queue.append([model.thought(), message("Let me look."), call("call_1"), call("call_2")])
    made = await client.responses.create(model="m", input="look", tools=[TOOL])
    assert [item.type for item in made.output] == ["reasoning", "message", "function_call", "function_call"]
    results: Any = [{"type": "function_call_output", "call_id": id, "output": "seen"} for id in ("call_1", "call_2")]
    await client.responses.create(model="m", input=results, tools=[TOOL], previous_response_id=made.id)
    seen = next(iter(model.sealed))
    calls = ["function_call:call_1", "function_call:call_2"]
    assert shown(upstream.requests[-1]) == [
        "look", f"thought:{seen}", "Let me look.", *calls, "call_1=seen", "call_2=seen",
    ]  # fmt: skip
    # who walks past a call finds it answered
    walked = await client.responses.create(model="m", input="never mind", previous_response_id=made.id)
    assert walked.status == "completed"
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(
            model="m", previous_response_id=made.id,
            input=[{"type": "function_call_output", "call_id": "call_9", "output": "seen"}],
        )  # fmt: skip


async def test_items_of_hosted_tools_pass(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream, model: Stateless
) -> None:
    action = {"type": "search", "query": "q"}
    search = {"id": "ws_up", "type": "web_search_call", "status": "completed", "action": action}
    asks = {"id": "mcpr_up", "type": "mcp_approval_request", "server_label": "s", "name": "n", "arguments": "{}"}
    model.queue += [[search, message("found")], [asks]]
    made = await client.responses.create(model="m", input="search", tools=[SEARCH])
    assert upstream.requests[-1].json()["tools"] == [SEARCH]
    assert [item.type for item in made.output] == ["web_search_call", "message"]
    second = await client.responses.create(model="m", input="ask", previous_response_id=made.id)
    [item] = upstream.requests[-1].json()["input"][1:2]
    assert item == search
    # an approval names the request by its id, so that this one stays
    id = second.output[0].to_dict()["id"]
    approval: Any = {"type": "mcp_approval_response", "approval_request_id": id, "approve": True}
    await client.responses.create(model="m", input=[approval], previous_response_id=second.id)
    assert [each["type"] for each in upstream.requests[-1].json()["input"][-2:]] == [
        "mcp_approval_request", "mcp_approval_response",
    ]  # fmt: skip
    # as an input item, too, and listed as it is
    mine: Any = [{**search, "id": "ws_mine"}, {"role": "user", "content": "x"}]
    made = await client.responses.create(model="m", input=mine)
    listed = await client.responses.input_items.list(made.id, order="asc")
    assert [item.type for item in listed.data] == ["web_search_call", "message"]
    assert upstream.requests[-1].json()["input"][0] == {**search, "id": "ws_mine"}


async def test_a_reference_is_replaced_by_the_item(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    made = await client.responses.create(model="m", input="one")
    known: Any = [
        {"type": "item_reference", "id": made.output[0].to_dict()["id"]},
        {"role": "user", "content": "again"},
    ]
    await client.responses.create(model="m", input=known)
    assert shown(upstream.requests[-1]) == ["reply 1", "again"]
    with pytest.raises(openai.NotFoundError, match="not found"):
        await client.responses.create(model="m", input=[{"type": "item_reference", "id": "msg_" + "0" * 50}])


async def test_what_shall_not_be_stored_is_not(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream, model: Stateless
) -> None:
    model.thinks = True
    made = await client.responses.create(model="m", input="secret", store=False)
    assert made.to_dict()["store"] is False
    # nobody asked for sealed reasoning
    assert [item.type for item in made.output] == ["message"]
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="previous_response_not_found"):
        await client.responses.create(model="m", input="two", previous_response_id=made.id)
    assert len(upstream.requests) == 1
    assert [info async for info in served.here.house.store.list()] == []


async def test_a_conversation(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    made = await client.conversations.create(items=[{"type": "message", "role": "user", "content": "zero"}])
    first = await client.responses.create(model="m", input="one", conversation=made.id)
    assert first.conversation is not None
    assert first.conversation.id == made.id
    part = {"type": "output_text", "text": "aside"}
    added: Any = [{"type": "message", "role": "assistant", "content": [part]}]
    await client.conversations.items.create(made.id, items=added)
    await client.responses.create(model="m", input="two", conversation=made.id)
    assert shown(upstream.requests[-1]) == ["zero", "one", "reply 2", "aside", "two"]
    items = [item async for item in client.conversations.items.list(made.id, order="asc")]
    assert [item.type for item in items] == ["message"] * 6
    # what is deleted is not sent any more
    await client.conversations.items.delete(str(items[2].to_dict()["id"]), conversation_id=made.id)
    await client.conversations.items.delete(str(items[0].to_dict()["id"]), conversation_id=made.id)
    await client.responses.create(model="m", input="three", conversation=made.id)
    texts = shown(upstream.requests[-1])
    assert [text for text in texts if text] == ["one", "aside", "two", "reply 3", "three"]


async def test_a_background_response_is_queued_streamed_resumed_and_cancelled(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    go_on, never = asyncio.Event(), asyncio.Event()
    sent = [*events(response({"model": "m"}, [message("one two three")]))]
    upstream.queue.append(sse([Wait(go_on), *sent], done=False))
    made = await client.responses.create(model="m", input="x", background=True, metadata={"a": "b"})
    assert (made.status, made.background, made.output, made.metadata) == ("queued", True, [], {"a": "b"})
    go_on.set()
    done = await ended(client, made.id)
    assert (done.status, done.output_text, done.background, done.metadata) == (
        "completed", "one two three", True, {"a": "b"},
    )  # fmt: skip
    go_on.clear()
    upstream.queue.append(sse([*sent[:6], Wait(go_on), *sent[6:]], done=False))
    seen: list[Any] = []
    stream = await client.responses.create(model="m", input="x", background=True, stream=True)
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    assert [event.type for event in seen[:3]] == ["response.created", "response.queued", "response.in_progress"]
    again: Any = await client.responses.retrieve(
        seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number
    )
    go_on.set()
    rest = [event async for event in again]
    assert [event.sequence_number for event in (*seen, *rest)] == [*range(len(seen) + len(rest))]
    assert (rest[-1].type, rest[-1].response.output_text) == ("response.completed", "one two three")
    upstream.queue.append(sse([*sent[:5], Wait(never)]))
    events_: list[Any] = []
    following: Any = await client.responses.create(model="m", input="x", background=True, stream=True)
    async for each in following:
        events_.append(each)
        if each.type == "response.output_text.delta" and len(events_) == 6:
            assert (await client.responses.cancel(events_[0].response.id)).status == "cancelled"
    last = events_[-1]
    assert last.type == "response.incomplete"
    assert (last.response.status, last.response.output_text) == ("cancelled", "one ")
    assert [event.type for event in events_[-4:-1]] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
    ]  # fmt: skip


async def test_failures_and_cuts_are_told_and_not_gone_on_from(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    told: Any = {"code": "server_error", "message": "Broken."}
    failed = response({"model": "m"}, [], status="failed", error=told, completed_at=None)
    upstream.queue.append(sse(events(failed), done=False))
    last = openresponses.check_stream(await streamed(served, input="x"))
    assert (last["status"], last["error"]) == ("failed", {"code": "server_error", "message": "Broken."})
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model="m", input="on", previous_response_id=last["id"])
    upstream.queue.append(plain(200, failed))
    made = await client.responses.create(model="m", input="x")
    assert made.status == "failed"
    assert made.error is not None
    assert made.error.message == "Broken."
    sent = [*events(response({"model": "m"}, [message("one two three"), call("call_1")]))]
    for upto in (0, 1, 2, 3, 5, 8, 10, 12):
        upstream.queue.append(sse([*sent[:upto], Reset()]))
        last = openresponses.check_stream(await streamed(served, input="x"))
        assert last["status"] == "failed"
        assert "one two three".startswith(last["output_text"])
    told = {"type": "error", "code": "server_error", "message": "No.", "param": None, "sequence_number": 99}
    upstream.queue.append(sse([*sent[:2], told]))
    body = await streamed(served, input="x")
    assert openresponses.check_stream(body)["status"] == "failed"
    assert b'"message": "No."' in body
    upstream.queue.append(plain(429, {"error": {"message": "Slow down.", "type": "x", "param": None, "code": None}}))
    with pytest.raises(openai.RateLimitError, match=r"Slow down\."):
        await client.responses.create(model="m", input="x", stream=True)
    short = response(
        {"model": "m"}, [message("one", status="incomplete")], status="incomplete", completed_at=None,
        incomplete_details={"reason": "max_output_tokens"},
    )  # fmt: skip
    upstream.queue.append(plain(200, short))
    cut = await client.responses.create(model="m", input="x")
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    await client.responses.create(model="m", input="on", previous_response_id=cut.id)
    assert shown(upstream.requests[-1]) == ["x", "one", "on"]


async def test_a_plain_reply_and_a_stream_each_become_what_was_asked_for(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream, model: Stateless
) -> None:
    made = response({"model": "m"}, [model.thought(), message("one"), call("call_1")])
    upstream.queue.append(plain(200, made))
    last = json.loads((await streamed(served, input="x")).split(b"data: ")[-1])["response"]
    assert [item["type"] for item in last["output"]] == ["reasoning", "message", "function_call"]
    upstream.queue.append(sse(events(made), done=False))
    plainly = await client.responses.create(model="m", input="x")
    assert (plainly.output_text, plainly.status) == ("one", "completed")
    assert (await client.responses.retrieve(plainly.id)).model_dump() == plainly.model_dump()


async def test_the_window_applies_and_the_summary_is_asked_for_in_the_same_api(
    upstream: ScriptedUpstream, tmp_path: Path, model: Stateless
) -> None:
    policy = "[window]\nmax_tokens = 200\n[summary]\nmax_tokens = 60\n"

    def answer(request: Received) -> Script:
        if "Write the summary" in shown(request)[-1]:
            assert not request.json().get("stream")
            assert model.refused(request, request.json()) == ""
            return plain(200, response({}, [message("They counted.")]))
        return model(request)

    upstream.replies = answer
    async with (
        remora(upstream.url, tmp_path, policy, responses="native") as proxy,
        AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        previous = None
        for n in range(1, 30):
            text = f"number {n} of a long list of numbers, which goes on and on"
            made = await client.responses.create(model="m", input=text, previous_response_id=previous)
            previous = made.id
            await idle(proxy)
        turns = [shown(request) for request in upstream.requests if "Write the summary" not in shown(request)[-1]]
        assert max(map(len, turns)) < 30
        assert turns[-1][0].startswith("system:")
        assert "They counted." in turns[-1][0]
        tokens = await client.responses.input_tokens.count(model="m", input="x", previous_response_id=previous)
        assert 0 < tokens.input_tokens < 400


async def test_recall_finds_what_was_said_before_the_window(
    upstream: ScriptedUpstream, tmp_path: Path, model: Stateless
) -> None:
    policy = '[window]\nmax_tokens = 100\n[recall]\nmax_tokens = 120\nmethod = "both"\nmodel = "e"\n'
    embedded: list[str] = []

    def answer(request: Received) -> Script:
        if not request.target.endswith("/embeddings"):
            return model(request)
        embedded.append(request.target)
        texts = request.json()["input"]
        return plain(200, {"data": [{"index": n, "embedding": [1.0, 0.0]} for n in range(len(texts))]})

    upstream.replies = answer
    async with (
        remora(upstream.url, tmp_path, policy, responses="native") as proxy,
        AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        # a message of the assistant's at the end of the input, and its reply, are two neighbours
        opening: Any = [
            {"role": "user", "content": "My password for the harbour is crocodile."},
            {"role": "assistant", "content": "I shall keep the"},
        ]
        previous = (await client.responses.create(model="m", input=opening)).id
        await idle(proxy)
        for n in range(12):
            text = f"number {n} of a long list of numbers, which goes on and on"
            previous = (await client.responses.create(model="m", input=text, previous_response_id=previous)).id
            await idle(proxy)
        asked = "What is the harbour password?"
        await client.responses.create(model="m", input=asked, previous_response_id=previous)
    assert set(embedded) == {"/v1/embeddings"}
    [*_, last] = [shown(request) for request in upstream.requests if request.target == "/v1/responses"]
    assert "crocodile" in last[-1]
    assert last[-1].endswith(asked)
    assert not any("crocodile" in text for text in last[:-1])


async def test_compaction(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    made = await client.responses.create(model="m", input="one")
    upstream.queue.append(plain(200, response({}, [message("They said one.")])))
    compacted = await client.responses.compact(model="m", input="two", previous_response_id=made.id)
    assert shown(upstream.requests[-1])[:3] == ["one", "reply 1", "two"]
    items: Any = [item.to_dict(warnings=False) for item in compacted.output]
    assert [item["type"] for item in items] == ["message", "compaction"]
    await client.responses.create(model="m", input=[*items, {"role": "user", "content": "three"}])
    two, summary, three = shown(upstream.requests[-1])
    assert (two, three) == ("two", "three")
    assert summary.endswith("They said one.")


async def test_a_session_is_used_through_one_api_only(
    served: Remora, client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    async def respond(session: str) -> Any:
        return await client.responses.create(model="m", input="x", extra_headers={"X-Session-Id": session})

    await respond("native")
    await respond("native")
    assert shown(upstream.requests[-1]) == ["x", "reply 1", "x"]
    refused = await served.chat("native", "y")
    assert (refused.status, refused.code) == (400, "invalid_body")
    assert "recorded through another API" in refused.json()["error"]["message"]
    chat = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}
    upstream.queue.append(plain(200, {"object": "chat.completion", **chat}))
    assert (await served.chat("chat", "y")).status == 200
    with pytest.raises(openai.BadRequestError, match="recorded through another API"):
        await respond("chat")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 5}]}]}, "input[0].content"),
        ({"input": [{"type": "message", "id": 5, "role": "user", "content": "x"}]}, "input[0].id"),
        ({"input": [{"type": 5}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]}, "input"),
        ({"store": False, "background": True}, "background"),
        ({"context_management": [{}]}, "context_management"),
        ({"stream": "yes"}, "stream"),
        ({"model": 5}, "model"),
    ],
)
async def test_what_cannot_be_is_refused(
    served: Remora, upstream: ScriptedUpstream, members: dict[str, Any], param: str
) -> None:
    answer = await served.post("/v1/responses", json.dumps({"model": "m", "input": "x", **members}).encode())
    assert (answer.status, answer.json()["error"]["param"]) == (400, param), answer.body
    assert not upstream.requests
