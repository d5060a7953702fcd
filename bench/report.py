"""Samples -> Markdown: the tables, the targets with their marks, and RESULTS.md's sections. Pure."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from bench.sample import Samples, Target, rate

LABELS = {
    "stub": "stub, direct",
    "bare": "bare aiohttp proxy",
    "nginx": "nginx",
    "pass": "Remora, pass-through",
    "litellm": "LiteLLM proxy",
}
STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "redis": "Redis"}
SSE_CONNECTIONS = 16
LONG, SHORT = 520, 20
"""Events of the streams that a chunk's cost is taken from."""
SLOW = 1000


def label(case: str) -> str:
    store, of_store, depth = case.partition("-")
    if of_store:
        return f"{STORES[store]}, {f'{int(depth):,} turns' if depth.isdecimal() else 'in line'}"
    return LABELS.get(case) or f"Remora, stateful, {int(case[1:]):,} turns"


def number(value: float, digits: int = 0) -> str:
    return "–" if math.isnan(value) else f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def load_table(samples: Samples, kind: str, cases: Sequence[str], connections: Sequence[int]) -> str:
    head = ["", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs a request", "× bare"]
    rows = []
    for at in connections:
        for case in cases:
            cpu_ratio = samples.ratio(case, "bare", kind, at, lambda s: s.cpu_us)
            rows.append(
                [
                    label(case),
                    str(at),
                    number(samples.median(case, kind, at, rate)),
                    number(samples.median(case, kind, at, lambda s: s.p50_ms), 2),
                    number(samples.median(case, kind, at, lambda s: s.p99_ms), 2),
                    number(samples.median(case, kind, at, lambda s: s.cpu_us)),
                    number(cpu_ratio, 2),
                ]
            )
    return table(head, rows)


def chunk_table(samples: Samples, cases: Sequence[str]) -> str:
    head = ["", "CPU µs a chunk", "× bare", "client reads a chunk"]
    rows = [
        [
            label(case),
            number(samples.chunk_us(case, SSE_CONNECTIONS, LONG - SHORT), 1),
            number(samples.chunk_ratio(case, "bare", SSE_CONNECTIONS, LONG - SHORT), 2),
            number(samples.median(case, "long", SSE_CONNECTIONS, lambda s: s.pieces) / (LONG + 3), 2),
        ]
        for case in cases
    ]
    return table(head, rows)


def first_table(samples: Samples, cases: Sequence[str], connections: Sequence[int]) -> str:
    head = ["", *[f"p50 ms at {at}" for at in connections]]
    rows = [
        [label(case), *[number(samples.median(case, "first", at, lambda s: s.first_ms), 2) for at in connections]]
        for case in cases
    ]
    return table(head, rows)


def slow_table(samples: Samples) -> str:
    rows = [
        [label(s.case), f"{s.requests:,}", f"{s.at_once:,}", str(s.errors), number(s.rss_mb)]
        for s in samples.all
        if s.kind == "slow"
    ]
    return table(["", "streams", "under way at once", "errors", "memory (RSS) MB"], rows)


def memory_line(samples: Samples, cases: Sequence[str], idle_mb: Mapping[str, float]) -> str:
    parts = []
    for case in cases:
        most = max(
            (s.rss_mb for s in samples.all if s.case == case and s.kind in ("plain", "stream")), default=math.nan
        )
        parts.append(f"{label(case)} {number(most)}")
    idle = ", ".join(f"{name} {number(mb)}" for name, mb in idle_mb.items())
    return f"Memory (RSS, MB), the most seen after a case's runs: {'; '.join(parts)}. Before the runs: {idle}."


def context_line(samples: Samples, cases: Sequence[str]) -> str:
    """What the proxy itself said that it put in front of the message, in the newest reply of each case."""
    parts = []
    for case in cases:
        heads = [s.sample for s in samples.all if s.case == case and s.kind == "plain" and s.sample]
        found = re.search(r"(?im)^x-session-context: (.*?)\r?$", heads[-1]) if heads else None
        turn = re.search(r"(?im)^x-session-turn: (\d+)", heads[-1]) if heads else None
        if found and turn:
            parts.append(f"{label(case)}: turn {int(turn[1]):,}, `{found[1].strip()}`")
    return "Last replies: " + "; ".join(parts) + "." if parts else ""


def targets(samples: Samples, depths: Sequence[int]) -> list[Target]:
    """The figures to be reached, worst depth first where there are several."""

    def worst(kind: str) -> float:
        ratios = [samples.ratio(f"s{d}", "bare", kind, 16, lambda s: s.cpu_us) for d in depths]
        known = [r for r in ratios if not math.isnan(r)]
        return max(known, default=math.nan)

    found: list[Target] = []
    for kind in ("plain", "stream"):
        name = "plain" if kind == "plain" else "streamed"
        found += [
            Target(f"stateful CPU, {name}, at 16, worst depth, to bare (aim: 1.75)", 2.2, worst(kind)),
            Target(
                f"10,000 turns to 100 turns, CPU, {name}, at 16",
                1.1,
                samples.ratio("s10000", "s100", kind, 16, lambda s: s.cpu_us),
            ),
            Target(
                f"pass-through CPU, {name}, at 16, to bare",
                1.15,
                samples.ratio("pass", "bare", kind, 16, lambda s: s.cpu_us),
            ),
        ]
    for case in ("pass", "s100"):
        found.append(
            Target(
                f"a relayed SSE chunk's CPU, {label(case)}, to bare",
                1.3,
                samples.chunk_ratio(case, "bare", SSE_CONNECTIONS, LONG - SHORT),
            )
        )
    for case in ("pass", "s100", "s10000"):
        first = samples.median(case, "first", 1, lambda s: s.first_ms)
        bare = samples.median("bare", "first", 1, lambda s: s.first_ms)
        found.append(Target(f"time to first chunk, {label(case)}, beyond bare", 1.0, first - bare, "ms"))
    for case in ("pass", "s100"):
        slow = [s for s in samples.all if s.kind == "slow" and s.case == case]
        broken = float(sum(s.errors + SLOW - s.at_once for s in slow)) if slow else math.nan
        found.append(Target(f"{SLOW:,} slow streams at once, {label(case)}: errors or streams missing", 0, broken, ""))
    return found


def target_table(found: Iterable[Target], digits: int = 2) -> str:
    rows = [
        [t.what, f"{t.limit:.4g} {t.unit}".strip(), f"{number(t.value, digits)} {t.unit}".strip(), t.mark]
        for t in found
    ]
    return table(["to reach", "at most", "measured", ""], rows)


def at_least(what: str, limit: float, value: float, *, possible: float = math.inf, unit: str = "×") -> list[str]:
    """A row of `wanted_table`. `possible`: what could have been reached at all; where that is too little, nothing was
    shown either way."""
    if math.isnan(value):
        mark = "not measured"
    elif value >= limit:
        mark = "PASS"
    else:
        mark = "SHORT" if possible >= limit else "not to be seen here"
    return [what, f"at least {limit:.4g} {unit}".strip(), f"{number(value, 2)} {unit}".strip(), mark]


def at_most(target: Target) -> list[str]:
    """A row of `wanted_table`."""
    limit, value = f"at most {target.limit:.4g} {target.unit}", f"{number(target.value, 2)} {target.unit}"
    return [target.what, limit.strip(), value.strip(), target.mark]


def wanted_table(rows: Iterable[Sequence[str]]) -> str:
    return table(["to reach", "wanted", "measured", ""], rows)


def merge(page: str, section: str, text: str) -> str:
    """`page` with one section replaced (or added at its end); the others stay as they are."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    block = f"{begin}\n{text.strip()}\n{end}\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end) + "\n?", re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page, count=1)
    return f"{page.rstrip()}\n\n{block}" if page.strip() else block
