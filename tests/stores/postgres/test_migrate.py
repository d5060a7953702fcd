"""The schema is made once, however many replicas start, and is left alone where it is not ours or newer."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.conversation.entry import new_id
from proxy.conversation.summary import Summary
from proxy.errors import SettingsError
from proxy.stores.contract import Ref
from proxy.stores.postgres import PostgresStore, from_url, migrate
from proxy.stores.postgres.address import parse
from proxy.stores.postgres.rows import pack_summary
from tests.stores.making import listed, talk
from tests.support.postgres import Server


async def opened(url: str) -> PostgresStore:
    store = from_url(url)
    await store.open()
    return store


async def test_ten_stores_may_open_an_empty_database_at_once(fresh: Callable[[], str]) -> None:
    for _ in range(3):
        url = fresh()
        stores = await asyncio.gather(*[opened(url) for _ in range(10)])
        assert len({await store.secret() for store in stores}) == 1
        for n, store in enumerate(stores):
            await talk(store, 1, Ref("t", "session", f"{n}"))
        assert len(await listed(stores[0].list())) == 10
        for store in stores:
            await store.close()


async def test_a_newer_schema_is_refused_in_one_line(fresh: Callable[[], str], server: Server) -> None:
    url = fresh()
    await (await opened(url)).close()
    schema = parse(url).schema
    server.sql(f"INSERT INTO {schema}.migrations (n) VALUES (99)")
    with pytest.raises(SettingsError, match=r"newer Remora \(schema version 99") as error:
        await opened(url)
    assert "\n" not in str(error.value)


async def test_tables_of_another_program_are_left_alone(fresh: Callable[[], str], server: Server) -> None:
    url = fresh()
    schema = parse(url).schema
    server.sql(f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.refs (n int)")
    with pytest.raises(SettingsError, match="another program"):
        await opened(url)
    server.sql(f"DROP TABLE {schema}.refs")
    await (await opened(url)).close()


async def test_ten_stores_may_bring_an_older_database_up_to_date_at_once(
    fresh: Callable[[], str], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh()
    schema = parse(url).schema
    with monkeypatch.context() as before:
        before.setattr(migrate, "MIGRATIONS", migrate.MIGRATIONS[:1])
        before.setattr(migrate, "FUNCTIONS", "SELECT 1")
        secret = await migrate.prepare(parse(url))
    kept = Summary(new_id(), new_id(), 2, "text", 1, 1, "", "m", 1)
    row = f"1, 1, '\\x{kept.id}', 2, '\\x{pack_summary(kept).hex()}'"
    server.sql(f"INSERT INTO {schema}.summaries VALUES ({row})")
    stores = await asyncio.gather(*[opened(url) for _ in range(10)])
    assert {await store.secret() for store in stores} == {secret}
    assert server.sql(f"SELECT encode(entry, 'hex') FROM {schema}.summaries") == kept.entry
    for n, store in enumerate(stores):
        await talk(store, 1, Ref("t", "session", f"{n}"))
        await store.close()
