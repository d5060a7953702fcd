"""The load generator: a raw HTTP/1.1 client in a process of its own. `python -m bench.load`, see `bench.job`.

For each job line on stdin it connects, warms up, says `ready`, waits for a line, runs, and answers with a result line.
So whoever steers it can read a server's CPU clock right before and after. It ends when stdin does.
"""

import asyncio
import math
import random
import statistics
import sys
import time
from collections import deque
from itertools import count
from typing import cast

import msgspec
import uvloop

from bench.job import Job, Result
from bench.text import user_text

MODEL = "gpt-4o"
CREDENTIAL = "Bearer sk-bench-0123456789abcdef"
"""LiteLLM's master key as well; Remora's tenant is made from it."""


def body_frame(stream: bool) -> tuple[bytes, bytes]:
    """What stands before and after the text of the one new message."""
    tail = b'"}]%b,"temperature":0.7}' % (b',"stream":true' if stream else b"")
    return b'{"model":"%b","messages":[{"role":"user","content":"' % MODEL.encode(), tail


class Run:
    """One job: its connections, its counts."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.left = 0
        self.latencies: list[float] = []
        self.firsts: list[float] = []
        self.errors = 0
        self.pieces = 0
        self.under_way = 0
        self.at_once = 0
        self.sample = b""
        self.fault = ""
        self.busy = 0
        self.until = math.inf
        self.idle = asyncio.Event()
        self.sessions = deque(job.sessions)
        self.texts = count(random.randrange(10**8))
        self.before, self.after = body_frame(job.stream)
        self.frame = (len(self.before) + len(self.after), job.expect.encode())

    def take(self, done: str) -> str | None:
        """The next session for a connection that is done with one (or had none); None: there is none."""
        if not self.job.sessions:
            return ""
        if done and self.job.recycle:
            self.sessions.append(done)
        return self.sessions.popleft() if self.sessions else None

    def head(self, session: str) -> bytes:
        """The head up to the length of the body."""
        lines = [
            f"POST {self.job.path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: {CREDENTIAL}",
            "Content-Type: application/json",
            "Accept: application/json",
            "User-Agent: bench",
            *self.job.headers,
        ]
        if session:
            lines.append(f"X-Session-Id: {session}")
        return "\r\n".join([*lines, "Content-Length: "]).encode()

    def request(self, head: bytes) -> bytes:
        text = user_text(next(self.texts))
        return b"%b%d\r\n\r\n%b%b%b" % (head, self.frame[0] + len(text), self.before, text, self.after)

    def error(self, fault: str) -> None:
        self.errors += 1
        self.fault = self.fault or fault

    def start(self, connections: "list[Connection]", requests: int) -> None:
        self.left = requests
        self.idle.clear()
        self.busy = 1
        for connection in connections:
            self.busy += 1
            self.go_on(connection)
        self.end()

    def go_on(self, connection: "Connection") -> None:
        """The connection's next request, or its end."""
        if time.perf_counter() > self.until:
            self.left = 0
        if self.left > 0 and connection.renew():
            self.left -= 1
            connection.send()
        else:
            self.end()

    async def finish(self) -> None:
        try:
            await asyncio.wait_for(self.idle.wait(), self.job.timeout_s)
        except TimeoutError:
            self.error(f"{self.busy} connections were not done after {self.job.timeout_s} s")

    def end(self) -> None:
        self.busy -= 1
        if self.busy:
            return
        if self.left and not self.errors:
            self.error(f"the job's sessions are used up, {self.left} requests were not made")
        self.idle.set()


class Connection(asyncio.Protocol):
    """A keep-alive connection; one request at a time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.transport: asyncio.Transport
        self.loop = asyncio.get_running_loop()
        self.uses = 0
        self.session = run.take("")
        if self.session is None:
            raise ValueError("a job has fewer sessions than connections")
        self.prefix = run.head(self.session)
        self.sending = False
        self.clear()

    def clear(self) -> None:
        self.head = b""
        self.in_body = False
        self.missing: int | None = None
        self.tail = b""
        self.first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def renew(self) -> bool:
        """Goes to another session when it is time; False: there is none."""
        if self.run.job.uses and self.uses == self.run.job.uses:
            self.session = self.run.take(self.session or "")
            if self.session is None:
                return False
            self.prefix = self.run.head(self.session)
            self.uses = 0
        return True

    def send(self) -> None:
        self.uses += 1
        self.clear()
        self.sending = True
        self.began = time.perf_counter()
        self.transport.write(self.run.request(self.prefix))

    def data_received(self, data: bytes) -> None:
        if not self.in_body:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            data = self.head[end + 4 :]
            self.head = self.head[:end]
            self.in_body = True
            lower = self.head.lower()
            at = lower.find(b"\r\ncontent-length:")
            if at >= 0:
                self.missing = int(lower[at + 17 :].split(b"\r\n", 1)[0])
            if not lower.startswith(b"http/1.1 200") or self.run.frame[1] not in lower:
                self.run.error(f"unexpected reply: {(self.head + data)[:500]!r}")
            if not data and self.missing != 0:
                return
        run = self.run
        run.pieces += 1
        if not self.first:
            self.first = time.perf_counter()
            run.under_way += 1
            run.at_once = max(run.at_once, run.under_way)
        if self.missing is not None:
            self.missing -= len(data)
            if self.missing <= 0:
                self.done()
                return
        else:
            # the stub's events never end in CR LF, so only the last chunk of a body can end like this
            self.tail = (self.tail + data)[-48:]
            if self.tail.endswith(b"\r\n0\r\n\r\n"):
                if b"data: [DONE]" not in self.tail:
                    run.error(f"a stream ended without its end marker: {self.tail!r}")
                self.done()
                return
        if run.job.pause_ms:
            self.transport.pause_reading()
            self.loop.call_later(run.job.pause_ms / 1000, self.resume)

    def resume(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def done(self) -> None:
        run = self.run
        run.latencies.append(time.perf_counter() - self.began)
        run.firsts.append(self.first - self.began)
        run.sample = self.head
        run.under_way -= 1
        self.sending = False
        run.go_on(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.sending:
            self.sending = False
            self.run.error(f"the connection broke: {exc!r}")
            if self.first:
                self.run.under_way -= 1
            self.run.end()


def say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1000 if values else float("nan")


async def execute(job: Job) -> Result:
    """Connects, warms up, says that it is ready, waits for a line, runs."""
    loop = asyncio.get_running_loop()
    run = Run(job)
    connections: list[Connection] = []
    try:
        for _ in range(job.connections):
            _, protocol = await loop.create_connection(lambda: Connection(run), "127.0.0.1", job.port)
            connections.append(protocol)
        if job.warm:
            run.start(connections, job.warm * job.connections)
            await run.finish()
        run.latencies, run.firsts, run.pieces, run.at_once = [], [], 0, 0
        say(b"ready")
        sys.stdin.buffer.readline()
        began = time.perf_counter()
        run.until = began + job.most_s
        run.start(connections, job.requests)
        await run.finish()
        seconds = time.perf_counter() - began
        return Result(
            requests=len(run.latencies),
            errors=run.errors,
            seconds=seconds,
            p50_ms=_quantile(run.latencies, 0.5),
            p99_ms=_quantile(run.latencies, 0.99),
            first_ms=statistics.median(run.firsts) * 1000 if run.firsts else float("nan"),
            pieces=run.pieces / max(1, len(run.latencies)),
            at_once=run.at_once,
            sample=run.sample.decode("latin-1"),
            fault=run.fault,
        )
    finally:
        for connection in connections:
            connection.sending = False
            connection.transport.close()


def main() -> None:
    decode = msgspec.json.Decoder(Job).decode
    for line in iter(sys.stdin.buffer.readline, b""):
        say(msgspec.json.encode(uvloop.run(execute(decode(line)))))


if __name__ == "__main__":
    main()
