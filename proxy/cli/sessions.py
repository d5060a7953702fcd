"""`remora sessions`: opens the store, finds the sessions meant, lists, shows, exports, imports, forks, erases."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from proxy import settings
from proxy.cli import CommandError
from proxy.cli.explain import explain
from proxy.cli.export import export
from proxy.cli.fork import fork
from proxy.cli.restore import restore
from proxy.cli.show import show
from proxy.errors import SettingsError
from proxy.stores import open_store
from proxy.stores.contract import RefInfo, Store

_ACTIONS_THAT_READ = ("list", "show", "export", "fork", "erase")


def run(args: argparse.Namespace) -> int:
    if getattr(args, "input", "-") == "-":
        return asyncio.run(_run(args, sys.stdin.buffer))
    try:
        with Path(args.input).open("rb") as lines:
            return asyncio.run(_run(args, lines))
    except FileNotFoundError:
        raise CommandError(f"there is no file {args.input}.") from None


async def _run(args: argparse.Namespace, lines: IO[bytes]) -> int:
    url = settings.store(args.store, os.environ)
    if args.action in _ACTIONS_THAT_READ:
        _must_exist(url)
    async with _opened(url) as store:
        match args.action:
            case "list":
                await _list(store, args.tenant)
            case "show":
                info = await _one(store, args.session, args.tenant)
                if args.turn is None:
                    await show(store, info, sys.stdout)
                elif not await explain(store, info, args.turn, sys.stdout):
                    raise CommandError(f"session {args.session!r} has no turn {args.turn}; it has {info.turns}.")
            case "export":
                await _export(store, args.session, args.tenant)
            case "import":
                await _import(store, lines, args.tenant)
            case "fork":
                done = await fork(store, await _one(store, args.session, args.tenant), args.new, args.turn)
                print(f"forked {args.session} as {args.new}: {done.entries} entries ({done.messages} messages)")
            case "erase":
                await store.erase((await _one(store, args.session, args.tenant)).ref)
                print(f"erased {args.session}")
    return 0


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Store]:
    store = open_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def _must_exist(url: str) -> None:
    """Looking into a database that does not exist would make an empty one, and hide a mistyped name."""
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if parts.scheme == "sqlite" and path and not Path(path).exists():
        raise SettingsError(f"--store: there is no database {path}; name the one that `remora serve` uses.")


async def _one(store: Store, session: str, tenant: str | None) -> RefInfo:
    """The one session of that name. Raises CommandError if there is none, or if tenants share the name."""
    found = [info async for info in store.list(tenant=tenant, name=session)]
    if not found:
        raise CommandError(f"there is no session {session!r}{f' of tenant {tenant!r}' if tenant else ''}.")
    if len(found) > 1:
        tenants = ", ".join(info.ref.tenant for info in found[:10])
        raise CommandError(f"{len(found)} tenants have a session {session!r}; name one with --tenant: {tenants}.")
    return found[0]


async def _list(store: Store, tenant: str | None) -> None:
    print("session\ttenant\tturns\tmessages\ttokens\tupdated\texpires")
    async for info in store.list(tenant=tenant):
        expires = "never" if info.expires_ms is None else moment(info.expires_ms)
        facts = (
            info.ref.name,
            info.ref.tenant,
            info.turns,
            info.messages,
            info.tokens,
            moment(info.updated_ms),
            expires,
        )
        print(*facts, sep="\t")


async def _export(store: Store, session: str | None, tenant: str | None) -> None:
    if session is not None:
        await export(store, (await _one(store, session, tenant)).ref, sys.stdout.buffer)
        return
    async for info in store.list(tenant=tenant):
        await export(store, info.ref, sys.stdout.buffer)


async def _import(store: Store, lines: IO[bytes], tenant: str | None) -> None:
    done = await restore(store, lines, tenant)
    print(f"imported {done.entries} entries ({done.messages} messages), {done.known} were there already")


def moment(at_ms: int) -> str:
    """2025-01-31T12:00:00Z; whole seconds, for people."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
