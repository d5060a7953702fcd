"""Clients that hammer few sessions and note what they saw; and the model behind, which quotes what it was shown."""

import asyncio
import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import aiohttp

from proxy.cli.export import export
from tests.faults.checker import Kept, Said, Shown, answer, exported, faults, shown
from tests.support.app import Remora
from tests.support.app import said as message
from tests.support.upstream import Received, Script, Step, Wait, chunk, head, plain

PATIENCE_S = 90.0
"""No request takes longer, whatever happens: else it hangs."""
IMPATIENT_S = 1.0
"""Most clients hang up after so long, and try again: else all of them would soon wait for one that stands still."""
AT_THE_END_S = 2.0
OF_ALL = {"Authorization": "Bearer sk-client"}
QUESTION = "what was said?"


class Model:
    """Speaks for a moment, so that most of what runs at any time is a reply that is being made."""

    def __init__(self, chance: random.Random, most_s: float = 0.06) -> None:
        self._chance = chance
        self._most_s = most_s
        self.count = 0
        self.last: Shown = ()
        """What it was shown last."""

    def __call__(self, request: Received) -> Script:
        self.count += 1
        asked = request.json()
        self.last = shown(asked["messages"])
        text = answer(self.count, self.last)
        pause_s = 0.0 if self.last[-1][1] == QUESTION else self._chance.uniform(0, self._most_s)
        steps = self._stream(text, pause_s) if asked.get("stream") else self._plain(text, pause_s)
        return Script(steps)

    def _plain(self, text: str, pause_s: float) -> Iterable[Step]:
        yield _later(pause_s)
        choice = {"index": 0, "message": message("assistant", text), "finish_reason": "stop"}
        yield from plain(200, {"object": "chat.completion", "choices": [choice]}).steps

    def _stream(self, text: str, pause_s: float) -> Iterable[Step]:
        yield head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
        first, words = text[: text.index(" with")], text[text.index(" with") :]
        for delta, finish in (
            ({"role": "assistant", "content": first}, None),
            ({"content": words}, None),
            ({}, "stop"),
        ):
            yield chunk(_event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
            yield _later(pause_s / 3)
        yield chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _later(pause_s: float) -> Wait:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(pause_s, event.set)
    return Wait(event)


class Hammer:
    """`clients` on each of `sessions`, from `start` to `stop`. `urls` tells where to go, each time anew."""

    def __init__(
        self, urls: Callable[[], Sequence[str]], chance: random.Random, sessions: Mapping[str, str], clients: int
    ) -> None:
        """`sessions`: names, each with its policy."""
        self._urls = urls
        self._chance = chance
        self.sessions = sessions
        self._clients = clients
        self.said: list[Said] = []
        self.outcomes: Counter[str] = Counter()
        """How tries ended: statuses, codes, names of errors."""
        self.slowest_s = 0.0
        self.hung: list[str] = []
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        # a connection for each request, so that all workers take part
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        for session in self.sessions:
            for number in range(self._clients):
                self._tasks.append(asyncio.create_task(self._client(session, number)))

    async def stop(self) -> None:
        """Clients end what they are about, or hang up when it takes long."""
        self._stopping.set()
        _, late = await asyncio.wait(self._tasks, timeout=AT_THE_END_S)
        for task in late:
            task.cancel()
        for task in self._tasks:
            await asyncio.gather(task, return_exceptions=task in late)
        await self._http.close()

    @property
    def acknowledged(self) -> int:
        return sum(each.reply is not None for each in self.said)

    async def _client(self, session: str, number: int) -> None:
        count = 0
        while not self._stopping.is_set():
            count += 1
            await self._turn(session, f"{session} client {number} says {count}", patient=number == 0)

    async def _turn(self, session: str, text: str, *, patient: bool) -> None:
        """Some are sent once, some again under one key until their end is seen; now and then the client hangs up."""
        chance, cut = self._chance, False
        stream, again = chance.random() < 0.5, chance.random() < 0.5
        key = f"key of {text}" if again else ""
        began = time.monotonic()
        seen: tuple[str, int] | None = None
        try:
            while True:
                hangs_up_s = chance.uniform(0, 0.08) if chance.random() < 0.15 else None if patient else IMPATIENT_S
                try:
                    seen = await self._try(session, text, stream=stream, key=key, hangs_up_s=hangs_up_s)
                except TimeoutError:
                    cut = True
                except asyncio.CancelledError:
                    cut = True
                    raise
                if seen or not again or self._stopping.is_set():
                    break
        finally:
            reply, turn = seen or (None, 0)
            self.said.append(Said(session, text, reply, turn, began, time.monotonic(), cut))

    async def _try(
        self, session: str, text: str, *, stream: bool, key: str, hangs_up_s: float | None
    ) -> tuple[str, int] | None:
        """The reply that came to its end, and its turn. Raises TimeoutError when the client hung up."""
        urls = self._urls()
        if not urls:
            await asyncio.sleep(0.05)
            return None
        url = self._chance.choice(urls)
        headers = {**OF_ALL, "X-Session-Id": session, "X-Session-Policy": self.sessions[session]}
        if key:
            headers["Idempotency-Key"] = key
        body = {"model": "m", "messages": [message("user", text)], "stream": stream}
        began = time.monotonic()
        seen, turn = None, 0
        try:
            async with asyncio.timeout(hangs_up_s or PATIENCE_S):
                async with self._http.post(f"{url}/v1/chat/completions", json=body, headers=headers) as reply:
                    raw = await reply.text()
                    seen = read(raw, stream=stream) if reply.status == 200 else None
                    turn = int(reply.headers.get("X-Session-Turn", "0"))
                    how = "200" if seen else f"{reply.status} {reply.headers.get('X-Remora-Error', '')}"
        except TimeoutError:
            how = "hung up"
            if hangs_up_s is None:
                how = "waited for ever"
                self.hung.append(f"{text} at {url}, {time.monotonic() - began:.1f} s")
            raise
        except (aiohttp.ClientError, ConnectionError) as error:
            how = type(error).__name__
        finally:
            self.outcomes[how] += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        if seen:
            return seen, turn
        # whoever was refused comes again a little later
        await asyncio.sleep(0.05)
        return None


def read(raw: str, *, stream: bool) -> str | None:
    """The text of a reply that came to its end."""
    if not stream:
        return str(json.loads(raw)["choices"][0]["message"]["content"])
    events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    if any("error" in event for event in events) or not events:
        return None
    choices = [event["choices"][0] for event in events]
    if choices[-1]["finish_reason"] != "stop":
        return None
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def judged(hammer: Hammer, model: Model, proxy: Remora) -> list[str]:
    """All that is wrong with the sessions, read back through a proxy on their store and by exports."""
    found: list[str] = []
    for session, policy in hammer.sessions.items():
        answered = await proxy.chat(session, QUESTION, headers={**OF_ALL, "X-Session-Record": "no"})
        assert answered.status == 200, answered.body
        own = [each for each in hammer.said if each.session == session]
        wrong = faults(own, await kept(proxy, session), model.last[:-1], parallel=policy == "parallel")
        found += [f"{session}: {each}" for each in wrong]
    return found


async def kept(proxy: Remora, session: str) -> list[Kept]:
    store, out = proxy.here.house.store, io.BytesIO()
    async for info in store.list(name=session):
        await export(store, info.ref, out)
    return exported(out.getvalue().decode().splitlines()).get(session, [])
