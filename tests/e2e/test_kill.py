"""SIGKILL at random moments under load: every turn whose end a client saw is there exactly once."""

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path

import aiohttp

from tests.support.app import said
from tests.support.upstream import ScriptedUpstream, model

ROUNDS = int(os.environ.get("TEST_KILLS", "8"))
SESSIONS = 6


async def start(upstream: str, folder: Path, *more: str, **variables: str) -> tuple[asyncio.subprocess.Process, str]:
    """The real command, in a process of its own; returns it with its URL when it listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", "--upstream", upstream, "--listen", "127.0.0.1:0",
        "--admin", "127.0.0.1:0", "--store", f"sqlite:///{folder / 'remora.db'}", *more,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **variables},
    )  # fmt: skip
    assert process.stderr
    line = (await process.stderr.readline()).decode()
    assert "listens on http://" in line, line
    return process, line.split("listens on ")[1].split(" ")[0]


class Speaker:
    """One client on one session: says numbered things and notes what it saw the end of."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.count = 0
        self.seen: list[tuple[str, str]] = []

    async def speak(self, http: aiohttp.ClientSession, url: str) -> None:
        """Until the proxy dies."""
        while True:
            self.count += 1
            text = f"{self.session} says {self.count}"
            body = {"model": "m", "messages": [said("user", text)], "stream": self.count % 2 == 0}
            try:
                async with http.post(
                    f"{url}/v1/chat/completions", json=body, headers={"X-Session-Id": self.session}
                ) as reply:
                    raw = await reply.text()
                    if reply.status != 200:
                        continue
            except (aiohttp.ClientError, ConnectionError):
                return
            self.seen.append((text, answer(raw)))


def answer(raw: str) -> str:
    if raw.startswith("{"):
        return str(json.loads(raw)["choices"][0]["message"]["content"])
    events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)


async def test_no_acknowledged_turn_is_lost_or_doubled(tmp_path: Path) -> None:
    chance = random.Random(os.environ.get("TEST_SEED", "remora"))
    speakers = [Speaker(f"s{n}") for n in range(SESSIONS)]
    async with ScriptedUpstream(model()) as upstream:
        for _ in range(ROUNDS):
            process, url = await start(upstream.url, tmp_path)
            enough = len(upstream.requests) + chance.randint(1, 200)
            async with aiohttp.ClientSession() as http:
                talk = asyncio.gather(*(speaker.speak(http, url) for speaker in speakers))
                await upstream.until(lambda u, enough=enough: len(u.requests) >= enough, within_s=60)  # type: ignore[misc]
                process.send_signal(signal.SIGKILL)
                await process.wait()
                await talk
        process, url = await start(upstream.url, tmp_path)
        async with aiohttp.ClientSession() as http:
            for speaker in speakers:
                body = {"model": "m", "messages": [said("user", "what was said?")]}
                headers = {"X-Session-Id": speaker.session, "X-Session-Record": "no"}
                async with http.post(f"{url}/v1/chat/completions", json=body, headers=headers) as reply:
                    assert reply.status == 200
                messages = upstream.requests[-1].json()["messages"][:-1]
                pairs = [
                    (ask["content"], told["content"]) for ask, told in zip(messages[::2], messages[1::2], strict=True)
                ]
                assert len(set(pairs)) == len(pairs)
                # a turn that was recorded but whose end the client did not see may stand between
                assert [pair for pair in pairs if pair in set(speaker.seen)] == speaker.seen
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert sum(len(speaker.seen) for speaker in speakers) > ROUNDS
