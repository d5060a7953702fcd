"""What stands before the history in a context: the preamble, with the summary merged into it."""

from proxy.context import summary as rolling
from proxy.context.contract import Summarise
from proxy.conversation.entry import Preamble
from proxy.conversation.summary import Summary
from proxy.dialects.contract import Dialect

Lead = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""(the preamble's messages, messages behind it), each a run of messages' bytes."""


def lead(dialect: Dialect, settings: Summarise | None, preamble: Preamble | None, summary: Summary | None) -> Lead:
    """The same bytes for the same preamble and summary, so that a provider's cache knows them again."""
    wire = preamble.wire if preamble else b""
    if summary is None or settings is None:
        return ((wire,) if wire else ()), ()
    text = rolling.shown(summary)
    if settings.role == "user":
        return ((wire,) if wire else ()), (dialect.said("user", text),)
    if not wire:
        return (dialect.said("system", text),), ()
    messages = dialect.messages(wire)
    at = next((n for n, message in enumerate(messages) if message.role == "system"), 0)
    return tuple(
        dialect.amended(message.wire, text, before=False) if n == at else message.wire
        for n, message in enumerate(messages)
    ), ()
