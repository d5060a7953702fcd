"""One JSON line an exchange."""

import asyncio
import json
import os
from collections.abc import Iterator

import pytest

from proxy.exchange.record import ExchangeRecord
from proxy.observe import log
from proxy.observe.log import Log


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def record(number: int) -> ExchangeRecord:
    return ExchangeRecord(at_ms=number, method="POST", path="/v1", kind="pass")


async def test_every_record_is_a_line_in_order(pipe: tuple[int, int]) -> None:
    lines = Log(pipe[1])
    for number in range(100):
        lines.exchange(record(number))
    await lines.close()
    written = [json.loads(line) for line in os.read(pipe[0], 65_536).splitlines()]
    assert [line["at_ms"] for line in written] == list(range(100))


async def test_lines_are_written_without_a_close(pipe: tuple[int, int]) -> None:
    lines = Log(pipe[1])
    lines.exchange(record(1))
    assert json.loads(await asyncio.to_thread(os.read, pipe[0], 1000))["at_ms"] == 1
    lines.exchange(record(2))
    assert json.loads(await asyncio.to_thread(os.read, pipe[0], 1000))["at_ms"] == 2
    await lines.close()


async def test_lines_of_several_workers_do_not_run_into_each_other(pipe: tuple[int, int]) -> None:
    workers = [Log(pipe[1]) for _ in range(4)]
    reading = asyncio.create_task(asyncio.to_thread(_drain, pipe[0]))
    for number in range(2000):
        for worker in workers:
            worker.exchange(record(number))
    await asyncio.gather(*(worker.close() for worker in workers))
    os.write(pipe[1], b"end\n")
    written = [json.loads(line) for line in (await reading).splitlines() if line != b"end"]
    assert len(written) == 8000


async def test_a_reader_that_does_not_read_costs_lines_not_memory(pipe: tuple[int, int]) -> None:
    lines = Log(pipe[1])
    for number in range(log.LINES_AT_MOST + 7):
        lines.exchange(record(number))
    reading = asyncio.create_task(asyncio.to_thread(_drain, pipe[0]))
    await lines.close()
    os.write(pipe[1], b"end\n")
    written = (await reading).splitlines()
    assert len(written) == log.LINES_AT_MOST + 2
    assert json.loads(written[-2]) == {"event": "log_lines_dropped", "count": 7}


async def test_a_log_that_nobody_reads_is_told_once_and_stops_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    lines = Log(write)
    for number in range(3):
        lines.exchange(record(number))
        await lines.close()
    os.close(write)
    assert capfd.readouterr().err.splitlines() == ["the log cannot be written: Broken pipe"]


def _drain(descriptor: int) -> bytes:
    data = b""
    while not data.endswith(b"end\n"):
        data += os.read(descriptor, 65_536)
    return data
