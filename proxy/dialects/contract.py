"""What a dialect is: one wire API, read into calls and replies, written back with another history. No I/O.

A dialect is a module-level value in its file, listed in `DIALECTS` of `proxy/dialects/__init__.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from proxy.conversation.message import Message
from proxy.conversation.quirks import Quirks
from proxy.conversation.reply import Reply
from proxy.errors import ProxyError
from proxy.framing.members import Members


class Call(msgspec.Struct, frozen=True):
    """A client's request, read."""

    members: Members
    """The body, split into raw members."""
    model: str
    """"" if the body names none."""
    stream: bool
    choices: int
    """How many replies were asked for (`n`); the first is recorded."""
    preamble: tuple[Message, ...]
    """The leading run of system and developer messages."""
    messages: tuple[Message, ...]
    """The rest, without the prefill."""
    prefill: Message | None
    """A trailing assistant message (without calls), which the reply continues."""
    reserve: int | None
    """Tokens that the request allows for the reply; None: it does not say."""
    overhead: bytes
    """Members that weigh beside the messages (tools, response formats), for the token count."""


class Reader(Protocol):
    """Reads a reply along while it is relayed. Bytes go in as they came; the same bytes come out, in two parts."""

    def feed(self, chunk: bytes) -> bytes:
        """Takes the next bytes; returns those that may go to the client now. The rest is held: an unfinished event,
        and everything from the reply's first terminal event on. Of a plain reply, everything is held.

        Raises UpstreamReplyTooLarge beyond 64 MiB of reply."""

    def end(self) -> None:
        """The body has come to its clean end: what is held as an unfinished event is part of it, and a reply that
        nothing marks as ended has ended. May be called twice."""

    @property
    def ended(self) -> bool:
        """A terminal event has been seen, or the clean end: what is missing is at most usage and the end marker."""

    @property
    def done(self) -> bool:
        """The end marker or the clean end has been seen: nothing more is expected."""

    @property
    def held(self) -> bytes:
        """The bytes that are held."""

    def release(self) -> bytes:
        """Gives out the held bytes, and holds none any more."""

    def reply(self) -> Reply:
        """What has been read so far, as a reply; may be asked at any time, ended or not."""


class Dialect(Protocol):
    """One wire API."""

    name: str

    def speaks(self, method: str, path: str) -> bool:
        """This method and path generate a reply in this dialect."""

    def read(self, body: bytes) -> Call:
        """Raises InvalidBody with the member's name in `param`. The body may be hostile."""

    def write(self, call: Call, preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks) -> bytes:
        """The call's body with another history: `preamble` and `messages` are runs of messages' bytes, each one
        message or several joined by commas; the call's prefill is put behind them. Every other member keeps its
        bytes and its place. With no quirk set, the runs are joined as they are."""

    def no_result(self, call_id: str) -> bytes:
        """The message that answers a call which nobody answered; the same bytes each time."""

    def said(self, role: str, text: str) -> bytes:
        """A message that holds a text and nothing else."""

    def amended(self, wire: bytes, text: str, *, before: bool) -> bytes:
        """A message's bytes with `text` put before or behind what it says, an empty line between. Its other members
        keep their bytes."""

    def aside(self, call: Call) -> bytes:
        """What a request of the proxy's own takes from `call`: a JSON object of the members that bear on what the
        model reads and how it samples, so that a prefix which was read for `call` is read from the provider's cache.
        Tools are there but may not be called. The messages are not."""

    def ask(
        self, aside: bytes, preamble: Sequence[bytes], messages: Sequence[bytes], quirks: Quirks, model: str
    ) -> bytes:
        """The body of such a request, for a plain reply: `preamble` and `messages` (as in `write`) are all it says.
        `model` "": the call's."""

    def messages(self, wire: bytes) -> tuple[Message, ...]:
        """Stored messages, joined by commas, read again."""

    def reader(self, call: Call, *, stream: bool) -> Reader:
        """A reader for the reply to `call`. `stream`: the reply is an event stream (its content type says so)."""

    def settle(self, message: Message, *, tool_turn: bool) -> Message:
        """The reply's message as it is recorded. `tool_turn`: calls were made earlier in its turn; then reasoning that
        must be sent back for such turns moves from `aside` to `wire`."""

    def full(self, wire: bytes, aside: bytes) -> bytes:
        """A stored message with what it holds beyond its wire bytes put back, as JSON for reading and export."""

    def error(self, error: ProxyError) -> bytes:
        """The body of an error reply, JSON."""

    def error_event(self, error: ProxyError) -> bytes:
        """The bytes that tell of an error in the middle of a stream."""


class Asked(Protocol):
    """A request of another API, as one of the dialect that the upstream speaks."""

    @property
    def chat(self) -> bytes:
        """The body of that request, without the instructions."""

    @property
    def instructions(self) -> bytes:
        """A message that is shown first and not carried over, b"" for none."""

    @property
    def model(self) -> str: ...

    @property
    def stream(self) -> bool: ...

    @property
    def store(self) -> bool:
        """The client may ask for it again."""

    @property
    def background(self) -> bool:
        """The client does not wait for it."""

    @property
    def previous(self) -> str:
        """The id of the response that it goes on from, "" for none."""

    @property
    def conversation(self) -> str:
        """The id of the conversation that it is part of, "" for none."""

    @property
    def truncates(self) -> bool | None:
        """What does not fit may be left out (True), or the request shall be refused (False); None: not said."""

    @property
    def items(self) -> tuple[bytes, ...]:
        """The request's own input, JSON objects with ids."""


class Transcoder(Protocol):
    """Turns the upstream's stream into that of the other API. What it gives out are whole events."""

    def begin(self) -> bytes: ...

    def feed(self, data: bytes) -> bytes:
        """Bytes of the one stream, cut anywhere -> of the other."""

    def settle(self, data: bytes, answer: dict[str, object]) -> tuple[bytes, dict[str, object]]:
        """Takes the last of the stream. Returns what closes the items of the finished reply, and the reply with its
        items as they were streamed; only `end` or `error` may follow."""

    def end(self, answer: dict[str, object]) -> bytes:
        """Closes what is open; `answer` is the finished reply, whatever its status."""

    def error(self, code: str, message: str) -> bytes:
        """Tells of an error in the middle."""


class Piece(msgspec.Struct, frozen=True):
    """One message of the upstream's dialect, and what it was made from."""

    wire: bytes
    items: tuple[int, ...]
    """The places of the items that it says."""


class Translation(Protocol):
    """A stateful API over the upstream's stateless dialect. `id`: 48 hex digits that the reply is called by."""

    @property
    def path(self) -> str:
        """Where the upstream takes what `Asked.chat` is, in place of the path's `/responses`."""

    def references(self, body: bytes) -> tuple[str, ...]:
        """The ids of stored items that the input refers to, each once. What is malformed is left to `read`."""

    def read(self, body: bytes, id: str, known: Mapping[str, bytes]) -> Asked:
        """`known`: the stored items that are referred to, by their ids. Raises InvalidBody with the member's name in
        `param`, NotFound for a reference to an item that is not known."""

    def read_items(self, items: object, id: str, known: Mapping[str, bytes], *, member: str) -> tuple[bytes, ...]:
        """Items that a client adds (JSON as decoded, a list named `member`), each as JSON with an id of ours whatever
        id it came with. Raises InvalidBody, NotFound."""

    def pieces(self, items: Sequence[bytes]) -> tuple[Piece, ...]:
        """The messages that these items, input or output, say together, in their order."""

    def answer(
        self, asked: Asked, id: str, created_at: int, answer: Reply, *, status: str | None = None
    ) -> dict[str, object]:
        """The finished response. Without `status` the reply says it; `cancelled` and `failed` can be said of any."""

    def unfinished(self, asked: Asked, id: str, created_at: int, status: str) -> dict[str, object]:
        """The response before its reply has come: `queued`, `in_progress`, `cancelled`, or `failed`, without output."""

    def failed(self, answer: dict[str, object], code: str, message: str) -> dict[str, object]:
        """The response as one that failed."""

    def settled(self, answer: Reply, id: str) -> Reply:
        """The reply as it is recorded: calls that the upstream gave no id have the one that the response gives them."""

    def transcoder(self, asked: Asked, id: str, created_at: int) -> Transcoder: ...

    def whole(self, answer: dict[str, object]) -> bytes:
        """The stream of a reply that is there already."""

    def compaction(
        self, items: Sequence[bytes], summary: str, id: str, created_at: int, usage: Reply
    ) -> dict[str, object]:
        """The answer to a request for compaction: an item that stands for `items`, which `pieces` reads again."""
