"""What recall and summaries add to a client's wait: sessions of 10,000 turns, one connection, the same window."""

import asyncio
import contextlib
import itertools
import random
import socket
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from bench import report
from bench.house import PHASES, POLICY, remora
from bench.load import CREDENTIAL, MODEL
from bench.machine import Machine, machine_line, versions_line
from bench.measure import say
from bench.procs import BenchError, Server, free_port
from bench.seed import Group
from bench.talk import Story, Talk, fill, story
from bench.workplace import workplace
from proxy.exchange.tenant import Tenants
from proxy.stores import open_store
from proxy.stores.contract import Ref
from proxy.upstream.headers import key_of

RECALL_MS = 2.0
"""What recall may add to the median."""
RECENT = 200
"""Questions are about turns that are older than so many, which no window of 4,000 tokens holds."""
QUIET_S, QUIET_CPU_S, LOUD_S = 0.5, 0.01, 180.0
WINDOW, RECALL, SUMMARY = "window", "recall", "summary"


SETTING = """\
{now:%Y-%m-%d %H:%M} UTC. {versions}.
{where}.

Window 4,000 tokens, `[recall]` (by keywords) and `[summary]` with nothing set; one connection, plain replies. The
database holds {deep.count} sessions of {deep.turns:,} turns, all indexed ({db}), in messages of 20 to 60 words out of
some {words:,}, beside numbers and identifiers that are met once. A question has twelve words, four of them rare ones of
an old turn. With pauses: {pause_ms:.0f} ms after each reply, the policies in turn. Back to back: in runs of {run}, so
that what is done in the background after a reply is in the way of the next request. Recall is asked over all
these sessions, nothing being recorded. The summary's turns are recorded, over {shallow.count} sessions that had
{shallow.turns} turns, the window's over as many others; {written} summaries were written meanwhile. Noise: the medians
of two random halves of the window's own requests are so near to each other, in 19 halvings of 20. CPU is the server's,
with what it does after the reply. Memory (RSS) at the end: {rss_mb:,.0f} MB."""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    deep: Group
    """The sessions in which is recalled; nothing is recorded in them while it is measured."""
    shallow: Group
    """Those that are summarised, and as many again that are not."""
    requests: int
    """Of each policy in each comparison back to back ..."""
    paused: int
    """... and with pauses."""


FULL = Scale(deep=Group("deep", 50, 10_000), shallow=Group("told", 50, 100), requests=3000, paused=1000)
QUICK = Scale(deep=Group("deep", 5, 2000), shallow=Group("told", 10, 100), requests=500, paused=200)
RUN = 25
"""Requests of one policy in a row, where they follow each other at once: what a reply leaves to be done in the
background is then in the way of the same policy's next request."""
PAUSE_S = 0.015
"""Otherwise a request waits so long after a reply, by when that is done; as with a client that reads before it asks."""


async def seed(url: str, scale: Scale, talk: Talk) -> tuple[Story, str]:
    """Fills the store at `url`; returns what was said and, in words, how long that took."""
    store = open_store(url)
    await store.open()
    try:
        tenant = Tenants("credential", (), await store.secret()).of(
            key_of("Authorization", CREDENTIAL), CIMultiDictProxy(CIMultiDict())
        )
        began = time.monotonic()
        told = await asyncio.to_thread(story, scale.deep.turns, tenant.digest_key, talk)
        say(f"{scale.deep.turns:,} turns made up: {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        refs = [Ref(tenant.name, "session", name) for name in scale.deep.names]
        await fill(store, refs, told, scale.deep.turns, indexed=True)
        took = f"{time.monotonic() - began:.0f} s"
        for group in _shallow(scale):
            refs = [Ref(tenant.name, "session", name) for name in group.names]
            await fill(store, refs, told, group.turns, indexed=False)
    finally:
        await store.close()
    return told, took


def _shallow(scale: Scale) -> tuple[Group, Group]:
    """The sessions that are summarised, and those that are not."""
    group = scale.shallow
    return group, Group("plain", group.count, group.turns)


class Reply(msgspec.Struct, frozen=True):
    ms: float
    """From the request's first byte to the reply's last."""
    context: str
    """X-Session-Context."""


class Client:
    """One keep-alive connection; it blocks, so that nothing of its own stands between the clock and the socket."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self.server.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb")

    def rest(self) -> None:
        """Until the server is quiet, which may take longer than it keeps an idle connection."""
        self.close()
        quiet(self.server)
        self._connect()

    def close(self) -> None:
        self._replies.close()
        self._socket.close()

    def ask(self, session: str, policy: str, text: str, *, record: bool = True) -> Reply:
        """A plain reply. Raises BenchError for any that is not 200."""
        body = orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0.7})
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {CREDENTIAL}\r\n"
            f"Content-Type: application/json\r\nX-Session-Id: {session}\r\nX-Session-Policy: {policy}\r\n"
            f"X-Session-Record: {'yes' if record else 'no'}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        sent = head.encode() + body
        began = time.perf_counter()
        self._socket.sendall(sent)
        status, found = self._replies.readline(), {}
        while line := self._replies.readline().strip():
            name, _, value = line.decode("latin-1").partition(": ")
            found[name.lower()] = value
        reply = self._replies.read(int(found.get("content-length", 0)))
        ms = (time.perf_counter() - began) * 1000
        if b" 200 " not in status or not reply or "x-session-context" not in found:
            raise BenchError(f"unexpected reply: {status!r} {found} {reply[:500]!r}\n{self.server.tail()}")
        return Reply(ms, found["x-session-context"])


class Comparison(msgspec.Struct, frozen=True):
    """Replies under a policy beside those under the bare window, in the order in which they came."""

    name: str
    unit: int
    """Requests of one policy in a row."""
    window: list[Reply]
    other: list[Reply]
    cpu_us: tuple[float, float]
    """Of the server for a request under each of the two, what it does after the reply included."""

    @property
    def added_ms(self) -> float:
        return p50(self.other) - p50(self.window)

    @property
    def noise_ms(self) -> float:
        """How far the medians of two halves of the window's own requests are apart, though they differ in nothing:
        of 400 halvings at random (of runs, where they came in runs) what 380 stay within."""
        runs = [self.window[at : at + self.unit] for at in range(0, len(self.window), self.unit)]
        chance, apart = random.Random(11), []
        for _ in range(400):
            chance.shuffle(runs)
            one, other = ([reply for run in half for reply in run] for half in (runs[::2], runs[1::2]))
            apart.append(abs(p50(one) - p50(other)))
        return sorted(apart)[380]

    def rows(self) -> Iterator[list[str]]:
        names = (f"window, beside {self.name}", self.name)
        for name, replies, cpu_us in zip(names, (self.window, self.other), self.cpu_us, strict=True):
            figures = [report.number(of(replies), 2) for of in (p50, p99)]
            added = [report.number(of(replies) - of(self.window), 2) for of in (p50, p99)]
            yield [
                name,
                f"{len(replies):,}",
                *figures,
                *(added if replies is self.other else ("", "")),
                f"{cpu_us:,.0f}",
            ]

    def target(self, limit_ms: float) -> list[str]:
        """A row; a limit of 0 is reached within the noise."""
        reached = self.added_ms <= (limit_ms or self.noise_ms)
        what = f"p50 added by {self.name}"
        most = f"{limit_ms:g} ms (noise {self.noise_ms:.2f})"
        return [what, most, f"{self.added_ms:.2f} ms", "PASS" if reached else "SHORT"]


def p50(replies: Sequence[Reply]) -> float:
    return statistics.median(reply.ms for reply in replies)


def p99(replies: Sequence[Reply]) -> float:
    return sorted(reply.ms for reply in replies)[int(0.99 * len(replies))]


def quiet(server: Server) -> None:
    """Waits until what a server does in the background is done. Raises BenchError if that never ends."""
    until = time.monotonic() + LOUD_S
    while time.monotonic() < until:
        before = server.cpu_s()
        time.sleep(QUIET_S)
        if server.cpu_s() - before < QUIET_CPU_S:
            return
    raise BenchError(f"{server.name} is still at work after {LOUD_S:.0f} s\n{server.tail()}")


def questions(told: Story, talk: Talk, turns: int) -> Iterator[str]:
    """Of twelve words: four rare ones of an old turn among others."""
    while True:
        said = [*told.rare[talk.random.randrange(turns - RECENT)], *talk.said(8)]
        talk.random.shuffle(said)
        yield f"{' '.join(said)}?"


def compare(
    client: Client, name: str, sessions: Mapping[str, Sequence[str]], ask: Iterator[str], requests: int, *, paused: bool
) -> Comparison:
    """Asks under the two policies in turn, each over its own sessions. Recorded only where sessions are no policy's
    alone."""
    unit = 1 if paused else RUN
    turns = {policy: itertools.cycle(names) for policy, names in sessions.items()}
    done: dict[str, list[Reply]] = {policy: [] for policy in sessions}
    cpu_s = dict.fromkeys(sessions, 0.0)
    record = len(set(map(tuple, sessions.values()))) > 1
    for policy in itertools.islice(itertools.cycle(sessions), 2 * requests // unit):
        before = client.server.cpu_s()
        for _ in range(unit):
            done[policy].append(client.ask(next(turns[policy]), policy, next(ask), record=record))
            if paused:
                time.sleep(PAUSE_S)
        cpu_s[policy] += client.server.cpu_s() - before
    window, other = done.values()
    window_us, other_us = (seconds * 1e6 / requests for seconds in cpu_s.values())
    how = "with pauses" if paused else "back to back"
    return Comparison(f"{name}, {how}", unit, window, other, (window_us, other_us))


def compare_recall(client: Client, told: Story, talk: Talk, scale: Scale) -> list[Comparison]:
    """With pauses and back to back, over all deep sessions. Raises BenchError unless old turns are recalled."""
    names = scale.deep.names
    ask = questions(told, talk, scale.deep.turns)
    began = time.monotonic()
    for name in names:
        # gives it an anchor, as any session in use has, and indexes what a session leaves behind for later
        client.ask(name, RECALL, next(ask))
    client.rest()
    say(f"deep sessions warmed up: {time.monotonic() - began:.0f} s")
    found = []
    for paused, wanted in ((True, scale.paused), (False, scale.requests)):
        for policy, name in itertools.product((WINDOW, RECALL), names):
            client.ask(name, policy, next(ask), record=False)
        each = compare(
            client, f"recall ({scale.deep.turns:,} turns)", {WINDOW: names, RECALL: names}, ask, wanted, paused=paused
        )
        recalled = sum("recalled=" in reply.context for reply in each.other)
        if recalled < 0.95 * wanted or any("recalled=" in reply.context for reply in each.window):
            raise BenchError(f"{recalled} of {wanted} requests recalled something: {each.other[-1].context}")
        found.append(each)
    return found


def compare_summary(client: Client, told: Story, talk: Talk, scale: Scale) -> tuple[list[Comparison], int]:
    """The same of recorded turns; and how many summaries were written meanwhile. Raises BenchError if none was."""
    summarised, plain = _shallow(scale)
    sessions = {WINDOW: plain.names, SUMMARY: summarised.names}
    ask = questions(told, talk, scale.deep.turns)
    for policy, names in sessions.items():
        for number, name in enumerate(names):
            # not all windows are to move at once
            for _ in range(1 + number % PHASES):
                client.ask(name, policy, next(ask))
    client.rest()
    say("shallow sessions warmed up")
    before = summaries(client.server)
    found = [
        compare(client, "the summary", sessions, ask, scale.paused, paused=True),
        compare(client, "the summary", sessions, ask, scale.requests, paused=False),
    ]
    client.rest()
    written = summaries(client.server) - before
    last = found[-1].other[-1].context
    if not written or "summarised=" not in last:
        raise BenchError(f"{written} summaries were written: {last}\n{client.server.tail()}")
    return found, written


def summaries(server: Server) -> int:
    """Calls for a summary that its log tells of. Raises BenchError if one failed."""
    lines = [orjson.loads(line) for line in server.log.read_bytes().splitlines() if b'"kind":"summary"' in line]
    if failed := next((line for line in lines if line.get("error")), None):
        raise BenchError(f"a summary failed: {failed}")
    return len(lines)


def write_policies(folder: Path) -> Path:
    policies = folder / "policies"
    policies.mkdir()
    for name, more in ((WINDOW, ""), (RECALL, "\n[recall]\n"), (SUMMARY, "\n[summary]\n")):
        (policies / f"{name}.toml").write_text(POLICY + more)
    return policies


def measure_recall(*, quick: bool) -> str:
    """The section of RESULTS.md."""
    scale = QUICK if quick else FULL
    machine = Machine()
    talk = Talk(5)
    with workplace() as (folder, processes):
        where = machine_line(folder)
        store = f"sqlite:///{folder / 'sessions.db'}"
        told, took = asyncio.run(seed(f"{store}?synchronous=normal", scale, talk))
        size_mb = sum(file.stat().st_size for file in folder.glob("sessions.db*")) / 1e6
        say(f"seeded and indexed: {took}, {size_mb:,.0f} MB")
        stub = processes.module("stub", "bench.stub", free_port())
        server = remora(processes, "recall", stub.port, store, write_policies(folder))
        with contextlib.closing(Client(server)) as client:
            recall = compare_recall(client, told, talk, scale)
            say("recall measured")
            summary, written = compare_summary(client, told, talk, scale)
        rss_mb = server.rss_mb()
    setting = SETTING.format(
        now=datetime.now(UTC),
        versions=versions_line(),
        where=f"{where}; during the run: {machine.line()}",
        deep=scale.deep,
        shallow=scale.shallow,
        db=f"{size_mb:,.0f} MB; filled in {took}",
        words=len(talk.common) + len(talk.names),
        pause_ms=PAUSE_S * 1000,
        run=RUN,
        written=written,
        rss_mb=rss_mb,
    )
    found = [*recall, *summary]
    rows = [each.target(RECALL_MS if each in recall else 0.0) for each in found]
    head = ["", "requests", "p50 ms", "p99 ms", "p50 added", "p99 added", "CPU µs a request"]
    last = "; ".join(f"{each.name}: `{each.other[-1].context}`" for each in found)
    parts = [
        "## What recall and summaries add to a client's wait",
        setting,
        report.table(["to reach", "at most", "measured", ""], rows),
        report.table(head, [row for each in found for row in each.rows()]),
        f"Last replies: {last}.",
    ]
    return "\n\n".join(parts)
