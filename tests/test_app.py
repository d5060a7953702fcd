"""Starting, stopping and reloading the whole product."""

import asyncio
import json
import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from proxy.errors import SettingsError
from tests.e2e.test_disconnect import delta, hang_up_after_one, paused
from tests.e2e.test_kill import answer, start
from tests.support.app import remora, said, sent
from tests.support.upstream import ScriptedUpstream, Wait, model, sse


async def test_the_second_turn_of_the_echo_model_has_the_first_in_view(tmp_path: Path) -> None:
    async with remora("echo:", tmp_path) as proxy:
        await proxy.chat("anna", "My name is Anna.")
        second = await proxy.chat("anna", "What is my name?")
        assert "3 messages" in second.text
        assert "My name is Anna." in second.text


async def test_what_was_said_is_there_after_a_restart(tmp_path: Path) -> None:
    async with ScriptedUpstream(model()) as upstream:
        for n in (1, 2, 3):
            async with remora(upstream.url, tmp_path) as proxy:
                reply = await proxy.chat("s", f"u{n}")
                assert reply.headers["X-Session-Turn"] == str(n)


async def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"--listen 127.0.0.1:{port}: .*choose another"):
            async with remora("echo:", tmp_path, listen=("127.0.0.1", port)):
                pass


async def test_stopping_lets_running_exchanges_end(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    async with ScriptedUpstream(model()) as upstream:
        process, url = await start(upstream.url, tmp_path)
        stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        upstream.queue.append(sse([delta("one"), Wait(go_on), delta(" two"), stop]))
        async with aiohttp.ClientSession() as http:
            body = {"stream": True, "messages": [said("user", "x")]}
            async with http.post(f"{url}/v1/chat/completions", json=body, headers={"X-Session-Id": "s"}) as reply:
                first = await reply.content.readuntil(b"\n\n")
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(10):
                    while True:
                        # stopping has begun when no new connection is taken; one that comes in that moment is reset
                        try:
                            _, writer = await asyncio.open_connection(*address(url))
                        except (ConnectionRefusedError, ConnectionResetError):
                            break
                        writer.close()
                        await asyncio.sleep(0.01)
                go_on.set()
                assert answer((first + await reply.read()).decode()) == "one two"
        assert await process.wait() == 0
        process, url = await start(upstream.url, tmp_path)
        async with aiohttp.ClientSession() as http:
            body = {"messages": [said("user", "y")]}
            await http.post(f"{url}/v1/chat/completions", json=body, headers={"X-Session-Id": "s"})
        assert sent(upstream.requests[-1]) == [("user", "x"), ("assistant", "one two"), ("user", "y")]
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


async def test_a_stop_does_not_wait_for_ever_and_keeps_what_was_read(tmp_path: Path) -> None:
    async with ScriptedUpstream(model()) as upstream:
        upstream.queue.append(paused(asyncio.Event()))
        async with remora(upstream.url, tmp_path, stop_timeout_s=0.2) as proxy:
            await hang_up_after_one(proxy)
        async with remora(upstream.url, tmp_path) as proxy:
            await proxy.chat("s", "next")
        assert sent(upstream.requests[-1]) == [("user", "count"), ("assistant", "one"), ("user", "next")]


async def test_sighup_reloads_policies_and_an_invalid_file_keeps_the_old_ones(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    file = policies / "default.toml"
    file.write_text("[window]\nmax_turns = 2\n")
    async with ScriptedUpstream(model()) as upstream:
        process, url = await start(upstream.url, tmp_path, "--policies", str(policies))
        assert process.stderr

        async def context() -> str:
            async with aiohttp.ClientSession() as http:
                body = {"messages": [said("user", "y")]}
                async with http.post(
                    f"{url}/v1/chat/completions", json=body, headers={"X-Session-Id": "s", "X-Session-Policy": "more"}
                ) as reply:
                    return reply.headers.get("X-Session-Context", (await reply.text()))

        assert "unknown_policy" in await context()
        (policies / "more.toml").write_text("")
        process.send_signal(signal.SIGHUP)
        assert b"policies reloaded" in await process.stderr.readline()
        assert 'policy="more"' in await context()
        file.write_text("[window]\nmax_turn = 2\n")
        process.send_signal(signal.SIGHUP)
        line = (await process.stderr.readline()).decode()
        assert "not reloaded" in line
        assert "window.max_turn" in line
        assert 'policy="more"' in await context()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_one_json_line_an_exchange(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with ScriptedUpstream(model()) as upstream, remora(upstream.url, tmp_path) as proxy:
        await proxy.chat("s", "x")
        await proxy.chat(None, "x")
        await proxy.chat("s", {"role": "nobody"})
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    kinds = [(line.get("kind"), line["status"]) for line in lines]
    assert kinds == [("session", 200), ("pass", 200), ("session", 400)]
    assert lines[0]["turn"] == 1
    assert lines[2]["error"] == "invalid_body"
    assert all(line["path"].endswith("/completions") for line in lines)
