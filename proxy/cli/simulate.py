"""`remora simulate`: transcripts replayed through every policy, and what each would send and cost."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from proxy import settings
from proxy.cli.simulation.account import Account, prices
from proxy.cli.simulation.chart import svg
from proxy.cli.simulation.prefix import Caching
from proxy.cli.simulation.progress import Progress
from proxy.cli.simulation.replay import Terms, replay
from proxy.cli.simulation.table import table
from proxy.cli.simulation.transcript import read
from proxy.context.contract import Window
from proxy.errors import SettingsError
from proxy.policy import Policies, Policy
from proxy.units import duration_s

EVERYTHING, SLIDING = "everything", "sliding"
"""The baselines: all that was said, each turn; and the newest turns that fit, cut anew each turn."""
WINDOW_TOKENS = 16_000
"""Of the sliding window where the default policy names no number."""


def run(args: argparse.Namespace) -> int:
    """Raises SettingsError for what cannot be read or makes no sense."""
    charged = _value("--price", prices, args.price)
    terms = Terms(
        Caching(
            minimum=_value("--cache-minimum", _number, args.cache_minimum),
            step=_value("--cache-step", _positive, args.cache_step),
            lifetime_s=_value("--cache-lifetime", duration_s, args.cache_lifetime),
        ),
        pace_s=_value("--pace", duration_s, args.pace),
    )
    if args.chart is not None and Path(args.chart).suffix.lower() != ".svg":
        raise SettingsError(f"--chart: {args.chart} is no .svg file; charts are written as SVG.")
    window = None if args.window is None else _value("--window", _positive, args.window)
    policies = _policies(settings.policies(args.policies, os.environ), args.policies is not None, window)
    accounts = _replayed([Path(name) for name in args.transcripts], args.model, policies, terms)
    rows = [account.row(charged) for account in accounts]
    if args.chart is not None:
        _write(Path(args.chart), svg([(account.policy, account.per_turn) for account in accounts]))
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        print(table(rows), end="")
    return 0


def _policies(folder: str, named: bool, window: int | None) -> list[Policy]:
    """The baselines, then the policies in force."""
    if named and not Path(folder).is_dir():
        raise SettingsError(f"--policies: {folder!r} is no folder; name one that holds *.toml, or leave it out.")
    found = Policies.load(folder)
    for name in (EVERYTHING, SLIDING):
        if name in found.names:
            raise SettingsError(f"{Path(folder, name)}.toml: a baseline is called {name}; rename the policy.")
    if window is None:
        default = found.default.window
        window = default.max_tokens if default and isinstance(default.max_tokens, int) else 0
    sliding = Window(max_tokens=window or WINDOW_TOKENS, trim_to=1.0)
    baselines = [Policy(name=EVERYTHING, key=EVERYTHING), Policy(name=SLIDING, key=SLIDING, window=sliding)]
    return [*baselines, *map(found.named, found.names)]


def _replayed(paths: Sequence[Path], model: str, policies: Sequence[Policy], terms: Terms) -> list[Account]:
    accounts = [Account(policy.name) for policy in policies]
    progress = Progress(sys.stderr, sum(_size(path) for path in paths))
    done = 0.0
    try:
        for path in paths:
            for conversation in read(path, model):
                step = conversation.size / len(policies) / len(conversation.exchanges)
                for policy, account in zip(policies, accounts, strict=True):
                    for _ in replay(conversation, policy, terms, account):
                        done += step
                        progress.at(done)
    finally:
        progress.close()
    return accounts


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # told when it is read
        return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--chart: {path} cannot be written: {error.strerror or error}.") from None


_T = TypeVar("_T")


def _value(flag: str, parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{flag}: {error}.") from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{text!r} is no number of tokens; write 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not (number := _number(text)):
        raise ValueError(f"{text!r} is no number of tokens; write 1 or more")
    return number
