"""The Responses API onto an upstream that speaks it itself and keeps nothing.

https://platform.openai.com/docs/api-reference/responses, and the Open Responses specification.
"""

from collections.abc import Sequence
from functools import partial

import orjson

from proxy.conversation.message import Message
from proxy.conversation.quirks import Quirks
from proxy.dialects.contract import Call, Dialect, Reader
from proxy.dialects.reading import PlainReader
from proxy.dialects.responses.native import amend, read, reader, replies, runs, write
from proxy.errors import ProxyError


class Native:
    """See `Dialect`."""

    name = "responses"

    def speaks(self, method: str, path: str) -> bool:
        return method == "POST" and path.rstrip("/").endswith("/responses")

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
        return tuple(runs.read_list(b"[%b]" % wire))

    def reader(self, call: Call, *, stream: bool) -> Reader:
        return reader.NativeStream(call) if stream else PlainReader(partial(replies.from_body, call=call))

    def settle(self, message: Message, *, tool_turn: bool) -> Message:  # noqa: ARG002 - the contract's
        """Reasoning that can be sent back is in the message already, in every turn."""
        return message

    def full(self, wire: bytes, aside: bytes) -> bytes:
        """The item of a message that is one, else the list of its items."""
        return runs.full(wire, aside)

    def error(self, error: ProxyError) -> bytes:
        described = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
        return orjson.dumps({"error": described})

    def error_event(self, error: ProxyError) -> bytes:
        """The SDK's flat `error` event; how many events came before is not known here, so its number is 0."""
        described = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return b"event: error\ndata: %b\n\n" % orjson.dumps({**described, "sequence_number": 0})


NATIVE: Dialect = Native()
