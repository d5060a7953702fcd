"""What an image weighs, by OpenAI's published formulas; an estimate for other makers' models.

Source: OpenAI, "Images and vision", sections "Model sizing behavior" and "Calculating costs", as of autumn 2026.
"""

from functools import lru_cache
from math import ceil, floor, sqrt
from typing import NamedTuple

from proxy.tokens import names

UNKNOWN_SIZE = (1024, 1024)
"""Assumed for images whose size is not known, behind an https URL or a file id: 765 tokens of gpt-4o."""

_PATCH = 32
_TILE = 512
_MAX_PATCHES = 30_000
"""More of them are refused by the API."""


class Tiles(NamedTuple):
    """`base`, and `tile` for each square of 512 pixels that covers the image once it is scaled down to a shortest
    side of 768. Low detail costs the base alone."""

    base: int
    tile: int


class Fit(NamedTuple):
    """Limits to which an image is scaled down."""

    side: int
    patches: int


class Patches(NamedTuple):
    """`multiplier` for each square of 32 pixels that covers the image once it fits its detail's limits."""

    multiplier: float
    low: Fit
    high: Fit
    original: Fit
    auto: Fit


def _one(multiplier: float, patches: int) -> Patches:
    fit = Fit(2048, patches)
    return Patches(multiplier, fit, fit, fit, fit)


_HIGH = Fit(2048, 2500)
_LARGE = Fit(6000, 10_000)
_WHOLE = Fit(65_535, _MAX_PATCHES)
_SMALL = Fit(512, 256)

_RULES: dict[str, Tiles | Patches] = {
    "gpt-6": Patches(1.2, _SMALL, _HIGH, _WHOLE, _WHOLE),
    "gpt-5.6": Patches(1.2, _SMALL, _HIGH, _WHOLE, _WHOLE),
    "gpt-5.5": Patches(1.2, _SMALL, _HIGH, _LARGE, _LARGE),
    "gpt-5.4": Patches(1.2, Fit(2048, 6144), _HIGH, _LARGE, _HIGH),
    "gpt-5.3": _one(1.2, 6144),
    "gpt-5.2": _one(1.2, 6144),
    "gpt-4.1-mini": _one(1.62, 6144),
    # the page no longer gives limits for these four; 1,536 is what it said while they were current
    "gpt-4.1-nano": _one(2.46, 1536),
    "gpt-5-mini": _one(1.2, 1536),
    "gpt-5-nano": _one(1.5, 1536),
    "o4-mini": _one(1.72, 1536),
    "gpt-5.1": Tiles(70, 140),
    "gpt-5": Tiles(70, 140),
    "gpt-4o-mini": Tiles(2833, 5667),
    "o1": Tiles(75, 150),
    "o3": Tiles(75, 150),
    "computer-use-preview": Tiles(65, 129),
}
_OTHERS = Tiles(85, 170)
"""gpt-4o, gpt-4.1, gpt-4.5; and every model that the page does not name."""


def tokens(size: tuple[int, int] | None, detail: str, model: str) -> int:
    """Of one image. `size` is (width, height) in pixels, None if unknown. `detail` is `low`, `high`, `original`, or
    anything else for `auto`."""
    rule = _rule(model) if len(model) <= names.MAX_CHARS else _OTHERS
    width, height = size or UNKNOWN_SIZE
    if isinstance(rule, Tiles):
        return rule.base if detail == "low" else rule.base + rule.tile * _tiles(width, height)
    fits = {"low": rule.low, "high": rule.high, "original": rule.original}
    return ceil(_patches(width, height, fits.get(detail, rule.auto)) * rule.multiplier)


@lru_cache(maxsize=1024)
def _rule(model: str) -> Tiles | Patches:
    name = names.bare(model)
    matches = [prefix for prefix in _RULES if name.startswith(prefix)]
    return _RULES[max(matches, key=len)] if matches else _OTHERS


def _tiles(width: float, height: float) -> int:
    shrink = min(1.0, 2048 / max(width, height))
    width, height = width * shrink, height * shrink
    shrink = min(1.0, 768 / min(width, height))
    return max(1, ceil(floor(width * shrink) / _TILE)) * max(1, ceil(floor(height * shrink) / _TILE))


def _patches(width: float, height: float, fit: Fit) -> int:
    shrink = min(1.0, fit.side / max(width, height))
    width, height = max(1, round(width * shrink)), max(1, round(height * shrink))
    needed = ceil(width / _PATCH) * ceil(height / _PATCH)
    if needed <= fit.patches:
        return needed
    shrink = sqrt(_PATCH * _PATCH * fit.patches / (width * height))
    across, down = width * shrink / _PATCH, height * shrink / _PATCH
    shrink *= min(floor(across) / across, floor(down) / down)
    return min(fit.patches, max(1, ceil(floor(width * shrink) / _PATCH) * ceil(floor(height * shrink) / _PATCH)))
