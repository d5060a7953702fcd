"""`remora sessions` finds the session that is meant, and does to it what was asked and nothing else."""

import asyncio
import io
import json
import sys
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.conversation.entry import Chain
from proxy.stores import open_store
from proxy.stores.contract import Ref
from tests.cli.said import Said, put

HI = Said(-1, None, [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], "whole", None, None)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with the sessions `one` (of ann) and `two` (of ann and of bob)."""
    monkeypatch.chdir(tmp_path)
    address = "sqlite:///some%20where.db?synchronous=normal"
    monkeypatch.setenv("REMORA_STORE", address)

    async def fill() -> None:
        store = open_store(address)
        await store.open()
        for tenant, name in (("ann", "one"), ("ann", "two"), ("bob", "two")):
            await put(store, Ref(tenant, "session", name), [HI])
        await store.close()

    asyncio.run(fill())
    return address


def load(address: str, tenant: str, name: str) -> Chain | None:
    async def read() -> Chain | None:
        store = open_store(address)
        await store.open()
        try:
            return await store.load(Ref(tenant, "session", name), key="", reach=None)
        finally:
            await store.close()

    return asyncio.run(read())


def test_list_gives_a_line_a_session(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sessions", "list"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["session", "tenant", "turns", "messages", "tokens", "updated", "expires"]
    assert [row[:5] for row in rows[1:]] == [
        ["one", "ann", "1", "2", "1"],
        ["two", "ann", "1", "2", "1"],
        ["two", "bob", "1", "2", "1"],
    ]
    assert {row[6] for row in rows[1:]} == {"never"}
    assert main(["sessions", "list", "--tenant", "bob"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("action", ["show", "export", "erase"])
def test_a_name_that_two_tenants_use_needs_the_tenant(
    url: str, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sessions", action, "two"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "remora: 2 tenants have a session 'two'; name one with --tenant: ann, bob.\n"
    assert main(["sessions", action, "two", "--tenant", "bob"]) == 0
    assert main(["sessions", action, "one"]) == 0
    assert main(["sessions", action, "one", "--tenant", "bob"]) == 1
    assert "no session 'one' of tenant 'bob'" in capsys.readouterr().err
    assert main(["sessions", action, "three"]) == 1
    assert load(url, "ann", "two") is not None


def test_erase_removes_that_session_only(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sessions", "erase", "two", "--tenant", "ann", "--yes"]) == 0
    assert capsys.readouterr().out == "erased two\n"
    assert load(url, "ann", "two") is None
    assert load(url, "bob", "two") is not None
    assert load(url, "ann", "one") is not None
    assert main(["sessions", "erase", "two", "--tenant", "ann"]) == 1


def test_export_and_import_carry_everything_over(
    url: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["sessions", "export"]) == 0
    lines = capsysbinary.readouterr().out
    assert [(x["session"], x["tenant"], x["message"]["content"]) for x in map(json.loads, lines.splitlines())] == [
        (name, tenant, text)
        for tenant, name in (("ann", "one"), ("ann", "two"), ("bob", "two"))
        for text in ("hi", "ho")
    ]
    (tmp_path / "all.jsonl").write_bytes(lines)
    other = ["--store", "sqlite:///other.db"]
    for wanted in (
        b"imported 3 entries (6 messages), 0 were there already\n",
        b"imported 0 entries (0 messages), 3 were",
    ):
        assert main(["sessions", "import", "all.jsonl", *other]) == 0
        assert capsysbinary.readouterr().out.startswith(wanted)
    assert main(["sessions", "export", *other]) == 0
    assert capsysbinary.readouterr().out == lines


def test_import_reads_standard_input_and_puts_it_under_the_tenant_given(
    url: str, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["sessions", "export", "one"]) == 0
    lines = capsysbinary.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert main(["sessions", "import", "--tenant", "bob"]) == 0
    assert load(url, "bob", "one") is not None


def test_a_damaged_import_says_the_line(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text("{}\n")
    assert main(["sessions", "import", "x"]) == 1
    assert capsys.readouterr().err.startswith("remora: line 1: ")
    assert main(["sessions", "import", "none"]) == 1
    assert capsys.readouterr().err == "remora: there is no file none.\n"


@pytest.mark.parametrize("argv", [["list"], ["show", "s"], ["export"], ["erase", "s"]])
def test_a_mistyped_database_is_not_made(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REMORA_STORE", raising=False)
    assert main(["sessions", *argv, "--store", "sqlite:///typo.db"]) == 2
    assert "there is no database typo.db" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_wrong_store_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sessions", "list", "--store", "carrier-pigeon:"]) == 2
    assert capsys.readouterr().err.startswith("remora: ")
