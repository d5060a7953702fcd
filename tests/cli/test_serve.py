"""`remora serve` says in one line where it listens, stops cleanly on SIGTERM, and refuses clearly what it cannot do."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ANYWHERE = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", "memory:")


@contextmanager
def started(cwd: Path, *argv: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A command and the line that it says at its start."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("REMORA_")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "proxy", *argv]
    with subprocess.Popen(
        command, cwd=cwd, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        try:
            assert run.stderr is not None
            yield run, run.stderr.readline()
        finally:
            run.kill()


def ask(base: str, *messages: str) -> str:
    said = [{"role": "user", "content": text} for text in messages]
    body = json.dumps({"model": "echo", "messages": said}).encode()
    headers = {"Content-Type": "application/json", "X-Session-Id": "s"}
    request = urllib.request.Request(f"{base}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])


def url(line: str) -> str:
    return next(word for word in line.split() if word.startswith("http://"))


def test_it_serves_on_echo_remembers_and_stops(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--upstream", "echo:", *ANYWHERE) as (run, line):
        for fact in ("listens on http://127.0.0.1:", "upstream echo:", "store memory:", "default"):
            assert fact in line
        base = url(line)
        assert "sent 1 message" in ask(base, "I am Ann")
        assert 'sent 3 messages; the first user message was: "I am Ann"' in ask(base, "Who am I?")
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=20) == 0


def test_the_stand_in_model_serves_alone(tmp_path: Path) -> None:
    with started(tmp_path, "echo", "--listen", "127.0.0.1:0") as (run, line):
        assert "sent 2 messages" in ask(url(line).removesuffix("/v1"), "a", "b")
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=20) == 0


@pytest.mark.parametrize("argv", [("serve", "--upstream", "echo:", *ANYWHERE), ("echo",)])
def test_a_port_in_use_is_one_clear_line_and_exit_2(tmp_path: Path, argv: Sequence[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with started(tmp_path, *argv, "--listen", address) as (run, line):
            assert run.wait(timeout=20) == 2
            assert line.startswith("remora: --listen")
            assert address in line
            assert "in use" in line
            assert run.stderr is not None
            assert run.stderr.read() == ""
