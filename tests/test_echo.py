"""The stand-in model, over real HTTP, and once with the SDK that most users have."""

import json
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import openai
import pytest

from proxy.conversation.message import Message
from proxy.echo import MAX_QUOTE_CHARS, EchoServer, start_echo
from proxy.tokens import counter

TWO_TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "My name is Ada."},
    {"role": "assistant", "content": "Hello Ada."},
    {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "my name?"}]},
]
TWO_TURNS_ANSWER = 'You said: "What is my name?". I was sent 4 messages; the first user message was: "My name is Ada.".'
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


class _Function(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: str = ""


class _Call(msgspec.Struct, frozen=True):
    id: str = ""
    function: _Function = _Function()


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None
    role: str = ""
    tool_calls: list[_Call] = []


class _Choice(msgspec.Struct, frozen=True):
    finish_reason: str | None
    message: _Said = _Said()
    delta: _Said = _Said()


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Reply(msgspec.Struct, frozen=True):
    id: str
    object: str
    model: str
    choices: list[_Choice]
    usage: _Usage | None = None


class _Error(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class _Refusal(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    error: _Error


@pytest.fixture
async def echo() -> AsyncIterator[EchoServer]:
    server = await start_echo("127.0.0.1", 0)
    yield server
    await server.close()


async def post(echo: EchoServer, body: object, path: str = "/v1/chat/completions") -> tuple[int, str, bytes]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with aiohttp.ClientSession() as session, session.post(echo.url + path, data=data) as response:
        return response.status, response.content_type, await response.read()


async def complete(echo: EchoServer, **members: object) -> _Reply:
    status, kind, body = await post(echo, {"model": "gpt-4o", **members})
    assert (status, kind) == (200, "application/json")
    return msgspec.json.decode(body, type=_Reply)


async def stream(echo: EchoServer, **members: object) -> list[_Reply]:
    status, kind, body = await post(echo, {"model": "gpt-4o", "stream": True, **members})
    assert (status, kind) == (200, "text/event-stream")
    events = body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [msgspec.json.decode(event.removeprefix("data: "), type=_Reply) for event in events[:-2]]


async def test_the_answer_says_what_it_was_sent(echo: EchoServer) -> None:
    reply = await complete(echo, messages=TWO_TURNS)
    assert reply.object == "chat.completion"
    assert reply.model == "gpt-4o"
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].message.content == TWO_TURNS_ANSWER
    assert reply.choices[0].finish_reason == "stop"


async def test_it_has_no_memory_and_the_same_request_gets_the_same_bytes(echo: EchoServer) -> None:
    first = await post(echo, {"messages": TWO_TURNS})
    await post(echo, {"messages": TWO_TURNS[:2]})
    assert await post(echo, {"messages": TWO_TURNS}) == first


async def test_usage_is_what_the_counter_says(echo: EchoServer) -> None:
    reply = await complete(echo, messages=TWO_TURNS)
    texts = ["Be brief.", "My name is Ada.", "Hello Ada.", "What is my name?"]
    prompt = counter.PRIMING_TOKENS + sum(counter.count(Message("user", b"", text), "gpt-4o") for text in texts)
    made = counter.count_text(TWO_TURNS_ANSWER, "gpt-4o")
    assert reply.usage == _Usage(prompt, made, prompt + made)


async def test_a_stream_says_the_same_in_several_deltas(echo: EchoServer) -> None:
    chunks = await stream(echo, messages=TWO_TURNS)
    assert chunks[0].choices[0].delta.role == "assistant"
    words = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(words) == TWO_TURNS_ANSWER
    assert sum(map(bool, words)) > 5
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_has_usage_only_where_it_was_asked_for(echo: EchoServer) -> None:
    *chunks, last = await stream(echo, messages=TWO_TURNS, stream_options={"include_usage": True})
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage == (await complete(echo, messages=TWO_TURNS)).usage


async def test_a_long_message_is_quoted_in_part(echo: EchoServer) -> None:
    reply = await complete(echo, messages=[{"role": "user", "content": "x" * 100_000}])
    assert reply.choices[0].message.content
    assert len(reply.choices[0].message.content) < 3 * MAX_QUOTE_CHARS


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_is_called_when_the_user_says_so(echo: EchoServer, streamed: bool) -> None:
    asked = [{"role": "user", "content": 'call weather {"city": "Paris"}'}]
    if streamed:
        chunks = [chunk.choices[0] for chunk in await stream(echo, messages=asked, tools=TOOLS)]
        calls = [call for chunk in chunks for call in chunk.delta.tool_calls]
        finish = chunks[-1].finish_reason
    else:
        (choice,) = (await complete(echo, messages=asked, tools=TOOLS)).choices
        calls, finish = choice.message.tool_calls, choice.finish_reason
        assert choice.message.content is None
    assert "".join(call.function.name for call in calls) == "weather"
    assert "".join(call.function.arguments for call in calls) == '{"city": "Paris"}'
    assert calls[0].id.startswith("call_")
    assert finish == "tool_calls"


async def test_the_tools_result_is_told(echo: EchoServer) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    reply = await complete(
        echo,
        tools=TOOLS,
        messages=[
            {"role": "user", "content": "call weather"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "18 degrees"},
        ],
    )
    assert (reply.choices[0].message.content or "").startswith('The tool said: "18 degrees". I was sent 3 messages')


@pytest.mark.parametrize("tools", [[], TOOLS])
async def test_a_tool_that_is_not_there_is_not_called(echo: EchoServer, tools: list[object]) -> None:
    reply = await complete(echo, messages=[{"role": "user", "content": "call other {}"}], tools=tools)
    assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "path", ["/chat/completions", "/v1/chat/completions", "/openai/deployments/x/chat/completions"]
)
async def test_every_path_that_ends_so_is_answered(echo: EchoServer, path: str) -> None:
    status, _, _ = await post(echo, {"messages": TWO_TURNS}, path + "?api-version=1")
    assert status == 200


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        (b"not json", "/v1/chat/completions", 400),
        (b"\xff", "/v1/chat/completions", 400),
        (b'{"messages": "hello"}', "/v1/chat/completions", 400),
        (b'{"messages": []}', "/v1/chat/completions", 400),
        (b'{"messages": [{"content": "no role"}]}', "/v1/chat/completions", 400),
        (b"{}", "/v1/chat/completions", 400),
        (b"{}", "/v1/embeddings", 404),
    ],
)
async def test_errors_are_shaped_like_openais(echo: EchoServer, body: bytes, path: str, expected: int) -> None:
    status, kind, answer = await post(echo, body, path)
    assert (status, kind) == (expected, "application/json")
    assert msgspec.json.decode(answer, type=_Refusal).error.type == "invalid_request_error"


async def test_a_port_in_use_is_an_oserror(echo: EchoServer) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await start_echo("127.0.0.1", int(echo.url.rsplit(":", 1)[1]))


async def test_a_closed_server_is_gone() -> None:
    server = await start_echo("127.0.0.1", 0)
    await server.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(server, {"messages": TWO_TURNS})


async def test_the_openai_sdk_understands_it(echo: EchoServer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{echo.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["echo"]
        plain = await client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hi"}])
        said = 'You said: "hi". I was sent 1 message; the first user message was: "hi".'
        assert plain.choices[0].message.content == said
        streamed = await client.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in streamed]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == said
        assert chunks[-1].usage == plain.usage
        with pytest.raises(openai.BadRequestError, match="empty"):
            await client.chat.completions.create(model="echo", messages=[])
