"""Chat Completions (https://platform.openai.com/docs/api-reference/chat), as OpenAI and everyone else speaks it."""

from collections.abc import Sequence
from functools import partial

import orjson

from proxy.conversation.message import Message
from proxy.conversation.quirks import Quirks
from proxy.dialects.chat import amend, compose, deltas, read, reader, write
from proxy.dialects.contract import Call, Dialect, Reader
from proxy.dialects.reading import PlainReader
from proxy.errors import ProxyError


class Chat:
    """See `Dialect`."""

    name = "chat"

    def speaks(self, method: str, path: str) -> bool:
        return method == "POST" and path.rstrip("/").endswith("/chat/completions")

    def read(self, body: bytes) -> Call:
        return read.read(body)

    def write(self, call: Call, preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks) -> bytes:
        return write.write(call, preamble, messages, quirks)

    def no_result(self, call_id: str) -> bytes:
        return write.no_result(call_id)

    def said(self, role: str, text: str) -> bytes:
        return amend.said(role, text)

    def amended(self, wire: bytes, text: str, *, before: bool) -> bytes:
        return amend.amended(wire, text, before=before)

    def aside(self, call: Call) -> bytes:
        return amend.aside(call)

    def ask(
        self, aside: bytes, preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks, model: str
    ) -> bytes:
        return amend.ask(aside, preamble, messages, quirks, model)

    def messages(self, wire: bytes) -> tuple[Message, ...]:
        return tuple(read.read_messages(b"[%b]" % wire))

    def reader(self, call: Call, *, stream: bool) -> Reader:
        return reader.ChatStream(call) if stream else PlainReader(partial(deltas.from_body, call=call))

    def settle(self, message: Message, *, tool_turn: bool) -> Message:
        return compose.settle(message, tool_turn=tool_turn)

    def full(self, wire: bytes, aside: bytes) -> bytes:
        return compose.full(wire, aside)

    def error(self, error: ProxyError) -> bytes:
        described = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
        return orjson.dumps({"error": described})

    def error_event(self, error: ProxyError) -> bytes:
        return b"data: %b\n\n" % self.error(error)


CHAT: Dialect = Chat()
