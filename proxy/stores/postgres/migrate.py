"""The schema as a numbered list of steps, brought up to date by whoever comes first; and how connections begin."""

import asyncio
import os
import time

import asyncpg

from proxy.errors import SettingsError
from proxy.stores.postgres import failures
from proxy.stores.postgres.address import Address
from proxy.stores.postgres.pool import Connection
from proxy.stores.postgres.sql_lines import LINES, PLACES
from proxy.stores.postgres.sql_read import LOAD, READS
from proxy.stores.postgres.sql_redact import REDACT
from proxy.stores.postgres.sql_runs import BEFORE, LABELS, RUNS
from proxy.stores.postgres.sql_search import SEARCH
from proxy.stores.postgres.sql_tables import RUNS_AND_LABELS, TABLES
from proxy.stores.postgres.sql_write import APPEND, ENDING

MIGRATIONS = (TABLES, RUNS_AND_LABELS, PLACES)
"""A step that was released is never changed."""
FUNCTIONS = ENDING + APPEND + LOAD + READS + SEARCH + REDACT + LABELS + RUNS + LINES + BEFORE
"""Made anew behind the last step. Replicas of the version before go on meanwhile: a function that they call goes on
taking what it took and giving what it gave; one that takes more stands beside it."""

CONNECT_S = 3.0
COMMAND_S = 10.0
"""After which a call is given up, whatever the server says; the server itself gives up somewhat earlier."""
PATIENCE_S = 10.0
"""At the start, for a server that starts too."""
MIGRATE_S = 60.0

SETTINGS = """
SET search_path TO "{schema}";
SET statement_timeout = '8s';
SET lock_timeout = '5s';
SET idle_in_transaction_session_timeout = '10s';
SET default_transaction_isolation = 'read committed';
SET jit = off;
-- plans are made once, perhaps while the tables are still empty: they shall use the indexes all the same
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
"""


async def connect(address: Address, secret: bytes) -> Connection:
    """A connection to the database that has this secret. Raises what the driver raises, and Elsewhere."""
    connection = await _connect(address)
    try:
        await connection.execute(SETTINGS.format(schema=address.schema))
        failures.same(await connection.fetchval("SELECT value FROM meta WHERE key = 'secret'"), secret)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _connect(address: Address) -> Connection:
    connection: Connection = await asyncpg.connect(
        address.dsn,
        timeout=CONNECT_S,
        command_timeout=COMMAND_S,
        max_cached_statement_lifetime=0,
        server_settings={"application_name": "remora"},
    )
    return connection


async def prepare(address: Address) -> bytes:
    """Makes the tables if there are none, and brings them up to date; the store's secret. Any number of replicas may do
    so at once. Raises SettingsError in one line."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await _prepare(address)
        except SettingsError:
            raise
        except Exception as error:
            if not _passing(error) or time.monotonic() > deadline:
                raise SettingsError(f"store: {address.shown} {_why(error)}") from error
        await asyncio.sleep(0.2)


def _passing(error: Exception) -> bool:
    """A server that has started since would not have said so."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in ("53", "57", "40", "08")
    return isinstance(error, ConnectionRefusedError | ConnectionResetError | FileNotFoundError | TimeoutError)


def _why(error: Exception) -> str:
    found = failures.meaning(error)
    if found:
        return found
    if isinstance(error, asyncpg.PostgresError):
        return f"cannot be used (SQLSTATE {error.sqlstate}); look at its log"
    return f"cannot be used ({type(error).__name__}); check the store's URL"


async def _prepare(address: Address) -> bytes:
    connection = await _connect(address)
    try:
        if await _version(connection, address) < len(MIGRATIONS):
            async with connection.transaction():
                await _migrate(connection, address)
        secret = await connection.fetchval(f"SELECT value FROM \"{address.schema}\".meta WHERE key = 'secret'")  # noqa: S608 - a name of letters
    finally:
        connection.terminate()
    return bytes(secret)


async def _version(connection: Connection, address: Address) -> int:
    """How many steps were taken. Raises SettingsError if more than are known here, or if the tables are not ours."""
    schema = address.schema
    # not to_regclass: what it has looked up before it may take from a cache, though others made it meanwhile
    found = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    if not any(name == "migrations" for (name,) in found):
        if found:
            raise SettingsError(
                f"store: {address.shown} holds tables of another program in its schema {schema};"
                " name another with ?schema=NAME"
            )
        return 0
    version = int(await connection.fetchval(f'SELECT coalesce(max(n), 0) FROM "{schema}".migrations'))  # noqa: S608
    if version > len(MIGRATIONS):
        raise SettingsError(
            f"store: {address.shown} was made by a newer Remora (schema version {version}, this one knows"
            f" {len(MIGRATIONS)}); update Remora, or name another database"
        )
    return version


async def _migrate(connection: Connection, address: Address) -> None:
    milliseconds = int(MIGRATE_S * 1000)
    await connection.execute(f"SET LOCAL lock_timeout = {milliseconds}; SET LOCAL statement_timeout = {milliseconds}")
    await connection.execute(
        "SELECT pg_advisory_xact_lock(1382378863, hashtext($1))", address.schema, timeout=MIGRATE_S + CONNECT_S
    )
    version = await _version(connection, address)
    if version == len(MIGRATIONS):
        return
    if not await connection.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = $1", address.schema):
        await connection.execute(f'CREATE SCHEMA "{address.schema}"')
    await connection.execute(f'SET LOCAL search_path TO "{address.schema}"')
    if not version:
        await connection.execute(
            "CREATE TABLE migrations (n integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
        )
    for n in range(version, len(MIGRATIONS)):
        await connection.execute(MIGRATIONS[n], timeout=MIGRATE_S)
        await connection.execute("INSERT INTO migrations (n) VALUES ($1)", n + 1)
    await connection.execute(FUNCTIONS, timeout=MIGRATE_S)
    # as a parameter, so that it stands in no log of statements
    await connection.execute("INSERT INTO meta VALUES ('secret', $1) ON CONFLICT DO NOTHING", os.urandom(32))
