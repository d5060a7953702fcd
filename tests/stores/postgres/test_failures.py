"""Errors of the driver and the server, and what is said of them."""

import asyncpg
import pytest

from proxy.stores.postgres import failures

WORDS = "hunter2"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (asyncpg.DiskFullError(WORDS), "full disk"),
        (asyncpg.TooManyConnectionsError(WORDS), "too many connections"),
        (asyncpg.LockNotAvailableError(WORDS), "lock"),
        (asyncpg.QueryCanceledError(WORDS), "too long"),
        (asyncpg.ReadOnlySQLTransactionError(WORDS), "read-only"),
        (asyncpg.AdminShutdownError(WORDS), "starting or stopping"),
        (asyncpg.CannotConnectNowError(WORDS), "starting or stopping"),
        (asyncpg.ConnectionDoesNotExistError(WORDS), "closed the connection"),
        (asyncpg.InterfaceError(WORDS), "closed the connection"),
        (asyncpg.InvalidPasswordError(WORDS), "refuses the user or password"),
        (asyncpg.InvalidCatalogNameError(WORDS), "no such database"),
        (asyncpg.DataCorruptedError(WORDS), "damaged"),
        (ConnectionRefusedError(WORDS), "cannot be reached"),
        (OSError(WORDS), "cannot be reached"),
        (TimeoutError(WORDS), "in time"),
        (failures.Elsewhere(WORDS), "not the database"),
    ],
)
def test_a_failure_is_told_in_one_line_of_our_own(error: Exception, told: str) -> None:
    failure = failures.unavailable(error, "The server")
    assert failure
    assert failure.message.startswith("The server ")
    assert told in failure.message
    assert WORDS not in failure.message
    assert "\n" not in failure.message


@pytest.mark.parametrize(
    "error",
    [asyncpg.DivisionByZeroError(), asyncpg.DataError(), asyncpg.PostgresSyntaxError(), KeyError(), ValueError()],
)
def test_a_mistake_of_the_program_is_no_failure_of_the_server(error: Exception) -> None:
    assert failures.unavailable(error, "The server") is None


def test_which_befall_one_call_only_and_which_the_connection() -> None:
    assert failures.of_one(asyncpg.LockNotAvailableError())
    assert failures.of_one(asyncpg.DeadlockDetectedError())
    assert not failures.of_one(asyncpg.DiskFullError())
    assert not failures.of_one(None)
    assert failures.stale(asyncpg.ReadOnlySQLTransactionError())
    assert not failures.stale(asyncpg.DiskFullError())
