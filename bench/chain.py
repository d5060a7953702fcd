"""A chain of responses: what its 150th turn costs beside its 5th, and how the database grows with it."""

import re
import socket
import sqlite3
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec

from bench import report
from bench.house import POLICY
from bench.load import CREDENTIAL, MODEL
from bench.machine import Machine, machine_line, versions_line
from bench.measure import say
from bench.procs import BenchError, Processes, Server, free_port
from bench.sample import Target
from bench.text import user_text
from bench.workplace import workplace

YOUNG, OLD = 5, 150
MARKS = (50, 100, 150)
"""Turns at which the database is weighed."""
MOST = 1.1
BLOCK = 3
"""Requests of one age between two readings of the server's CPU clock; then comes the other age's turn."""

SETTING = """\
{now:%Y-%m-%d %H:%M} UTC. {versions}.
{where}.

`REMORA_RESPONSES=translate`, window 4,000 tokens, `trim_to` 0.5; plain replies, one connection. A turn is one new
message of about 31 tokens with `previous_response_id`, a reply has about 66. {chains} chains of each age, {block}
requests of one age and {block} of the other in turn; figures are medians over such
blocks, ratios those of neighbouring blocks."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE).search
_ID = re.compile(rb'"id":"(resp_[^"]+)"').search


class Scale(msgspec.Struct, frozen=True):
    chains: int
    """Of each age."""
    weighed: int
    """Chains that the database is weighed with."""


FULL, QUICK = Scale(150, 20), Scale(48, 10)


class Client:
    """One keep-alive connection to a server. A context manager."""

    def __init__(self, port: int) -> None:
        self._wire = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._said = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def go_on(self, previous: bytes) -> tuple[bytes, float]:
        """The next turn of a chain, b"" for its first; returns the response's id and how long it took, in ms."""
        self._said += 1
        named = b',"previous_response_id":"%b"' % previous if previous else b""
        body = b'{"model":"%b","input":"%b"%b}' % (MODEL.encode(), user_text(self._said), named)
        head = f"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {CREDENTIAL}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        began = time.perf_counter()
        self._wire.sendall(head.encode() + body)
        reply = self._read()
        took_ms = (time.perf_counter() - began) * 1000
        found = _ID(reply)
        if not reply.startswith(b"HTTP/1.1 200") or found is None:
            raise BenchError(f"unexpected reply: {reply[:500]!r}")
        return found[1], took_ms

    def _read(self) -> bytes:
        got, whole = b"", 0
        while not whole or len(got) < whole:
            data = self._wire.recv(1 << 16)
            if not data:
                raise BenchError(f"the connection was closed after {got[:500]!r}")
            got += data
            end = got.find(b"\r\n\r\n")
            if not whole and end >= 0:
                length = _LENGTH(got, 0, end)
                if length is None:
                    raise BenchError(f"a reply without its length: {got[:500]!r}")
                whole = end + 4 + int(length[1])
        return got


class Age(msgspec.Struct):
    """What the requests of one age took, block by block."""

    took_ms: list[float]
    """The median of a block."""
    cpu_us: list[float]
    """A request, over a block."""


class Measured(msgspec.Struct, frozen=True):
    young: Age
    old: Age
    bytes: tuple[int, ...]
    """Of the database, before the first turn and at MARKS."""
    chains: int
    """That the database was weighed with."""

    @property
    def time_ratio(self) -> float:
        return _ratio(self.old.took_ms, self.young.took_ms)

    @property
    def cpu_ratio(self) -> float:
        return _ratio(self.old.cpu_us, self.young.cpu_us)

    @property
    def growth(self) -> tuple[float, ...]:
        """Bytes a turn, between one mark and the next."""
        turns = (0, *MARKS)
        return tuple(
            (self.bytes[at + 1] - self.bytes[at]) / (turns[at + 1] - turns[at]) / self.chains
            for at in range(len(MARKS))
        )


def _ratio(old: list[float], young: list[float]) -> float:
    """The median of neighbouring blocks' own ratios: what else the machine does weighs on both alike."""
    return statistics.median(one / other for one, other in zip(old, young, strict=True))


def remora(processes: Processes, folder: Path, upstream: int) -> Server:
    policies = folder / "policies"
    policies.mkdir()
    (policies / "default.toml").write_text(POLICY)
    port = free_port()
    argv = [sys.executable, "-m", "proxy", "serve", "--upstream", f"http://127.0.0.1:{upstream}"]
    argv += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{free_port()}"]
    argv += ["--store", f"sqlite:///{folder / 'chains.db'}", "--policies", str(policies)]
    return processes.serve("chains", argv, port, env={"REMORA_RESPONSES": "translate"})


def weigh(database: Path) -> int:
    """Bytes of the pages in use, those that are still in the log included."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as link:
        [(pages,)], [(free,)], [(size,)] = (
            link.execute(f"PRAGMA {name}").fetchall() for name in ("page_count", "freelist_count", "page_size")
        )
    link.close()
    return int((pages - free) * size)


def advance(client: Client, heads: list[bytes], turns: int) -> None:
    """Every chain goes on by so many turns, all of them side by side."""
    for _ in range(turns):
        for at, head in enumerate(heads):
            heads[at], _ = client.go_on(head)


def run(client: Client, server: Server, database: Path, scale: Scale) -> Measured:
    weighed = [b""] * scale.weighed
    sizes, turn = [weigh(database)], 0
    for mark in MARKS:
        advance(client, weighed, mark - turn)
        turn = mark
        sizes.append(weigh(database))
    say("chains weighed")
    young, old = [b""] * scale.chains, [b""] * scale.chains
    advance(client, old, OLD - 1)
    advance(client, young, YOUNG - 1)
    found = {"young": Age([], []), "old": Age([], [])}
    for start in range(0, scale.chains, BLOCK):
        pair = [("young", young), ("old", old)]
        for name, heads in pair if start % (2 * BLOCK) else reversed(pair):
            some = heads[start : start + BLOCK]
            before = server.cpu_s()
            took_ms = [client.go_on(head)[1] for head in some]
            found[name].cpu_us.append((server.cpu_s() - before) * 1e6 / len(some))
            found[name].took_ms.append(statistics.median(took_ms))
    say("chains timed")
    return Measured(found["young"], found["old"], tuple(sizes), scale.weighed)


def targets(found: Measured) -> list[Target]:
    first, *_, last = found.growth[1:]
    return [
        Target(f"turn {OLD} to turn {YOUNG}, time", MOST, found.time_ratio),
        Target(f"turn {OLD} to turn {YOUNG}, CPU", MOST, found.cpu_ratio),
        Target(
            f"growth of the database a turn, turns {MARKS[1]}–{MARKS[2]} to {MARKS[0]}–{MARKS[1]}", MOST, last / first
        ),
    ]


def render(found: Measured, setting: str) -> str:
    ages = report.table(
        ["", "p50 ms", "CPU µs a request"],
        [
            [
                f"turn {turn}",
                report.number(statistics.median(age.took_ms), 2),
                report.number(statistics.median(age.cpu_us)),
            ]
            for turn, age in ((YOUNG, found.young), (OLD, found.old))
        ],
    )
    turns = (0, *MARKS)
    growth = report.table(
        ["turns", "database, KB a chain", "bytes a turn since the row above"],
        [
            [str(turns[at + 1]), report.number(found.bytes[at + 1] / found.chains / 1000, 1), report.number(grown)]
            for at, grown in enumerate(found.growth)
        ],
    )
    return "\n\n".join(["## A chain of responses", setting, report.target_table(targets(found)), ages, growth])


def measure_chain(*, quick: bool) -> str:
    """Runs it; returns the Markdown."""
    scale = QUICK if quick else FULL
    machine = Machine()
    with workplace() as (folder, processes):
        where = machine_line(folder)
        stub = processes.module("stub", "bench.stub", free_port())
        server = remora(processes, folder, stub.port)
        with Client(server.port) as client:
            found = run(client, server, folder / "chains.db", scale)
        where = f"{where}; during the run: {machine.line()}"
    setting = SETTING.format(
        now=datetime.now(UTC), versions=versions_line(), where=where, chains=scale.chains, block=BLOCK,
    )  # fmt: skip
    return render(found, setting)
