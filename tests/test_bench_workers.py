"""The bench of workers measures what it says."""

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import report
from bench.__main__ import ALL, chosen, part
from bench.procs import Server, stop
from bench.sample import Sample, Samples, Target
from bench.servers import worker_cpu_s
from bench.workers import FULL, ONE, QUICK, TWO, Clocks, Found, Shares, busy_s, possible, seen_line, shares, wanted


def sample(case: str, round_: int, cpu_us: float, per_s: float) -> Sample:
    return Sample(
        case=case, kind="plain", connections=64, round=round_, requests=100, errors=0, seconds=100 / per_s, p50_ms=1.0,
        p99_ms=2.0, first_ms=1.0, cpu_us=cpu_us, rss_mb=30.0, pieces=1.0, at_once=1,
    )  # fmt: skip


def share(free: float, others_us: float = 200.0) -> Shares:
    return Shares(case=TWO, connections=64, round=0, others_us=others_us, free=free, busier=0.5)


def found(rate_two: float, free: float) -> Found:
    """Rounds of a machine that gets three times slower change no ratio."""
    runs = [
        run
        for round_, slower in enumerate((1.0, 3.0, 1.1))
        for run in (
            sample(ONE, round_, 1000.0 * slower, 1000.0 / slower),
            sample(TWO, round_, 1050.0 * slower, rate_two / slower),
        )
    ]
    return Found(Samples(runs), [share(free)])


@pytest.mark.parametrize(
    ("rate_two", "free", "mark"),
    [(1700.0, 2.0, "PASS"), (1700.0, 0.5, "PASS"), (1500.0, 2.9, "SHORT"), (1500.0, 1.2, "not to be seen here")],
)
def test_what_the_machine_could_not_show_is_not_called_missed(rate_two: float, free: float, mark: str) -> None:
    cpu, faster = wanted(found(rate_two, free), [64])
    assert cpu[1:] == ["at most 1.1 ×", "1.05 ×", "PASS"]
    assert faster[1:] == ["at least 1.6 ×", f"{rate_two / 1000:.2f} ×", mark]


def test_without_runs_nothing_is_reached() -> None:
    assert [row[-1] for row in wanted(Found(Samples([]), []), [64])] == ["not measured", "not measured"]


def test_others_on_the_machine_leave_less_of_it() -> None:
    before = Clocks(wall=10.0, busy=100.0, proxy=5.0, others=3.0, workers=(2.0, 2.5))
    after = Clocks(wall=12.0, busy=103.5, proxy=7.4, others=3.5, workers=(3.8, 3.1))
    seen = shares(TWO, 64, 0, before, after, 1000, 2)
    # 3.5 s were busy, 2.4 of them the proxy's and 0.5 the load's: 0.6 s in 2 s are somebody else's
    assert seen.free == pytest.approx(1.7)
    assert seen.others_us == pytest.approx(500)
    assert seen.busier == pytest.approx(0.75)


def test_one_process_has_no_busier_worker_and_clocks_that_run_late_free_no_more_than_all_cores() -> None:
    before, after = (
        Clocks(wall=at, busy=at, proxy=used, others=0.0, workers=()) for at, used in ((1.0, 0.0), (2.0, 1.5))
    )
    seen = shares(ONE, 64, 0, before, after, 100, 2)
    assert math.isnan(seen.busier)
    assert seen.free == 2


def test_what_asks_and_answers_takes_its_part_of_the_cores() -> None:
    assert possible(1000.0, 1000.0, 0.0, 2.0) == pytest.approx(2)
    assert possible(1000.0, 1000.0, 250.0, 2.0) == pytest.approx(1.6)
    assert possible(1000.0, 1000.0, 0.0, 0.0) == 0


def test_what_could_be_seen_is_said() -> None:
    line = seen_line(found(1700.0, 1.5), [64], 2)
    assert "1.50 of 2 cores" in line
    assert "200 µs" in line
    assert "at most 1.22 × one worker's" in line  # 1,155 and 200 µs a request on 1.5 cores; one worker did 909 a second


def test_rows_of_both_directions() -> None:
    assert report.at_most(Target("x", 1.1, 1.2))[1:] == ["at most 1.1 ×", "1.20 ×", "SHORT"]
    assert report.at_least("x", 1.6, 1.6)[-1] == "PASS"
    assert report.at_least("x", 1.6, 1.59)[-1] == "SHORT"
    assert report.at_least("x", 1.6, math.nan)[-1] == "not measured"
    assert report.wanted_table([["a", "b", "c", "PASS"]]).endswith("| a | b | c | PASS |")


def test_each_connection_talks_in_a_session_of_its_own() -> None:
    for scale in (FULL, QUICK):
        assert scale.sessions.count > max(scale.connections)


def test_the_machines_clock_goes_on() -> None:
    before, until = busy_s(), time.monotonic() + 10
    while busy_s() == before:
        assert time.monotonic() < until


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Server]:
    """A process with two children, one of which works."""
    child = [sys.executable, "-c", "while True: pass"], [sys.executable, "-c", "input()"]
    code = f"import subprocess; [p.wait() for p in [subprocess.Popen(c, stdin=subprocess.PIPE) for c in {child!r}]]"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    yield Server("family", 0, process, tmp_path / "log")
    stop(process)


def test_each_workers_clock_is_read_on_its_own_and_the_servers_holds_them_all(family: Server) -> None:
    until = time.monotonic() + 20
    while len(used := worker_cpu_s(family)) < 2 or max(used) < 0.3:
        assert time.monotonic() < until
    first, second = worker_cpu_s(family)
    assert first > second > 0
    assert family.cpu_s() > first + second


def test_a_part_is_measured_by_name() -> None:
    assert chosen("workers") == ["workers"]
    assert {*chosen("all"), "stores"} == set(ALL)
    assert all(callable(part(name)) for name in (*ALL, "peers"))
    assert len({part(name) for name in (*ALL, "peers")}) == len(ALL) + 1
