"""`remora serve`: settings and policies are read, then the house is opened."""

import argparse
import os

from proxy import settings
from proxy.cli import flags
from proxy.cli.loop import run_loop
from proxy.errors import SettingsError
from proxy.policy import Policies


def run(args: argparse.Namespace) -> int:
    mistakes = []
    try:
        found = settings.read(flags(args), os.environ)
    except SettingsError as error:
        mistakes.append(str(error))
    try:
        policies = Policies.load(settings.policies(args.policies, os.environ))
    except SettingsError as error:
        mistakes.append(str(error))
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    # what serves is heavy to import, so that a mistake is told before it
    if found.workers > 1:
        from proxy.supervisor import supervise

        return run_loop(supervise(found, policies))
    from proxy.app import serve

    return run_loop(serve(found, policies))
