"""What decides the context: the settings of each part, what there is room for, and the plan that comes out."""

import msgspec

from proxy.conversation.entry import Anchor, Entry
from proxy.conversation.message import Shape


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[window]` of a policy file: how much history goes upstream."""

    max_tokens: int | str = 0
    """At most so many tokens of kept turns; "fit": what the model's context holds; 0: no limit."""
    trim_to: float = 0.5
    """When the kept turns no longer fit, they are cut back to this share (0 < trim_to <= 1)."""
    max_turns: int = 0
    """At most so many kept turns; 0: no limit. `trim_to` applies."""


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
