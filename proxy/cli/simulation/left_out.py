"""Which turns fell out of the window, and which of them a summary covers: each is counted once."""

from proxy.cli.simulation.account import Account
from proxy.cli.simulation.branch import Branches
from proxy.context.contract import Cut
from proxy.conversation.entry import Chain
from proxy.conversation.summary import Summary

_Turns = set[tuple[str, int]]
"""(entry, position) of the user's message."""


class LeftOut:
    """Of one conversation."""

    def __init__(self, branches: Branches, account: Account) -> None:
        self._branches = branches
        self._account = account
        self._dropped: _Turns = set()
        self._summarised: _Turns = set()

    def count(self, chain: Chain | None, here: Cut, summary: Summary | None) -> None:
        """`here`: where history was cut in `chain`, which was loaded last; `summary`: the one that the turn sees."""
        if chain is None or not here.anchor.start:
            return
        before = chain.head.facts.anchor
        if before is not None and before.key != here.anchor.key:
            before = None
        self._account.dropped += self._add(self._dropped, before.start if before else 0, here.anchor.start)
        if summary is not None and (before is None or before.summary != summary.id):
            since = next((each.upto for each in chain.summaries if before and each.id == before.summary), 0)
            self._account.summarised += self._add(self._summarised, since, summary.upto)

    def _add(self, counted: _Turns, first: int, upto: int) -> int:
        """The turns that start in [first, upto); how many were not there yet."""
        size = len(counted)
        for entry in self._branches.between(first, upto):
            for position, shape in enumerate(entry.facts.shapes, entry.first):
                if shape.role == "user" and first <= position < upto:
                    counted.add((entry.id, position))
        return len(counted) - size
