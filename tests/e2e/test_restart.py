"""A process that dies in the middle of responses: what is stored afterwards is true, and nothing stays in progress."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp

from proxy.stores import open_store
from tests.e2e.test_kill import start
from tests.support.upstream import ScriptedUpstream, Wait, model, sse

HEADERS = {"Authorization": "Bearer sk-client"}


def delta(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


async def told(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(url, headers=HEADERS) as reply:
        return json.loads(await reply.read())


async def test_responses_that_were_being_made_have_failed_and_those_that_ended_are_there(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with ScriptedUpstream(model()) as upstream, aiohttp.ClientSession() as http:
        process, url = await start(upstream.url, tmp_path)
        whole = {"model": "m", "input": "one", "stream": True}
        async with http.post(f"{url}/v1/responses", json=whole, headers=HEADERS) as reply:
            events = [line for line in (await reply.text()).splitlines() if line.startswith("data: ")]
        done = json.loads(events[-1][6:])["response"]["id"]
        upstream.queue += [sse([delta("half"), Wait(never)]), sse([delta("half"), Wait(never)])]
        background = {"model": "m", "input": "two", "background": True}
        async with http.post(f"{url}/v1/responses", json=background, headers=HEADERS) as reply:
            queued = json.loads(await reply.read())["id"]
        async with http.post(f"{url}/v1/responses", json={**background, "stream": True}, headers=HEADERS) as reply:
            seen: list[str] = []
            async for line in reply.content:
                if line.startswith(b"data: "):
                    seen.append(line.decode())
                if b"output_text.delta" in line and b"data: " in line:
                    break
            streamed = json.loads(seen[0][6:])["response"]["id"]
            # so that some of its log is written
            entry = streamed.removeprefix("resp_")[:32]
            store = open_store(f"sqlite:///{tmp_path / 'remora.db'}")
            await store.open()
            async with asyncio.timeout(20):
                while not any(run.entry == entry and run.events for run in await store.stale_runs(0, 10)):  # noqa: ASYNC110 - another process's work
                    await asyncio.sleep(0.05)
            await store.close()
            process.send_signal(signal.SIGKILL)
            await process.wait()

        process, url = await start(upstream.url, tmp_path)
        assert (await told(http, f"{url}/v1/responses/{done}"))["status"] == "completed"
        async with asyncio.timeout(40):
            for id in (queued, streamed):
                while (found := await told(http, f"{url}/v1/responses/{id}"))["status"] != "failed":
                    assert found["status"] in ("queued", "in_progress")
                    await asyncio.sleep(0.2)
                assert found["error"]["code"] == "server_error"
        # the events are there as they were first sent, with an end
        async with http.get(f"{url}/v1/responses/{streamed}?stream=true", headers=HEADERS) as reply:
            again = [line for line in (await reply.text()).splitlines() if line.startswith("data: ")]
        assert json.loads(again[-1][6:])["type"] == "response.failed"
        assert [json.loads(line[6:])["sequence_number"] for line in again] == list(range(len(again)))
        assert [line.strip() for line in seen][: len(again) - 1] == again[:-1][: len(seen)]
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_stop_ends_what_is_made_in_the_background(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with ScriptedUpstream(model()) as upstream, aiohttp.ClientSession() as http:
        process, url = await start(upstream.url, tmp_path, REMORA_STOP_TIMEOUT="1s")
        upstream.queue.append(sse([delta("half"), Wait(never)]))
        body = {"model": "m", "input": "two", "background": True, "stream": True}
        async with http.post(f"{url}/v1/responses", json=body, headers=HEADERS) as reply:
            id = json.loads((await reply.content.readuntil(b"\n\n")).split(b"data: ")[1])["response"]["id"]
            while b"output_text.delta" not in await reply.content.readuntil(b"\n\n"):
                pass
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        process, url = await start(upstream.url, tmp_path, REMORA_STOP_TIMEOUT="1s")
        found = await told(http, f"{url}/v1/responses/{id}")
        # what was read is kept, as of any session
        assert (found["status"], found["output_text"]) == ("incomplete", "half")
        async with http.get(f"{url}/v1/responses/{id}?stream=true", headers=HEADERS) as reply:
            last = [line for line in (await reply.text()).splitlines() if line.startswith("data: ")][-1]
        assert json.loads(last[6:])["type"] == "response.incomplete"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
