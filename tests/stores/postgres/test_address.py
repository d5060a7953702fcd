"""URLs of PostgreSQL, right and wrong."""

import pytest

from proxy.errors import SettingsError
from proxy.stores.postgres import PostgresStore, from_url
from proxy.stores.postgres.address import parse


def test_a_url_names_a_database_and_options() -> None:
    plain = parse("postgres://me:s%23cret@db.example:5433/chats")
    assert plain.dsn == "postgresql://me:s%23cret@db.example:5433/chats"
    assert (plain.shown, plain.schema, plain.connections) == ("PostgreSQL at db.example:5433/chats", "remora", 8)
    more = parse("postgresql://db/chats?schema=other_1&sslmode=require&connections=3")
    assert (more.dsn, more.schema, more.connections) == ("postgresql://db/chats?sslmode=require", "other_1", 3)
    socket = parse("postgresql:///chats?host=/run/postgresql")
    assert socket.shown == "PostgreSQL at /run/postgresql/chats"
    many = parse("postgresql://u:p@one:1,two:2/chats?target_session_attrs=read-write")
    assert many.shown == "PostgreSQL at one:1,two:2/chats"
    assert parse("postgresql://u@[::1]:5432/x").shown == "PostgreSQL at [::1]:5432/x"
    assert isinstance(from_url("postgresql://u:p@db/x"), PostgresStore)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:",
        "postgresql://",
        "postgresql:///chats",
        "postgresql://u:hunter2@db:99999/x",
        "postgresql://u:hunter2@db:x/y",
        "postgresql://u:hunter2@db:1:2/y",
        "postgresql://u:hun#ter2@db/y",
        "postgresql://u:hunter2@db/x?schema=",
        "postgresql://u:hunter2@db/x?schema=pg_x",
        'postgresql://u:hunter2@db/x?schema=a"b',
        "postgresql://u:hunter2@db/x?connections=0",
        "postgresql://u:hunter2@db/x?connections=1000",
        "postgresql://u:hunter2@[::1/x",
        "mysql://u:hunter2@db/x",
    ],
)
def test_a_wrong_url_is_refused_in_one_line_without_the_password(url: str) -> None:
    with pytest.raises(SettingsError) as error:
        from_url(url)
    assert "\n" not in str(error.value)
    assert "hun" not in str(error.value)
    assert "postgresql://USER" in str(error.value)
