"""What decides the context: the settings of each part, what there is room for, and the plan that comes out."""

from typing import Literal

import msgspec

from proxy.conversation.entry import Anchor, Entry
from proxy.conversation.message import Shape
from proxy.conversation.words import Choose, Wanted


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[window]` of a policy file: how much history goes upstream."""

    max_tokens: int | str = 0
    """At most so many tokens of kept turns; "fit": what the model's context holds; 0: no limit."""
    trim_to: float = 0.5
    """When the kept turns no longer fit, they are cut back to this share (0 < trim_to <= 1)."""
    max_turns: int = 0
    """At most so many kept turns; 0: no limit. `trim_to` applies."""


class Summarise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[summary]` of a policy file: what falls out of the window becomes a rolling summary."""

    max_tokens: int = 800
    """A summary may be so long."""
    model: str = ""
    """That writes it; "": the request's own, which has read the same prefix before."""
    prompt: str = ""
    """What it is asked; "": the built-in prompt. `{max_tokens}` and `{max_words}` stand for the limit."""
    role: Literal["system", "user"] = "system"
    """Where it goes: into the first system message, or into a user's message of its own, first of all."""
    timeout: str = "30s"


class Recall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[recall]` of a policy file: old turns that bear on the new message."""

    max_tokens: int = 1500
    """All excerpts together may be so long ..."""
    top_k: int = 32
    """... and be so many."""
    min_score: float = 0.3
    """Of 1, below which nothing is recalled. See `proxy.context.recall`."""
    method: Literal["keywords", "embeddings", "both"] = "keywords"
    model: str = ""
    """That makes the vectors, for `embeddings` and `both`."""
    timeout_ms: int = 300
    """How long the vector of the new message may take; after that keywords serve alone."""


class Search(msgspec.Struct, frozen=True):
    """A need: entries of the chain that are chosen by where these terms stand on it. Sent `Sequence[Entry]`, as to
    `Pick`. Its two functions may be called in another thread, each at most once, while the planner waits."""

    terms: tuple[bytes, ...]
    wanted: Wanted
    choose: Choose
    """Gives each position once, ascending."""


class Embed(msgspec.Struct, frozen=True):
    """A need: the vector of this text, and those on the chain. Sent `Embedded`, None if it failed or was late."""

    text: str


class Embedded(msgspec.Struct, frozen=True):
    vector: bytes
    """Little-endian 32-bit floats, of length 1 as a vector."""
    positions: bytes
    """Little-endian unsigned 32-bit, ascending: of the messages that have a vector ..."""
    matrix: bytes
    """... and these, 16-bit floats, one behind the other, each of length 1."""


class Pick(msgspec.Struct, frozen=True):
    """A need: the entries that hold these positions. Sent `Sequence[Entry]`, oldest first."""

    positions: tuple[int, ...]


class Excerpt(msgspec.Struct, frozen=True, array_like=True):
    """One piece that was recalled."""

    turn: int
    first: int
    """It is taken from the messages at positions `first` to `upto - 1`."""
    upto: int
    tokens: int
    score: float


class Recalled(msgspec.Struct, frozen=True):
    """What is merged into the turn's user message."""

    text: str
    tokens: int
    excerpts: tuple[Excerpt, ...]
    """As they stand in `text`."""


class Budget(msgspec.Struct, frozen=True):
    """What one request leaves for history."""

    key: str
    """Of the policy's window and the model's limit. An anchor made under another key is not inherited."""
    max_tokens: int | None
    """For the kept turns, in the counter's own units (already divided by the upstream's ratio); None: no limit."""
    trim_to: float
    max_turns: int


class Read(msgspec.Struct, frozen=True):
    """A need: the entries of the chain that hold a position in [first, upto). Yielded by a planner that turns out to
    want more than was loaded, which is then sent `Sequence[Entry]`."""

    first: int
    upto: int


class Cut(msgspec.Struct, frozen=True):
    """Where history is cut for one exchange."""

    anchor: Anchor
    kept: int
    """Messages of history that are kept ..."""
    dropped: int
    """... and those that are not."""
    tokens: int
    """Of the kept ones."""
    why: str
    """One line: which limit decided, in figures."""
    entries: tuple[Entry, ...] = ()
    """Those that hold the kept messages from `anchor.resume` on, oldest first, without gaps."""
    opening: tuple[Entry, ...] = ()
    """Where `anchor.resume` is behind `anchor.start`: those that hold the opening of the turn at `anchor.start` ..."""
    opened: int = 0
    """... and the position at which that opening ends; else 0."""


class Own(msgspec.Struct, frozen=True):
    """What the client's request itself holds, preamble and prefill aside."""

    new: tuple[tuple[Shape, bytes], ...]
    """Messages that are not recorded yet, with the client's bytes."""
    known: tuple[tuple[Shape, bytes], ...] = ()
    """Messages before them that are recorded, with the client's bytes (the tokens of these shapes may be 0) ..."""
    offset: int = 0
    """... and the position on the chain of the first of them."""
    pinned: bool = False
    """`known` is a lead (few-shot examples) that is always sent, first, also where the window dropped it."""
    amended: tuple[int, bytes] | None = None
    """(position, bytes): this kept message travels as these bytes, whoever's it is."""


class Context(msgspec.Struct, frozen=True):
    """What goes upstream in place of the client's messages."""

    messages: tuple[bytes, ...]
    """Runs of messages' bytes, each one message or several joined by commas; the new messages are the last."""
    repaired: bool
    """Calls were answered by a stand-in, or results moved to their call or left out."""
    unchanged: bool
    """It is just what the client sent, so that its body may travel as it is."""


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """The decision for one exchange. Recorded with the entry, as JSON."""

    policy: str
    anchor: Anchor
    upto: int
    """Messages on the chain that the context was made from ..."""
    head: str
    """... and the id of its newest entry, "" for none."""
    kept: int
    """Messages of history that stand in the context before the request's own."""
    dropped: int
    """Messages of history that do not."""
    tokens: int
    """Of the kept ones, as counted."""
    why: str
    """One line: which limit decided, in figures. No content."""
    limit: int | None = None
    """The budget in tokens; None: none."""
    repaired: bool = False
    """Calls were answered by a stand-in, or results moved to their call."""
    history: str = "delta"
    """How the request was read: `delta` or `whole`."""
    branch: bool = False
    """The context was not made from the head."""
    summary: str = ""
    """The id of the summary that the turn saw, "" for none ..."""
    generation: int = 0
    summarised: int = 0
    """... which stands for so many messages from the root on ..."""
    summary_tokens: int = 0
    """... and weighs so much."""
    recalled: tuple[Excerpt, ...] = ()
    recalled_tokens: int = 0
    """Of the text that was merged into the user's message."""
    overflow: str = ""
    """What the upstream said of a first, longer context, in figures; "" if there was none."""
