"""The figures of all policies as a table for people."""

from collections.abc import Sequence

from proxy.cli.simulation.account import Row

_COUNTS = ("requests", "input", "cached", "cost", "prompt cost", "largest", "dropped", "summarised", "recalled")
_TITLES = ("policy", *_COUNTS)


def table(rows: Sequence[Row]) -> str:
    """One line a policy under a line of titles, each column as wide as it must be. Ends with a line break."""
    cells = [_TITLES, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_TITLES))]
    lines: list[str] = []
    for name, *figures in cells:
        right = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *right]))
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    whole = (row.requests, row.input_tokens, row.cached_tokens, round(row.cost), round(row.prompt_cost))
    rest = (row.largest, row.dropped, row.summarised, row.recalled)
    return (row.policy, *[f"{figure:,}" for figure in (*whole, *rest)])
