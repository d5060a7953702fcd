"""`remora check`: settings and policies, every mistake in a line of its own, exit 1 if there is one."""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from proxy import settings
from proxy.cli import flags
from proxy.errors import SettingsError
from proxy.policy import DEFAULT, files_in, read_files, unsearchable
from proxy.stores import open_store


def run(args: argparse.Namespace) -> int:
    """Prints a line for each policy that is right, and one on stderr for each mistake. An upstream need not be set."""
    mistakes: list[str] = []
    try:
        settings.read(flags(args), os.environ, need_upstream=False)
    except SettingsError as error:
        mistakes += str(error).splitlines()
    files: list[Path] = []
    for name in args.files or [settings.policies(args.policies, os.environ)]:
        path = Path(name)
        try:
            files += files_in(name) if path.is_dir() or not args.files else [path]
        except SettingsError as error:
            mistakes.append(str(error))
    policies, wrong = read_files(files)
    mistakes += wrong
    with contextlib.suppress(SettingsError):  # told above
        mistakes += unsearchable(policies, open_store(settings.store(args.store, os.environ)).searches)
    for policy in policies:
        print(f"{policy.name}: right{f' - {policy.description}' if policy.description else ''}")
    if not policies and not mistakes:
        print(f"{DEFAULT}: right - built in, there are no policy files")
    for line in mistakes:
        print(line, file=sys.stderr)
    return 1 if mistakes else 0
