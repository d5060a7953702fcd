"""The bench of stores measures what it says."""

import math
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import report
from bench.house import FRESH_BELOW, PHASES
from bench.measure import Pool
from bench.naive import CHAT, Naive, Turn, messages
from bench.sample import Sample, Samples
from bench.stores import FULL, QUICK, WARM, groups, line_group, reads, statements, version_of
from bench.stores_tables import Found, Scale, naive_table, targets, turns_table
from tests.support import redis


@pytest.fixture(scope="module")
def server() -> Iterator[redis.Server]:
    yield from redis.serve("appendonly no")


def held(client: Naive) -> list[dict[str, str]]:
    value = client.call("GET", CHAT)
    assert isinstance(value, bytes)
    found: list[dict[str, str]] = orjson.loads(value)
    return found


def test_the_usual_way_writes_everything_and_two_messages_more_each_turn(server: redis.Server) -> None:
    with Naive(server.socket) as client:
        client.fill(10)
        for _ in range(3):
            turn = client.turn()
            chat = held(client)
            assert chat[:10] == messages(10)
            assert [message["role"] for message in chat[10:]] == ["user", "assistant"]
            moved = len(orjson.dumps(chat[:10])) + len(orjson.dumps(chat))
            assert turn.moved_bytes == moved
            assert 0 < turn.cpu_us <= turn.took_ms * 1000 * 1.5


def test_the_usual_way_reads_what_comes_in_many_pieces(server: redis.Server) -> None:
    with Naive(server.socket) as client:
        client.fill(10_000)
        assert client.turn().moved_bytes > 4_000_000
        assert len(held(client)) == 10_002


def test_an_error_of_redis_is_no_answer(server: redis.Server) -> None:
    with Naive(server.socket) as client, pytest.raises(Exception, match="wrong number"):
        client.call("GET")


def test_messages_alternate_and_no_two_are_alike() -> None:
    chat = messages(400)
    assert [message["role"] for message in chat[:4]] == ["user", "assistant", "user", "assistant"]
    assert len({message["content"] for message in chat}) == 400


def scaled(rounds: int, requests: dict[int, int], pools: dict[int, int]) -> Scale:
    return Scale(
        rounds=rounds, requests=requests, pools=pools, line=100, naive={10: 1, 1000: 1}, counted=1, most_s=1
    )  # fmt: skip


SCALES = st.builds(
    scaled,
    st.integers(1, 9),
    st.dictionaries(st.integers(1, 16), st.integers(1, 900), min_size=1, max_size=3),
    st.fixed_dictionaries({10: st.just(0), 100: st.integers(16, 200), 10_000: st.integers(16, 200)}),
)


@given(SCALES | st.sampled_from([FULL, QUICK]))
@settings(max_examples=60, deadline=None)
def test_there_are_fresh_sessions_enough_for_all_runs(scale: Scale) -> None:
    pool = Pool(groups(scale)[10].names, fresh=True)
    for _ in range(scale.rounds):
        for at, wanted in scale.requests.items():
            dealt = pool.deal(wanted + WARM * at, at)
            assert (len(dealt) - at) * pool.uses >= wanted + WARM * at


@given(SCALES | st.sampled_from([FULL, QUICK]))
@settings(max_examples=60, deadline=None)
def test_deep_sessions_pass_through_their_depth_midway(scale: Scale) -> None:
    uses = scale.rounds * sum(wanted + WARM * at for at, wanted in scale.requests.items())
    for depth, group in groups(scale).items():
        if depth < FRESH_BELOW:
            assert group.turns < depth
        elif group.turns > 1:
            first = group.turns + PHASES / 2
            assert abs(first + uses / group.count / 2 - depth) <= 2


def test_the_line_has_sessions_of_its_own_as_deep_and_as_many() -> None:
    for scale in (FULL, QUICK):
        same, line = groups(scale)[scale.line], line_group(scale)
        assert (line.count, line.turns) == (same.count, same.turns)
        assert not set(line.names) & set(same.names)
        # each connection is in a session of its own
        assert all(group.count >= max(scale.requests) for group in groups(scale).values())


def test_each_statement_is_counted_once_however_long_it_is() -> None:
    log = b"""\
2026-01-01 00:00:00.000 UTC [1] LOG:  parameter "log_statement" changed to "all"
2026-01-01 00:00:00.000 UTC [2] LOG:  execute __asyncpg_stmt_1__: SELECT a
\tFROM b -- [7] LOG:  execute
2026-01-01 00:00:00.000 UTC [2] DETAIL:  parameters: $1 = '1'
2026-01-01 00:00:00.000 UTC [2] LOG:  statement: BEGIN
2026-01-01 00:00:00.000 UTC [2] ERROR:  executed nothing
"""
    assert statements(log) == 2


def test_reads_and_version_are_taken_from_what_redis_says() -> None:
    info = b"$60\r\n# Stats\r\ntotal_reads_processed:1234\r\ntotal_writes_processed:9\r\n"
    assert reads(info) == 1234
    assert version_of(b"# Server\r\nredis_version:7.0.15\r\n") == "7.0.15"
    with pytest.raises(ValueError, match="how often"):
        reads(b"-NOAUTH\r\n")


def test_a_real_redis_says_how_often_it_read(server: redis.Server) -> None:
    before = reads(server.call("INFO", "stats"))
    with Naive(server.socket) as client:
        for _ in range(50):
            client.call("PING")
    assert 50 <= reads(server.call("INFO", "stats")) - before <= 55


def sample(case: str, cpu_us: float, *, at: int = 16, round_: int = 0, p50_ms: float = 1.0) -> Sample:
    return Sample(
        case=case, kind="plain", connections=at, round=round_, requests=100, errors=0, seconds=1.0, p50_ms=p50_ms,
        p99_ms=2.0, first_ms=1.0, cpu_us=cpu_us, rss_mb=30.0, pieces=1.0, at_once=1,
    )  # fmt: skip


SCALE = scaled(1, {1: 10, 16: 10}, {10: 0, 100: 16, 10_000: 16})
SAMPLES = Samples(
    [
        *(sample(f"sqlite-{depth}", 100.0) for depth in (10, 100, 10_000)),
        *(sample(f"postgres-{depth}", us) for depth, us in ((10, 150.0), (100, 210.0), (10_000, 180.0))),
        *(sample(f"redis-{depth}", 110.0) for depth in (10, 100, 10_000)),
        sample("redis-line", 240.0),
        sample("redis-100", 100.0, at=1, p50_ms=2.0),
        sample("redis-10000", 100.0, at=1, p50_ms=2.5),
    ]
)


def test_the_worst_depth_counts_and_what_was_not_measured_is_not_reached() -> None:
    found = {target.what: (round(target.value, 3), target.mark) for target in targets(SAMPLES, SCALE)}
    assert found["PostgreSQL to SQLite, CPU, at 16, worst depth"] == (2.1, "SHORT")
    assert found["Redis to SQLite, CPU, at 16, worst depth"] == (1.1, "PASS")
    assert found["Redis to SQLite, CPU, at 16, in line (SQLite alone)"] == (2.4, "SHORT")
    assert found["PostgreSQL, 10,000 turns to 10, CPU, at 16"] == (1.2, "SHORT")
    assert found["PostgreSQL, 10,000 turns to 100, CPU, at 16"] == (0.857, "PASS")
    assert found["Redis, 10,000 turns to 100, p50, at 1"] == (1.25, "SHORT")
    assert found["PostgreSQL to SQLite, CPU, at 16, in line (SQLite alone)"][1] == "not measured"
    assert found["PostgreSQL to SQLite, CPU, at 1, worst depth"][1] == "not measured"


def test_every_target_is_at_a_number_of_connections_that_was_measured() -> None:
    quick = [target.what for target in targets(Samples([]), QUICK)]
    assert "SQLite, 200 turns to 10, CPU, at 16" in quick
    assert len(quick) == len(set(quick))
    assert all(math.isnan(target.value) for target in targets(Samples([]), FULL))


def test_round_trips_stand_where_they_were_counted() -> None:
    found = Found(samples=SAMPLES, rounds=1, trips={"redis-100": 2.0, "redis-line": 3.02}, naive={})
    rows = [line.split(" | ") for line in turns_table(found, SCALE).splitlines()]
    trips = {(row[0].strip("| "), row[1]): row[-1].strip("| ") for row in rows}
    assert trips["Redis, 100 turns", "1"] == "2.0"
    assert trips["Redis, in line", "1"] == "3.0"
    assert trips["Redis, in line", "16"] == trips["SQLite, 100 turns", "1"] == "–"


def test_the_usual_way_grows_from_its_first_row() -> None:
    naive = {1000: [Turn(900.0, 2.0, 50_000)], 10: [Turn(90.0, 0.1, 500), Turn(100.0, 0.1, 500), Turn(9.0, 0.1, 500)]}
    found = Found(samples=SAMPLES, rounds=1, trips={}, naive=naive)
    rows = naive_table(found).splitlines()[2:]
    assert rows[0].startswith("| 10 | 90 | 0.10 | 0 | 1.0 |")
    assert rows[1].startswith("| 1,000 | 900 | 2.00 | 50 | 10.0 |")


def test_cases_are_labelled_by_store_and_depth() -> None:
    assert report.label("postgres-10000") == "PostgreSQL, 10,000 turns"
    assert report.label("redis-line") == "Redis, in line"
    assert report.label("s100") == "Remora, stateful, 100 turns"
