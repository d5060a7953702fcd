"""Tokens per turn, a line a policy, as an SVG picture."""

from collections.abc import Sequence
from html import escape
from math import log10

POINTS = 600
"""Of a line at most: a point for each two pixels; beyond that neighbours are averaged."""

_WIDTH, _HEIGHT = 960, 480
_LEFT, _TOP, _RIGHT, _BOTTOM = 80, 30, 190, 50
# Okabe and Ito's colours, which those who see few colours can tell apart, and two darker ones
_COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2", "#7f7f7f", "#8c564b")
_DASHES = ("", "6 3", "2 2", "8 2 2 2")


def svg(lines: Sequence[tuple[str, Sequence[float]]]) -> str:
    """`lines`: (policy, input tokens of its first, second, … turn)."""
    turns = max([len(line) for _, line in lines], default=0) or 1
    most = _ceiling(max([max(line, default=0.0) for _, line in lines], default=0.0))
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(turn: float) -> float:
        return _LEFT + width * (turn - 1) / max(1, turns - 1)

    def y(tokens: float) -> float:
        return _TOP + height * (1 - tokens / most)

    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        "<title>Input tokens per turn</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="{_TOP - 12}">input tokens</text>',
        f'<text x="{_LEFT + width}" y="{_HEIGHT - 10}" text-anchor="end">turn</text>',
    ]
    for step in range(6):
        tokens = most * step / 5
        parts.append(f'<path d="M{_LEFT} {y(tokens):.1f}H{_LEFT + width}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(tokens) + 4:.1f}" text-anchor="end">{tokens:,.0f}</text>')
    parts += [
        f'<text x="{x(turn):.1f}" y="{_TOP + height + 18}" text-anchor="middle">{turn}</text>'
        for turn in sorted({1 + (turns - 1) * step // 5 for step in range(6)})
    ]
    for number, (name, line) in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
        style = f'fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dash or "none"}"'
        points = " ".join(f"{x(turn):.1f},{y(tokens):.1f}" for turn, tokens in _thinned(line))
        parts.append(f'<polyline points="{points}" {style}><title>{escape(name)}</title></polyline>')
        row = _TOP + 8 + 18 * number
        parts.append(f'<path d="M{_LEFT + width + 16} {row}h22" {style}/>')
        parts.append(f'<text x="{_LEFT + width + 44}" y="{row + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _ceiling(tokens: float) -> float:
    """The next figure that is easy to read: 1, 2, 2.5 or 5 with noughts."""
    if tokens <= 0:
        return 1.0
    unit = 10.0 ** int(log10(tokens))
    return next((unit * step for step in (1, 2, 2.5, 5, 10) if unit * step >= tokens), 10 * unit)


def _thinned(line: Sequence[float]) -> list[tuple[float, float]]:
    """(turn, tokens), at most POINTS of them."""
    share = -(-len(line) // POINTS) or 1
    points = []
    for first in range(0, len(line), share):
        part = line[first : first + share]
        points.append((first + (len(part) + 1) / 2, sum(part) / len(part)))
    return points
