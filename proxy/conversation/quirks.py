"""What an upstream's chat template cannot take: `[upstream]` of a policy file. Each dialect's writer obeys it."""

import msgspec


class Quirks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alternate: bool = False
    """Strict user/assistant alternation: neighbours of one role are merged."""
    one_system: bool = False
    """A single system message, first: the preamble is merged; a later system message is sent as the user's."""
    developer: str = "developer"
    """The role name sent for developer messages."""
    context_tokens: int = 0
    """What the model's context holds; 0: looked up by the model's name."""
