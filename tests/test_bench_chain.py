"""The bench of chains measures what it says."""

import socket
import sqlite3
import threading
from pathlib import Path

import pytest

from bench.chain import Age, Client, Measured, advance, targets, weigh
from bench.procs import BenchError


def answering(*replies: list[bytes]) -> tuple[int, list[bytes], threading.Thread]:
    """A server of one connection that answers each request with pieces; what it was sent."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def serve() -> None:
        wire, _ = listener.accept()
        with listener, wire:
            for pieces in replies:
                got = b""
                while b"\r\n\r\n" not in got or not got.endswith(b"}"):
                    got += wire.recv(1 << 16)
                seen.append(got)
                for piece in pieces:
                    wire.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    return listener.getsockname()[1], seen, thread


def reply(id: str, pad: int = 0) -> bytes:
    body = b'{"id":"%b","output_text":"%b"}' % (id.encode(), b"x" * pad)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def test_every_turn_names_the_one_before_it_and_replies_may_come_in_pieces() -> None:
    wires = [reply(id, 40) for id in ("resp_1", "resp_2", "resp_3", "resp_4")]
    port, seen, thread = answering(*[[wire[:at], wire[at:]] for at, wire in zip((3, 30, 60, 90), wires, strict=True)])
    with Client(port) as client:
        heads = [b"", b""]
        advance(client, heads, 2)
    thread.join()
    assert heads == [b"resp_3", b"resp_4"]
    named = [request.partition(b'"previous_response_id":')[2] for request in seen]
    assert named == [b"", b"", b'"resp_1"}', b'"resp_2"}']


@pytest.mark.parametrize(
    "wire", [b"HTTP/1.1 400 no\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b""]
)
def test_what_is_no_response_stops_the_measurement(wire: bytes) -> None:
    port, _, thread = answering([wire])
    with Client(port) as client, pytest.raises(BenchError):
        client.go_on(b"")
    thread.join()


def test_ratios_and_growth() -> None:
    young, old = Age([1.0, 2.0, 9.0], [100.0, 300.0, 100.0]), Age([2.0, 3.0, 1.0], [110.0, 270.0, 300.0])
    found = Measured(young, old, (1000, 51_000, 101_000, 171_000), chains=10)
    assert found.time_ratio == 1.5
    assert found.cpu_ratio == 1.1
    assert found.growth == (100.0, 100.0, 140.0)
    assert [(round(target.value, 3), target.mark) for target in targets(found)] == [
        (1.5, "SHORT"), (1.1, "PASS"), (1.4, "SHORT")
    ]  # fmt: skip


def test_a_database_is_weighed_with_what_is_still_in_its_log(tmp_path: Path) -> None:
    link = sqlite3.connect(tmp_path / "a.db")
    link.execute("PRAGMA journal_mode = WAL")
    link.execute("CREATE TABLE a (b)")
    link.commit()
    before = weigh(tmp_path / "a.db")
    link.execute("INSERT INTO a VALUES (?)", (b"x" * 100_000,))
    link.commit()
    assert 95_000 <= weigh(tmp_path / "a.db") - before <= 120_000
    link.close()
