"""The Responses API over a chat-only upstream, with the openai SDK unchanged."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.app import Remora, remora, said, sent
from tests.support.upstream import ScriptedUpstream, plain

TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": False}


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path) as proxy:
        yield proxy


@pytest.fixture
async def client(served: Remora) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-client", max_retries=0) as made:
        yield made


async def test_a_chain_of_responses_shows_the_model_everything_before(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    first = await client.responses.create(model="gpt-4o", input="one", instructions="Be kind.")
    assert (first.output_text, first.status, first.previous_response_id) == ("reply 1", "completed", None)
    second = await client.responses.create(model="gpt-4o", input="two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    third = await client.responses.create(
        model="gpt-4o", input="three", previous_response_id=second.id, instructions="Be brief."
    )
    assert third.output_text == "reply 3"
    # instructions are shown once and not carried over
    assert sent(upstream.requests[0]) == [("system", "Be kind."), ("user", "one")]
    assert sent(upstream.requests[2]) == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "reply 1"),
        ("user", "two"),
        ("assistant", "reply 2"),
        ("user", "three"),
    ]
    assert all(request.target == "/v1/chat/completions" for request in upstream.requests)


async def test_an_earlier_response_can_be_gone_on_from_and_what_came_after_is_not_seen(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    first = await client.responses.create(model="gpt-4o", input="one")
    await client.responses.create(model="gpt-4o", input="two", previous_response_id=first.id)
    branch = await client.responses.create(model="gpt-4o", input="other", previous_response_id=first.id)
    assert sent(upstream.requests[-1]) == [("user", "one"), ("assistant", "reply 1"), ("user", "other")]
    await client.responses.create(model="gpt-4o", input="on", previous_response_id=branch.id)
    assert [text for _, text in sent(upstream.requests[-1])] == ["one", "reply 1", "other", "reply 3", "on"]


async def test_what_was_made_can_be_asked_for_and_deleted(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    made = await client.responses.create(
        model="gpt-4o", input=[{"role": "user", "content": "one"}], metadata={"a": "b"}, temperature=0.5
    )
    again = await client.responses.retrieve(made.id)
    assert again.model_dump() == made.model_dump()
    assert again.metadata == {"a": "b"}
    items = await client.responses.input_items.list(made.id)
    assert [item.to_dict()["content"][0]["text"] for item in items.data] == ["one"]  # type: ignore[index]
    following = await client.responses.create(model="gpt-4o", input="two", previous_response_id=made.id)
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{made.id}' not found"):
        await client.responses.retrieve(made.id)
    # what goes on from it keeps its context
    await client.responses.create(model="gpt-4o", input="three", previous_response_id=following.id)
    assert [text for _, text in sent(upstream.requests[-1])] == ["one", "reply 1", "two", "reply 2", "three"]


async def test_a_stream_has_the_events_of_the_api_and_is_recorded_like_a_plain_reply(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    async with client.responses.stream(model="gpt-4o", input="one") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert final.output_text == "reply 1"
    kept = await client.responses.retrieve(final.id)
    assert (kept.id, kept.output_text, kept.usage) == (final.id, final.output_text, final.usage)
    assert [item.to_dict()["id"] for item in kept.output] == [item.to_dict()["id"] for item in final.output]
    await client.responses.create(model="gpt-4o", input="two", previous_response_id=final.id)
    assert sent(upstream.requests[-1]) == [("user", "one"), ("assistant", "reply 1"), ("user", "two")]


async def test_a_tool_loop(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    upstream.queue.append(plain(200, {"object": "chat.completion", "choices": [choice]}))
    made = await client.responses.create(model="gpt-4o", input="look", tools=[TOOL])  # type: ignore[list-item]
    [item] = made.output
    assert item.type == "function_call"
    assert (item.call_id, item.name, item.arguments) == ("call_1", "look", '{"at": 1}')
    await client.responses.create(
        model="gpt-4o",
        previous_response_id=made.id,
        input=[{"type": "function_call_output", "call_id": item.call_id, "output": "found"}],
    )
    messages = upstream.requests[-1].json()["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool"]
    assert messages[2] == {"role": "tool", "tool_call_id": "call_1", "content": "found"}
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(
            model="gpt-4o",
            previous_response_id=made.id,
            input=[{"type": "function_call_output", "call_id": "call_9", "output": "found"}],
        )


async def test_what_shall_not_be_stored_is_not(client: AsyncOpenAI, upstream: ScriptedUpstream, served: Remora) -> None:
    made = await client.responses.create(model="gpt-4o", input="secret", store=False)
    assert made.output_text == "reply 1"
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="previous_response_not_found"):
        await client.responses.create(model="gpt-4o", input="two", previous_response_id=made.id)
    assert len(upstream.requests) == 1


async def test_ids_that_are_unknown_foreign_or_no_ids(client: AsyncOpenAI, served: Remora) -> None:
    made = await client.responses.create(model="gpt-4o", input="one")
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-other", max_retries=0) as other:
        for id, who in ((made.id, other), ("resp_" + "0" * 48, client), ("resp_x", client), ("../x", client)):
            with pytest.raises(openai.BadRequestError) as refused:
                await who.responses.create(model="gpt-4o", input="two", previous_response_id=id)
            assert refused.value.code == "previous_response_not_found"
            assert f"'{id}' not found (previous_response_not_found)." in str(refused.value)
        for call in (other.responses.retrieve, other.responses.delete):
            with pytest.raises(openai.NotFoundError):
                await call(made.id)
    assert (await client.responses.retrieve(made.id)).id == made.id


async def test_one_session_is_used_through_both_apis(
    client: AsyncOpenAI, served: Remora, upstream: ScriptedUpstream
) -> None:
    await served.chat("s", "one")
    named = {"X-Session-Id": "s"}
    made = await client.responses.create(model="gpt-4o", input="two", extra_headers=named)
    assert sent(upstream.requests[-1]) == [("user", "one"), ("assistant", "reply 1"), ("user", "two")]
    await served.chat("s", "three")
    assert [text for _, text in sent(upstream.requests[-1])] == ["one", "reply 1", "two", "reply 2", "three"]
    # a branch from the response, in the same session
    await client.responses.create(model="gpt-4o", input="other", previous_response_id=made.id, extra_headers=named)
    assert [text for _, text in sent(upstream.requests[-1])] == ["one", "reply 1", "two", "reply 2", "other"]
    # which is not made by accident: the session's next turn would follow it
    with pytest.raises(openai.BadRequestError, match="part of a session"):
        await client.responses.create(model="gpt-4o", input="other", previous_response_id=made.id)


async def test_an_upstreams_refusal_is_relayed_and_nothing_is_kept(
    client: AsyncOpenAI, served: Remora, upstream: ScriptedUpstream
) -> None:
    error = {"error": {"message": "no such model", "type": "invalid_request_error", "param": None, "code": "x"}}
    upstream.queue.append(plain(404, error))
    with pytest.raises(openai.NotFoundError, match="no such model"):
        await client.responses.create(model="gpt-4o", input="one")
    assert [info async for info in served.here.house.store.list()] == []


async def test_what_cannot_be_honoured_is_refused_by_name(served: Remora) -> None:
    for more, param in (
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"previous_response_id": 7}, "previous_response_id"),
        ({"input": 7}, "input"),
    ):
        body = json.dumps({"model": "gpt-4o", "input": "one", **more}).encode()
        answer = await served.post("/v1/responses", body)
        assert (answer.status, answer.json()["error"]["param"]) == (400, param)


async def test_without_the_setting_all_of_it_passes_through(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.queue.append(plain(200, {"id": "resp_of_the_upstream"}))
    async with remora(upstream.url, tmp_path, responses="off") as proxy:
        body = json.dumps({"model": "gpt-4o", "input": "one"}).encode()
        assert (await proxy.post("/v1/responses", body)).json() == {"id": "resp_of_the_upstream"}
        assert upstream.requests[-1].body == body
        assert (await proxy.chat("s", said("user", "one"))).status == 200
