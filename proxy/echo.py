"""The stand-in model: answers from nothing but the messages it was sent, and says how many those were.

It speaks Chat Completions, plain and streamed, and lists one model, so that everything can be tried without a model.
The same request always gets the same reply. `call NAME {json}` as the last user message makes it call that tool.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import msgspec
import orjson
from aiohttp import web

from proxy.conversation.message import Message, ToolCall
from proxy.tokens import counter

MODEL = "echo"
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_QUOTE_CHARS = 200
"""Longer messages are quoted up to here."""

_CALL = re.compile(r"\s*call\s+([A-Za-z0-9_.-]{1,64})\s*(\{.*\})?\s*", re.DOTALL).fullmatch
_WORDS = re.compile(r"\s*\S+(?:\s+$)?")


class _Function(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: str = ""


class _Call(msgspec.Struct, frozen=True):
    id: str = ""
    function: _Function = _Function()


class _Part(msgspec.Struct, frozen=True):
    text: str | None = None


class _Said(msgspec.Struct, frozen=True):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""


class _Tool(msgspec.Struct, frozen=True):
    function: _Function = _Function()


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class _Request(msgspec.Struct, frozen=True):
    messages: list[_Said]
    model: str = MODEL
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None


class _Answer(NamedTuple):
    text: str
    call: ToolCall | None
    usage: Mapping[str, int]


_decode = msgspec.json.Decoder(_Request).decode


class EchoServer:
    """A running stand-in model."""

    def __init__(self, runner: web.AppRunner, host: str, port: int) -> None:
        self._runner = runner
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        """Without `/v1`; the port is the real one, also where 0 was asked for."""

    async def close(self) -> None:
        """Stops listening, and waits a second at most for replies under way."""
        await self._runner.cleanup()


async def start_echo(host: str = "127.0.0.1", port: int = 0) -> EchoServer:
    """Listens when this returns. Port 0 takes a free one. Raises OSError if the port is taken."""
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return EchoServer(runner, host, int(runner.addresses[0][1]))


def application() -> web.Application:
    """The stand-in model as an application, on every path that ends as Chat Completions' do."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/{prefix:(?:.*/)?}chat/completions", _complete)
    app.router.add_get("/{prefix:(?:.*/)?}models", _models)
    app.router.add_route("*", "/{path:.*}", _unknown)
    return app


async def _complete(request: web.Request) -> web.StreamResponse:
    try:
        asked = _decode(await request.read())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _error(400, f"The stand-in model cannot read the body: {error}.", "invalid_request_error", None)
    except web.HTTPRequestEntityTooLarge:
        return _error(413, "The body is too large for the stand-in model.", "invalid_request_error", None)
    if not asked.messages:
        return _error(400, "'messages' is empty; send at least one message.", "invalid_request_error", "messages")
    answer = await asyncio.to_thread(_answer, asked)  # the first count loads a vocabulary
    identity = sha256(repr((answer.text, answer.call)).encode()).hexdigest()[:24]
    head: dict[str, object] = {"id": f"chatcmpl-{identity}", "created": 0, "model": asked.model}
    if asked.stream:
        include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
        return await _stream(request, head, answer, include_usage=include_usage)
    message: dict[str, object] = {"role": "assistant", "content": None if answer.call else answer.text, "refusal": None}
    if answer.call:
        message["tool_calls"] = [_call(answer.call)]
    return _json(
        200,
        {
            **head,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}],
            "usage": answer.usage,
        },
    )


async def _stream(
    request: web.Request, head: Mapping[str, object], answer: _Answer, *, include_usage: bool
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)

    async def send(delta: Mapping[str, object], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        await _event(response, {**head, "object": "chat.completion.chunk", "choices": [choice]})

    await send({"role": "assistant", "content": None if answer.call else "", "refusal": None})
    if answer.call:
        call, arguments = _call(answer.call), answer.call.arguments
        await send({"tool_calls": [{"index": 0, **call, "function": {"name": answer.call.name, "arguments": ""}}]})
        for part in (arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]):
            await send({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
    else:
        for word in _WORDS.findall(answer.text):
            await send({"content": word})
    await send({}, _finish(answer))
    if include_usage:
        await _event(response, {**head, "object": "chat.completion.chunk", "choices": [], "usage": answer.usage})
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def _event(response: web.StreamResponse, value: Mapping[str, object]) -> None:
    await response.write(b"data: " + orjson.dumps(value) + b"\n\n")


def _answer(asked: _Request) -> _Answer:
    said = asked.messages
    users = [message.text for message in said if message.role == "user"]
    call = _wanted_call(said, asked.tools or ())
    if said[-1].role == "tool":
        text = f"The tool said: {_quote(said[-1].text)}. "
    elif users:
        text = f"You said: {_quote(users[-1])}. "
    else:
        text = ""
    text += f"I was sent {len(said)} message{'s' if len(said) > 1 else ''}"
    text += f"; the first user message was: {_quote(users[0])}." if users else "."
    prompt = counter.PRIMING_TOKENS + sum(counter.count(_message(each), asked.model) for each in said)
    made = f"{call.name}{call.arguments}" if call else text
    completion = counter.count_text(made, asked.model)
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return _Answer("" if call else text, call, usage)


def _wanted_call(said: Sequence[_Said], tools: Sequence[_Tool]) -> ToolCall | None:
    wanted = _CALL(said[-1].text) if said[-1].role == "user" else None
    if wanted is None or wanted[1] not in {tool.function.name for tool in tools}:
        return None
    identity = sha256(f"{len(said)}\0{wanted[0]}".encode(errors="replace")).hexdigest()[:24]
    return ToolCall(f"call_{identity}", wanted[1], wanted[2] or "{}")


def _message(said: _Said) -> Message:
    calls = tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in said.tool_calls or ())
    return Message(said.role, b"", said.text, calls=calls)


def _call(call: ToolCall) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _finish(answer: _Answer) -> str:
    return "tool_calls" if answer.call else "stop"


def _quote(text: str) -> str:
    shown = text if len(text) <= MAX_QUOTE_CHARS else text[: MAX_QUOTE_CHARS - 1] + "…"
    return f'"{shown}"'


async def _models(_: web.Request) -> web.Response:
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "remora"}
    return _json(200, {"object": "list", "data": [model]})


async def _unknown(request: web.Request) -> web.Response:
    message = f"The stand-in model does not answer {request.method} {request.path}; it speaks chat completions only."
    return _error(404, message, "invalid_request_error", None)


def _error(status: int, message: str, kind: str, param: str | None) -> web.Response:
    return _json(status, {"error": {"message": message, "type": kind, "param": param, "code": None}})


def _json(status: int, value: Mapping[str, object]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
