"""One figure of one run, and how figures of many runs are put together. Pure."""

import math
import statistics
from collections.abc import Callable, Iterable

import msgspec


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one case."""

    case: str
    """`stub`, `bare`, `pass`, `s10`, `s100`, …"""
    kind: str
    """`plain`, `stream` (load runs), `short`, `long` (streams whose events come one by one), `first` (first chunk),
    `slow` (many slow streams)."""
    connections: int
    round: int
    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    first_ms: float
    cpu_us: float
    """CPU of the server under test, for each request."""
    rss_mb: float
    """Of the server under test, after the run."""
    pieces: float
    at_once: int
    sample: str = ""
    """The head of a reply."""
    fault: str = ""


Get = Callable[[Sample], float]


def rate(sample: Sample) -> float:
    """Requests a second."""
    return sample.requests / sample.seconds


class Samples:
    """All samples of a measurement, to be asked for medians."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.all = tuple(samples)

    def select(self, case: str, kind: str, connections: int) -> list[Sample]:
        return [s for s in self.all if (s.case, s.kind, s.connections) == (case, kind, connections)]

    def median(self, case: str, kind: str, connections: int, get: Get) -> float:
        """Over the rounds; NaN where nothing was measured."""
        values = [get(s) for s in self.select(case, kind, connections)]
        return statistics.median(values) if values else math.nan

    def ratio(self, case: str, base: str, kind: str, connections: int, get: Get) -> float:
        """The median of the rounds' own ratios, so that a slow moment of the machine weighs on both sides alike."""
        bases = {s.round: get(s) for s in self.select(base, kind, connections)}
        ratios = [get(s) / bases[s.round] for s in self.select(case, kind, connections) if bases.get(s.round)]
        return statistics.median(ratios) if ratios else math.nan

    def chunk_us(self, case: str, connections: int, chunks: int, round_: int | None = None) -> float:
        """CPU for one relayed chunk: what a stream that is `chunks` events longer costs more; the median of rounds."""
        short = {s.round: s.cpu_us for s in self.select(case, "short", connections)}
        costs = [
            (s.cpu_us - short[s.round]) / chunks
            for s in self.select(case, "long", connections)
            if s.round in short and round_ in (None, s.round)
        ]
        return statistics.median(costs) if costs else math.nan

    def chunk_ratio(self, case: str, base: str, connections: int, chunks: int) -> float:
        """Of `chunk_us`, round by round."""
        rounds = {s.round for s in self.select(case, "long", connections)}
        ratios = [
            self.chunk_us(case, connections, chunks, r) / self.chunk_us(base, connections, chunks, r) for r in rounds
        ]
        return statistics.median(ratios) if ratios else math.nan

    def faults(self) -> list[str]:
        """One line for each run that had errors."""
        return [
            f"{s.case} {s.kind} at {s.connections}, round {s.round}: {s.errors} errors, first: {s.fault}"
            for s in self.all
            if s.errors
        ]


class Target(msgspec.Struct, frozen=True):
    """A figure that is to be reached."""

    what: str
    limit: float
    value: float
    """NaN: not measured."""
    unit: str = "×"

    @property
    def mark(self) -> str:
        if math.isnan(self.value):
            return "not measured"
        return "PASS" if self.value <= self.limit else "SHORT"
