"""`remora check` tells every mistake with its path, and a line for each policy that is right."""

from pathlib import Path

import pytest

from proxy.cli import main


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("REMORA_POLICIES", raising=False)
    monkeypatch.chdir(tmp_path)


def test_no_files_at_all_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "default: right - built in, there are no policy files\n"


def test_right_and_wrong_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "a.toml").write_text("description = 'fine'")
    (folder / "b.toml").write_text("session.ttl = 1\nwindo.max_tokens = 1")
    assert main(["check", "--listen", "x"]) == 1
    out, err = capsys.readouterr()
    assert out == "a: right - fine\n"
    starts = [
        "--listen: ",
        "policies/b.toml: session.ttl: ",
        "policies/b.toml: windo: there is no such key; did you mean",
    ]
    assert [line.startswith(start) for line, start in zip(err.splitlines(), starts, strict=True)] == [True] * 3


def test_named_files_and_folders_are_checked_in_place_of_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "bad.toml").write_text("x = 1")
    (tmp_path / "more").mkdir()
    for name in ("a", "more/b", "more/c"):
        (tmp_path / f"{name}.toml").touch()
    assert main(["check", "a.toml", "more"]) == 0
    assert capsys.readouterr().out.split() == ["a:", "right", "b:", "right", "c:", "right"]
    assert main(["check", "none.toml"]) == 1
    assert "none.toml: cannot be read" in capsys.readouterr().err


def test_a_tie_between_named_files_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (tmp_path / f"{name}.toml").write_text("match.models = ['gpt-*']")
    assert main(["check", "a.toml", "b.toml"]) == 1
    assert "tie" in capsys.readouterr().err


def test_the_folder_may_come_from_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "o.toml").touch()
    monkeypatch.setenv("REMORA_POLICIES", "other")
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "o: right\n"
    assert main(["check", "--policies", "none"]) == 1
