"""A context -> the pieces of a prompt with their tokens: messages, and where a summary is merged in, parts of one.

The bytes of a piece only serve to tell prompts apart.
"""

from collections.abc import Sequence

from proxy.cli.simulation.prefix import Piece
from proxy.cli.simulation.transcript import Exchange
from proxy.context import summary
from proxy.context.contract import Summarise
from proxy.conversation.entry import Entry
from proxy.conversation.summary import Summary
from proxy.dialects.contract import Dialect
from proxy.tokens import counter

FRAME = counter.MESSAGE_TOKENS + counter.ROLE_TOKENS
"""Of a message of its own."""


class Prompts:
    """Of one conversation; remembers what its messages weigh."""

    def __init__(self) -> None:
        self._tokens: dict[bytes, int] = {}
        self._runs: dict[bytes, tuple[Piece, ...]] = {}

    def know(self, exchange: Exchange) -> None:
        for message, tokens in (*exchange.new, *exchange.reply):
            self.weighs(message.wire, tokens)

    def recorded(self, entry: Entry) -> None:
        """Its bytes will come back as one run."""
        self._runs[entry.wire] = tuple((wire, shape.tokens) for _, shape, wire in entry.messages())

    def weighs(self, wire: bytes, tokens: int) -> None:
        """A message that will come as a run of its own."""
        self._tokens[wire] = tokens

    def lead(self, exchange: Exchange, settings: Summarise | None, seen: Summary | None) -> list[Piece]:
        """What stands before the history, as `proxy.exchange.lead` makes it."""
        pieces = [(message.wire, tokens) for message, tokens in exchange.preamble]
        if seen is None or settings is None:
            return pieces
        text = seen.id.encode()
        if settings.role == "user" or not pieces:
            return [*pieces, (text, seen.tokens + FRAME)]
        roles = [message.role for message, _ in exchange.preamble]
        behind = 1 + (roles.index("system") if "system" in roles else 0)
        return [*pieces[:behind], (text, seen.tokens), *pieces[behind:]]

    def messages(self, runs: Sequence[bytes], model: str, dialect: Dialect) -> list[Piece]:
        """Of runs of messages' bytes."""
        pieces: list[Piece] = []
        for run in runs:
            known = self._runs.get(run)
            if known is not None:
                pieces += known
            elif (tokens := self._tokens.get(run)) is not None:
                pieces.append((run, tokens))
            else:
                pieces += [(each.wire, self._weight(each.wire, model, dialect)) for each in dialect.messages(run)]
        return pieces

    def _weight(self, wire: bytes, model: str, dialect: Dialect) -> int:
        known = self._tokens.get(wire)
        if known is None:
            # a stand-in for a result that never came
            known = self._tokens[wire] = sum(counter.count(message, model) for message in dialect.messages(wire))
        return known

    def instruction(self, asked: Summarise, model: str) -> Piece:
        """The message that asks for a summary."""
        text = summary.prompt(asked.prompt, asked.max_tokens)
        return b"instruction", FRAME + counter.count_text(text, model)
