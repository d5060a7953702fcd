"""The command line tells what there is, runs one command, and ends with a clear line and the right status."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.cli import flags, main

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REMORA_UPSTREAM", "REMORA_STORE", "REMORA_POLICIES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "argv", [[], ["swim"], ["serve", "--colour"], ["sessions"], ["sessions", "erase"], ["serve", "--up", "echo:"]]
)
def test_a_wrong_command_line_exits_2_and_tells_the_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: remora" in capsys.readouterr().err


def test_help_names_every_command_and_each_has_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    commands = ("serve", "check", "echo", "sessions", "simulate")
    for argv in ([], *([command] for command in commands), *(["sessions", a] for a in ("list", "import", "erase"))):
        with pytest.raises(SystemExit) as caught:
            main([*argv, "--help"])
        assert caught.value.code == 0
        out = capsys.readouterr().out
        assert all(command in out for command in commands) or argv
        assert "default" in out or not argv or argv == ["sessions"]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("remora")


def test_flags_are_told_by_name() -> None:
    from proxy.cli import _parser

    args = _parser().parse_args(["serve", "--upstream", "echo:", "--policies", "p"])
    unset = dict.fromkeys(("--listen", "--admin", "--store", "--workers"))
    assert flags(args) == {"--upstream": "echo:", "--policies": "p", **unset}


def test_a_wrong_setting_exits_2_with_a_line_for_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "x.toml").write_text("window.max = 1")
    assert main(["serve", "--listen", "x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[:2] for line in lines] == [
        ["remora", " --upstream"],
        ["remora", " --listen"],
        ["remora", " policies/x.toml"],
    ]


def test_the_module_is_the_command_and_help_answers_at_once() -> None:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "proxy", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "serve clients" in done.stdout
    assert time.perf_counter() - start < 10
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, proxy.cli as c; c._parser(); print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"aiohttp", "asyncio", "msgspec", "tiktoken", "sqlite3", "uvloop"} & set(loaded.stdout.split())


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"p{number}.toml").write_text(f"description = '{'x' * 1000}'")
    command = f"{sys.executable} -m proxy check {tmp_path} | head -n 1"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("p0: right")
    assert done.stderr == ""
