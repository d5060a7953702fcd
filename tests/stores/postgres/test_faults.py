"""What the store does when the server fails, is full, is taken away, or is not the one that it was."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from proxy.conversation.entry import Entry
from proxy.errors import SettingsError, StoreUnavailable
from proxy.stores.contract import Appended, Conflict, Ref
from proxy.stores.postgres import PostgresStore, from_url, migrate, pool
from tests.stores.making import REF, RULES, adding, entry, listed, replay, talk
from tests.support.postgres import Server, serving

BOUND_S = 15.0


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that may be killed: it keeps what it acknowledged."""
    with serving("autovacuum = off") as server:
        yield server


@pytest.fixture
def running(own: Server) -> Iterator[Server]:
    """It runs again afterwards."""
    own.sql("DROP SCHEMA IF EXISTS remora CASCADE")
    yield own
    own.stop()
    own.start()


@pytest.fixture
async def store(running: Server) -> AsyncIterator[PostgresStore]:
    store = from_url(running.url())
    await store.open()
    yield store
    await store.close()


def asked(store: PostgresStore) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: store.load(REF, key="", reach=None),
        lambda: store.append(adding(REF, entry(None))),
        lambda: store.find_replay(REF, "k"),
        lambda: store.find_digests(REF, [b"x"]),
        lambda: store.erase(REF),
        lambda: store.expire(9),
        lambda: listed(store.list()),
        lambda: listed(store.records(REF)),
        store.ping,
    ]


async def test_a_server_that_is_killed_loses_nothing_and_is_used_again(running: Server, store: PostgresStore) -> None:
    acknowledged: dict[str, list[Entry]] = {}
    stop = asyncio.Event()

    async def client(name: str) -> None:
        ref = Ref("t", "session", name)
        said = acknowledged[name] = []
        while not stop.is_set():
            new = entry(said[-1] if said else None, f"{len(said)}")
            try:
                answer = await store.append(adding(ref, new))
            except StoreUnavailable:
                # whether it was done nobody knows: asked again it counts once
                await asyncio.sleep(0.01)
                while not stop.is_set():
                    try:
                        answer = await store.append(adding(ref, new))
                        break
                    except StoreUnavailable:
                        await asyncio.sleep(0.01)
                else:
                    return
            assert isinstance(answer, Appended)
            said.append(new)

    tasks = [asyncio.create_task(client(f"{n}")) for n in range(12)]

    async def all_have(count: int) -> None:
        while any(len(said) < count for said in acknowledged.values()) or len(acknowledged) < 12:
            assert not any(task.done() for task in tasks)
            await asyncio.sleep(0.005)

    for round in range(1, 4):
        await asyncio.wait_for(all_have(round * 5), BOUND_S)
        await asyncio.to_thread(running.kill)
        for ask in asked(store):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable) as error:
                await ask()
            assert time.monotonic() - began < BOUND_S
            assert "\n" not in error.value.message
        await asyncio.to_thread(running.start)
        await asyncio.wait_for(all_have(max(len(each) for each in acknowledged.values()) + 1), BOUND_S)
    stop.set()
    await asyncio.gather(*tasks)
    other = from_url(running.url())
    await other.open()
    for name, said in acknowledged.items():
        for each in (store, other):
            chain = await each.load(Ref("t", "session", name), key="", reach=None)
            assert chain
            # one more may have been appended than was acknowledged
            assert list(chain.entries[: len(said)]) == said
            assert len(chain.entries) - len(said) in (0, 1)
    await other.close()


async def test_a_server_that_hangs_is_waited_for_within_a_bound(
    running: Server, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "COMMAND_S", 0.5)
    monkeypatch.setattr(migrate, "CONNECT_S", 0.5)
    monkeypatch.setattr(pool, "ACQUIRE_S", 1.0)
    await talk(store, 1)
    running.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        async with asyncio.timeout(BOUND_S):
            answers = await asyncio.gather(*[ask() for ask in asked(store) * 4], return_exceptions=True)
        took = time.monotonic() - began
    finally:
        running.signal(signal.SIGCONT)
    assert [answer for answer in answers if not isinstance(answer, StoreUnavailable)] == []
    assert took < BOUND_S
    await store.ping()
    assert await store.load(REF, key="", reach=None)


async def test_an_append_that_was_cut_off_is_done_once(running: Server, store: PostgresStore) -> None:
    """Its answer is lost, not its entry."""
    (first,) = await talk(store, 1)
    running.sql(
        "CREATE FUNCTION remora.cut() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END'",
        "CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON remora.entries DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION remora.cut()",
    )
    second = entry(first)
    with pytest.raises(StoreUnavailable, match="PostgreSQL at"):
        await store.append(adding(REF, second))
    running.sql("DROP TRIGGER cut ON remora.entries")
    assert isinstance(await store.append(adding(REF, second)), Appended)
    assert await store.append(adding(REF, second)) == Appended(again=True)
    assert [record.entry for record in await listed(store.records(REF))] == [first, second]


async def test_a_cut_connection_is_replaced(running: Server, store: PostgresStore) -> None:
    await asyncio.gather(*[store.ping() for _ in range(30)])
    for _ in range(3):
        running.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'remora'")
        answers = await asyncio.gather(*[store.ping() for _ in range(30)], return_exceptions=True)
        assert all(answer is None or isinstance(answer, StoreUnavailable) for answer in answers)
        await store.ping()


async def test_connections_are_bounded_and_given_back(running: Server) -> None:
    store = from_url(running.url(connections=3))
    await store.open()
    await talk(store, 3)

    async def some(n: int) -> None:
        task = asyncio.ensure_future(store.summaries(REF) if n % 2 else store.load(REF, key="", reach=None))
        if n % 3 == 0:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'remora'"
    for _ in range(4):
        await asyncio.gather(*[some(n) for n in range(60)])
        assert int(await asyncio.to_thread(running.sql, count)) <= 3
        assert await asyncio.gather(*[store.load(REF, key="", reach=1) for _ in range(9)])
    await store.close()
    deadline = time.monotonic() + BOUND_S
    while int(await asyncio.to_thread(running.sql, count)):
        assert time.monotonic() < deadline


async def test_a_lock_that_others_hold_is_waited_for_within_a_bound(
    running: Server, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "SETTINGS", migrate.SETTINGS.replace("lock_timeout = '5s'", "lock_timeout = '300ms'"))
    (first,) = await talk(store, 1)
    impatient = from_url(running.url())
    await impatient.open()
    holder = await migrate.connect(store._address, await store.secret())
    async with holder.transaction():
        await holder.execute("SELECT FROM refs FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="lock"):
            await impatient.append(adding(REF, entry(first)))
        # who reads waits for nobody
        assert await impatient.load(REF, key="", reach=None)
    await holder.close()
    assert await impatient.append(adding(REF, entry(first))) == Appended()
    await impatient.close()


async def test_a_server_without_places_says_what_to_do(running: Server, store: PostgresStore) -> None:
    await store.ping()
    running.sql("ALTER ROLE postgres CONNECTION LIMIT 1", "CREATE ROLE few LOGIN CONNECTION LIMIT 1")
    running.sql("GRANT ALL ON SCHEMA remora TO few", "GRANT ALL ON ALL TABLES IN SCHEMA remora TO few")
    one = from_url(running.url().replace("postgres@", "few@"))
    await one.open()
    answers = await asyncio.gather(*[one.ping() for _ in range(8)], return_exceptions=True)
    told = {answer.message for answer in answers if isinstance(answer, StoreUnavailable)}
    assert len(told) == 1
    assert "too many connections" in told.pop()
    await one.ping()
    await one.close()
    running.sql("REASSIGN OWNED BY few TO postgres", "DROP OWNED BY few", "DROP ROLE few")


async def test_what_is_read_only_says_so_and_recovers(running: Server, store: PostgresStore) -> None:
    (first,) = await talk(store, 1)
    name = "ALTER DATABASE postgres "
    running.sql(name + "SET default_transaction_read_only = on")
    running.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'remora'")
    await asyncio.sleep(0.05)
    for ask in (store.ping, lambda: store.append(adding(REF, entry(first)))):
        assert await store.load(REF, key="", reach=None)
        with pytest.raises(StoreUnavailable, match="read-only"):
            await ask()
    running.sql("SET default_transaction_read_only = off", name + "RESET default_transaction_read_only")
    await store.ping()
    assert await store.append(adding(REF, entry(first))) == Appended()


async def test_another_database_under_the_same_name_is_not_written_to(running: Server, store: PostgresStore) -> None:
    await talk(store, 1)
    running.sql("UPDATE remora.meta SET value = 'another' WHERE key = 'secret'")
    running.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'remora'")
    await asyncio.sleep(0.05)
    with pytest.raises(StoreUnavailable, match="not the database"):
        await store.append(adding(Ref("t", "session", "x"), entry(None)))


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("53100", "full disk"),
        ("53200", "out of memory"),
        ("57014", "too long to answer"),
        ("40001", "send the request again"),
        ("40P01", "lock"),
        ("42501", "grant"),
        ("58030", "disk that fails"),
        ("XX001", "damaged"),
    ],
)
async def test_what_the_server_tells_is_told_without_its_words(
    running: Server, store: PostgresStore, state: str, told: str
) -> None:
    (first,) = await talk(store, 1)
    fail = f"BEGIN RAISE EXCEPTION USING ERRCODE = ''{state}'', MESSAGE = ''hunter2'', DETAIL = ''hunter2''; END"
    running.sql(
        f"CREATE FUNCTION remora.fail() RETURNS trigger LANGUAGE plpgsql AS '{fail}'",
        "CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON remora.entries FOR EACH ROW EXECUTE FUNCTION remora.fail()",
        "CREATE TRIGGER fail BEFORE UPDATE ON remora.meta FOR EACH ROW EXECUTE FUNCTION remora.fail()",
    )
    appends = [store.append(adding(REF, entry(first))) for _ in range(3)]
    answers = await asyncio.gather(store.ping(), *appends, return_exceptions=True)
    for answer in answers:
        assert isinstance(answer, StoreUnavailable)
        assert told in answer.message
        assert "hunter2" not in answer.message
    running.sql("DROP TRIGGER fail ON remora.entries", "DROP TRIGGER fail ON remora.meta")
    await store.ping()
    assert await store.append(adding(REF, entry(first))) == Appended()


async def test_lost_tables_are_told(running: Server, store: PostgresStore) -> None:
    await talk(store, 1)
    running.sql("SET client_min_messages = error", "DROP SCHEMA remora CASCADE")
    for ask in asked(store):
        with pytest.raises(StoreUnavailable, match="has lost its"):
            await ask()


async def test_no_error_holds_a_secret_or_content(
    running: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "hunter2"
    monkeypatch.setattr(migrate, "PATIENCE_S", 0.2)
    folder = running.folder
    texts = []
    for url in (
        f"postgresql://user:{secret}@/none?host={folder}",
        f"postgresql://postgres:{secret}@/none?host={folder}",
        f"postgresql://postgres:{secret}@/postgres?host={folder}&port=1",
        f"postgresql://postgres:{secret}@/postgres?host={folder}&nonsense={secret}",
        f"postgresql://postgres:{secret}@127.0.0.1:1/postgres",
    ):
        store = from_url(url)
        with pytest.raises(SettingsError) as refused:
            await store.open()
        texts.append(str(refused.value))
        assert secret not in repr(store._address)
    store = from_url(f"postgresql://postgres:{secret}@/postgres?host={folder}")
    await store.open()
    first = entry(None, secret, preamble=RULES)
    await store.append(adding(REF, first, preamble=RULES, replay=replay(secret, first)))
    running.stop()
    for ask in asked(store):
        with pytest.raises(StoreUnavailable) as error:
            await ask()
        texts.append(error.value.message)
    await store.close()
    assert all(secret not in text and "\n" not in text for text in texts)
    assert all("PostgreSQL at " in text for text in texts)
    assert secret not in caplog.text


async def test_a_server_that_starts_later_is_waited_for(running: Server) -> None:
    running.stop()
    store = from_url(running.url())
    opening = asyncio.create_task(store.open())
    await asyncio.sleep(0.3)
    await asyncio.to_thread(running.start)
    await asyncio.wait_for(opening, BOUND_S)
    await talk(store, 1)
    await store.close()


async def test_a_conflict_between_replicas_is_told_at_once(running: Server, store: PostgresStore) -> None:
    other = from_url(running.url())
    await other.open()
    (first,) = await talk(store, 1)
    assert (await other.load(REF, key="", reach=None)) is not None
    second = entry(first)
    assert await other.append(adding(REF, second)) == Appended()
    assert await store.append(adding(REF, entry(first))) == Conflict(second.id)
    await other.close()
