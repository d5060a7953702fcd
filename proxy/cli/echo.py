"""`remora echo`: the stand-in model as a server of its own."""

import argparse
import asyncio
import os
import signal
import sys

from proxy.cli.loop import run_loop
from proxy.errors import SettingsError
from proxy.settings import address


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    try:
        host, port = address(args.listen)
    except ValueError as error:
        raise SettingsError(f"--listen: {error}.") from None
    return run_loop(_serve(host, port))


async def _serve(host: str, port: int) -> int:
    from proxy.echo import start_echo

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        server = await start_echo(host, port)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise SettingsError(f"--listen {host}:{port}: {why}; choose another address.") from None
    print(f"remora echo listens on {server.url}/v1", file=sys.stderr, flush=True)
    await stop.wait()
    await server.close()
    return 0
