"""A provider's prompt cache: how much of a prompt it has read before. A model of it, in tokens.

OpenAI's guide "Prompt caching": prompts of 1,024 tokens and more are cached; a hit is the longest prefix that is
exactly that of an earlier prompt, in steps of 128 tokens; what nobody used for 5 to 10 minutes is forgotten.
"""

from collections.abc import Iterable

import msgspec

SWEEP_AT = 100_000
"""Prefixes held before those that are too old are looked for."""

Piece = tuple[bytes, int]
"""The bytes of a part of a prompt, and its tokens."""


class Caching(msgspec.Struct, frozen=True):
    """How the provider caches."""

    minimum: int = 1024
    """Tokens of the shortest prefix that is cached."""
    step: int = 128
    """Tokens; a hit is a whole number of them."""
    lifetime_s: float = 300.0
    """Since its last use."""

    def rounded(self, tokens: int) -> int:
        """What a hit of so many tokens counts for."""
        return tokens - tokens % self.step if tokens >= self.minimum else 0


class PrefixCache:
    """Of one conversation. Holds what was used within the lifetime, and for a while what was not."""

    def __init__(self, caching: Caching, sweep_at: int = SWEEP_AT) -> None:
        self._caching = caching
        self._next: dict[tuple[int, bytes], int] = {}
        self._used: dict[int, float] = {}
        self._number = 0
        self._least = self._sweep_at = sweep_at

    def __len__(self) -> int:
        """Prefixes held."""
        return len(self._next)

    def read(self, prompt: Iterable[Piece], now_s: float) -> int:
        """Tokens of `prompt` that are read from the cache at this time, and remembers the prompt. A piece counts
        whole or not at all. Times must not run backwards."""
        oldest = now_s - self._caching.lifetime_s
        following, used = self._next, self._used
        node, hit, known = 0, 0, True
        for wire, tokens in prompt:
            step = node, wire
            node = following.get(step, 0)
            if not node:
                self._number = node = self._number + 1
                following[step] = node
                known = False
            elif known:
                # a prefix is used at least as late as what goes on from it
                known = used[node] >= oldest
            if known:
                hit += tokens
            used[node] = now_s
        if len(following) > self._sweep_at:
            self._sweep(oldest)
        return self._caching.rounded(hit)

    def _sweep(self, oldest: float) -> None:
        self._next = {step: node for step, node in self._next.items() if self._used[node] >= oldest}
        self._used = {node: self._used[node] for node in self._next.values()}
        self._sweep_at = max(self._least, 2 * len(self._next))
