"""What the model answered: the one place where deltas become messages."""

import msgspec

from proxy.conversation.message import Message


class Reply(msgspec.Struct, frozen=True):
    """A reply as far as it was read."""

    message: Message | None
    """Its first choice, in the valid input form, joined to the call's prefill; None: nothing to record was read."""
    whole: bool
    """It is a completion, it has come to its end, and it holds no error."""
    finish: str = ""
    """The finish reason of the first choice, "" if none came."""
    model: str = ""
    """As the upstream named it."""
    prompt_tokens: int = 0
    """As the upstream reported; 0: it did not."""
    completion_tokens: int = 0
    cached_tokens: int = 0
    error: str = ""
    """An error object stood in the stream: its code or type, no content."""
