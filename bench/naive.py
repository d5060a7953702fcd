"""The usual way to keep a chat in Redis: one JSON value, read whole and written whole in each turn."""

import socket
import time
from pathlib import Path
from typing import Self

import hiredis
import msgspec
import orjson

from bench.stub import WORDS
from bench.text import stored_text, user_text

CHAT, SEED = "chat", "seed"
"""The key that turns are made on, and what it begins each of them as."""


class Turn(msgspec.Struct, frozen=True):
    cpu_us: float
    """Of this client: the server's is not in it."""
    took_ms: float
    moved_bytes: int
    """Of JSON, both ways."""


def messages(count: int) -> list[dict[str, str]]:
    """A chat of so many messages, a user's and a model's in turn."""
    texts = (stored_text, lambda serial: f"{WORDS} {serial:09d}")
    return [{"role": ("user", "assistant")[at % 2], "content": texts[at % 2](at)} for at in range(count)]


class Naive:
    """One connection to the server at a unix socket. A context manager."""

    def __init__(self, path: str | Path) -> None:
        self._wire = socket.socket(socket.AF_UNIX)
        self._wire.settimeout(30)
        self._wire.connect(str(path))
        self._reader = hiredis.Reader()
        self._said = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def call(self, *words: bytes | str) -> object:
        """The answer to one command. Raises hiredis.ReplyError if it is an error, ConnectionError at the end."""
        self._wire.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub says: a tuple of one
        while (answer := self._reader.gets()) is False:
            data = self._wire.recv(1 << 20)
            if not data:
                raise ConnectionError("Redis closed the connection")
            self._reader.feed(data)
        if isinstance(answer, hiredis.ReplyError):
            raise answer
        return answer

    def fill(self, count: int) -> None:
        """The chat from which each further turn starts."""
        self.call("SET", SEED, orjson.dumps(messages(count)))

    def turn(self) -> Turn:
        """Reads all, appends a question and its answer, writes all. It begins with as many messages as the turn before
        it: setting that up is not measured."""
        self.call("COPY", SEED, CHAT, "REPLACE")
        self._said += 1
        question, answer = user_text(self._said).decode(), f"{WORDS} {self._said:09d}"
        began, cpu = time.perf_counter(), time.thread_time()
        held = self.call("GET", CHAT)
        assert isinstance(held, bytes)
        chat = orjson.loads(held)
        chat.append({"role": "user", "content": question})
        chat.append({"role": "assistant", "content": answer})
        whole = orjson.dumps(chat)
        self.call("SET", CHAT, whole)
        return Turn((time.thread_time() - cpu) * 1e6, (time.perf_counter() - began) * 1000, len(held) + len(whole))
