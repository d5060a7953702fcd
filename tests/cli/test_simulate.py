"""`remora simulate` prints what each policy costs, for people and for programs, and says in one line what is wrong."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from proxy.cli import main
from tests.cli.simulation.talk import Json, turns, write

POLICY = "[window]\nmax_tokens = 2000\n"
MEMBERS = {"policy", "requests", "input_tokens", "cached_tokens", "cost", "prompt_cost", "largest", "dropped"}


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("REMORA_POLICIES", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def talk(tmp_path: Path) -> str:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "short.toml").write_text(POLICY)
    (tmp_path / "p" / "summing.toml").write_text(POLICY + "[summary]\n")
    return str(write(tmp_path / "talk.jsonl", turns(10)))


def simulated(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Json]:
    assert main(["simulate", "--json", *argv]) == 0
    out = capsys.readouterr().out
    rows: list[Json] = json.loads(out)
    assert all(set(row) >= {*MEMBERS, "summarised", "recalled"} for row in rows)
    return {str(row["policy"]): row for row in rows}


def test_each_policy_has_its_figures_beside_the_baselines(talk: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = simulated(capsys, talk, "--policies", "p")
    assert list(rows) == ["everything", "sliding", "default", "short", "summing"]
    assert all(row["requests"] == 10 for row in rows.values())
    # the built-in default, in a model's context, leaves nothing out
    assert {**rows["default"], "policy": ""} == {**rows["everything"], "policy": ""}
    assert rows["everything"]["dropped"] == rows["everything"]["summarised"] == 0
    assert rows["short"]["dropped"] == rows["summing"]["dropped"] == rows["summing"]["summarised"] == 6
    # after the turns 4, 6, 8 and 10
    assert rows["summing"]["summary_calls"] == 4
    assert main(["simulate", talk, "--policies", "p"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["policy", *rows]
    assert len({len(line) for line in lines}) == 1
    for line in lines[1:]:
        row = rows[line.split()[0]]
        figures = [int(cell.replace(",", "")) for cell in line.split()[1:]]
        names = ("requests", "input_tokens", "cached_tokens", "cost", "prompt_cost", "largest", "dropped")
        assert figures == [round(float(str(row[name]))) for name in (*names, "summarised", "recalled")]


def test_the_sliding_window_is_as_large_as_the_default_policys(talk: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulated(capsys, talk, "--policies", "p")["sliding"]["dropped"] == 0
    assert simulated(capsys, talk, "--policies", "p", "--window", "2500")["sliding"]["dropped"] == 4
    rows = simulated(capsys, talk, "--policies", "p", "--window", "2000")
    # of the same size, the one slides and the other is cut in steps
    assert (rows["sliding"]["dropped"], rows["short"]["dropped"]) == (5, 6)
    Path("p/default.toml").write_text("[window]\nmax_tokens = 1500\n")
    rows = simulated(capsys, talk, "--policies", "p")
    assert rows["sliding"]["dropped"] == 6
    assert rows["sliding"]["largest"] == rows["default"]["largest"] == 3 + 1600


def test_prices_and_the_cache_can_be_set(talk: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = simulated(capsys, talk, "--price", "1,1,0")["everything"]
    assert row["cost"] == row["prompt_cost"] == row["input_tokens"]
    assert simulated(capsys, talk, "--price", "0,0,2")["everything"]["cost"] == 2 * 4000
    usual = simulated(capsys, talk)["everything"]["cached_tokens"]
    exact = simulated(capsys, talk, "--cache-minimum", "0", "--cache-step", "1")["everything"]["cached_tokens"]
    assert exact == sum(100 + 500 * turn for turn in range(9))
    assert usual == sum((100 + 500 * turn) // 128 * 128 for turn in range(2, 9))
    forgetful = simulated(capsys, talk, "--cache-lifetime", "30s", "--pace", "31s")["everything"]
    assert forgetful["cached_tokens"] == 0


def test_several_transcripts_are_added_up(talk: str, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = simulated(capsys, talk), simulated(capsys, talk, talk)
    for name in ("requests", "input_tokens", "cached_tokens", "cost"):
        assert two["everything"][name] == 2 * float(str(one["everything"][name]))
    assert two["everything"]["largest"] == one["everything"]["largest"]


def test_a_chart_is_drawn(talk: str, capsys: pytest.CaptureFixture[str]) -> None:
    simulated(capsys, talk, "--chart", "c.svg")
    drawn = ET.parse("c.svg").getroot()
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    assert [len((line.get("points") or "").split()) for line in lines] == [10, 10, 10]


def test_nothing_but_figures_is_printed_where_nobody_looks(talk: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", talk]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["none.jsonl"], "none.jsonl: cannot be read: No such file"),
        (["TALK", "none.jsonl"], "none.jsonl: cannot be read: No such file"),
        (["TALK", "--policies", "none"], "--policies: 'none' is no folder"),
        (["TALK", "--policies", "wrong"], "wrong/bad.toml: window.max: there is no such key"),
        (["TALK", "--policies", "taken"], "taken/sliding.toml: a baseline is called sliding"),
        (["TALK", "--price", "1,2"], "--price: '1,2' is no price list"),
        (["TALK", "--price", "1,2,nan"], "--price: '1,2,nan' holds a price"),
        (["TALK", "--window", "0"], "--window: '0' is no number"),
        (["TALK", "--cache-step", "x"], "--cache-step: 'x' is no number"),
        (["TALK", "--cache-lifetime", "x"], "--cache-lifetime: 'x' is no duration"),
        (["TALK", "--chart", "c.png"], "--chart: c.png is no .svg file"),
        (["TALK", "--chart", "none/c.svg"], "--chart: none/c.svg cannot be written: No such file"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    talk: str, argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, name, text in (("wrong", "bad", "window.max = 1"), ("taken", "sliding", "")):
        Path(folder).mkdir()
        Path(folder, f"{name}.toml").write_text(text)
    assert main(["simulate", *[talk if each == "TALK" else each for each in argv]]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"remora: {told}")
    assert captured.err.count("\n") == 1
