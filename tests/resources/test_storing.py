"""What the client sees of the end of a reply, it sees after the completion was stored; else it sees no end."""

import asyncio
import gzip
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.errors import StoreUnavailable, UpstreamBroken
from proxy.exchange.contract import Headers, Marks
from proxy.exchange.record import ExchangeRecord
from proxy.resources.accumulate import Raws
from proxy.resources.storing import Storing
from tests.exchange.making import headers

CALL = CHAT.read(b'{"messages":[{"role":"user","content":"x"}],"stream":true,"store":true}')
EVENTS = headers({"Content-Type": "text/event-stream"})
JSON = headers({"Content-Type": "application/json", "Content-Length": "5"})
FINISH = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
TEXT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
PLAIN = b'{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'


class Seen:
    """A client that remembers what it saw, and looks at `check` before it sees more."""

    def __init__(self, check: Callable[[bytes], None] = lambda seen: None) -> None:
        self.body = b""
        self.head: tuple[int, str, Headers, Marks] | None = None
        self.sized = False
        self.ended = ""
        self.gone = False
        self.callback: Callable[[], None] | None = None
        self._check = check

    @property
    def started(self) -> bool:
        return self.head is not None

    def on_gone(self, callback: Callable[[], None]) -> None:
        self.callback = callback

    async def send(self, status: int, reason: str, headers: Headers, marks: Marks, body: bytes) -> bool:
        await self.start(status, reason, headers, marks, sized=True)
        await self.write(body)
        return await self.finish()

    async def start(self, status: int, reason: str, headers: Headers, marks: Marks, *, sized: bool) -> None:
        assert not self.started
        self.head, self.sized = (status, reason, headers, marks), sized

    async def write(self, data: bytes) -> None:
        assert self.started
        assert not self.ended
        self.body += data
        self._check(self.body)

    async def finish(self) -> bool:
        assert self.started
        assert not self.ended
        self.ended = "whole"
        return True

    async def break_off(self, code: str) -> None:
        assert self.started
        assert not self.ended
        self.ended = code


class Kept:
    """What was stored, as decoded JSON; `fail` from the given time on."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.made: list[dict[str, Any]] = []
        self._fail_at = fail_at

    async def keep(self, members: Raws, reply: Reply) -> None:
        assert reply.message is not None
        await asyncio.sleep(0)
        if len(self.made) == self._fail_at:
            raise StoreUnavailable("The store is away.")
        self.made.append({name: json.loads(bytes(raw)) for name, raw in members.items()})


def storing(seen: Seen, kept: Kept) -> tuple[Storing, ExchangeRecord]:
    record = ExchangeRecord(at_ms=0, method="POST", path="/", kind="completion")
    return Storing(seen, CHAT, CALL, kept.keep, record), record


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(marks)]


PLACES = st.lists(st.integers(0, 1000), max_size=12)


@settings(deadline=None)
@given(places=PLACES, usage=st.booleans(), done=st.booleans(), sized=st.booleans())
def test_no_cut_of_a_stream_shows_its_end_before_it_is_stored(
    places: list[int], usage: bool, done: bool, sized: bool
) -> None:
    data = TEXT + FINISH + (USAGE if usage else b"") + (DONE if done else b"")
    kept = Kept()

    def check(body: bytes) -> None:
        assert not body.startswith(TEXT + FINISH) or kept.made
        assert not (usage and body.startswith(TEXT + FINISH + USAGE)) or kept.made[-1]["usage"]

    async def go() -> None:
        seen = Seen(check)
        client, record = storing(seen, kept)
        await client.start(200, "OK", EVENTS, (("X-Own", "1"),), sized=sized)
        for piece in cut(data, places):
            await client.write(piece)
        assert await client.finish()
        assert (seen.body, seen.ended, seen.sized) == (data, "whole", False)
        assert seen.head == (200, "OK", EVENTS, (("X-Own", "1"),))
        assert kept.made[-1]["choices"][0]["message"]["content"] == "hi"
        assert kept.made[-1]["choices"][0]["finish_reason"] == "stop"
        assert ("usage" in kept.made[-1]) == usage
        assert (record.stream, record.error) == (True, "")

    asyncio.run(go())


@settings(deadline=None)
@given(places=PLACES, fail_at=st.sampled_from([0, 1]))
def test_a_stream_that_cannot_be_stored_ends_in_an_error_event_and_breaks_off(places: list[int], fail_at: int) -> None:
    data = TEXT + FINISH + USAGE + DONE

    async def go() -> None:
        seen, kept = Seen(), Kept(fail_at)
        client, record = storing(seen, kept)
        await client.start(200, "OK", EVENTS, (), sized=False)
        for piece in cut(data, places):
            await client.write(piece)
        ended = await client.finish()
        if seen.ended == "whole":
            # it all came at once, and was stored at once
            assert fail_at == 1
            assert kept.made[0]["usage"]
            assert ended
            assert seen.body == data
            return
        assert not ended
        assert client.gone
        body, _, error = seen.body.rpartition(b"data: ")
        assert json.loads(error)["error"]["code"] == seen.ended == record.error == "store_unavailable"
        # the first failure hides the finish reason, the second what came behind it
        assert data.startswith(body)
        assert (FINISH in body) == bool(fail_at)
        assert DONE not in body
        called: list[int] = []
        client.on_gone(lambda: called.append(1))
        assert called == [1]

    asyncio.run(go())


@settings(deadline=None)
@given(places=PLACES)
def test_a_plain_reply_is_held_until_it_is_stored(places: list[int]) -> None:
    async def go() -> None:
        kept = Kept()

        def check(body: bytes) -> None:
            assert kept.made

        seen = Seen(check)
        client, _ = storing(seen, kept)
        await client.start(200, "OK", JSON, (), sized=True)
        for piece in cut(PLAIN, places):
            await client.write(piece)
            assert not client.started
        assert await client.finish()
        assert (seen.body, seen.ended, seen.head) == (PLAIN, "whole", (200, "OK", JSON, ()))
        assert kept.made == [json.loads(PLAIN)]

    asyncio.run(go())


async def test_a_plain_reply_that_cannot_be_stored_is_not_sent() -> None:
    for whole in (False, True):
        seen = Seen()
        client, _ = storing(seen, Kept(0))
        with pytest.raises(StoreUnavailable) as failed:
            if whole:
                await client.send(200, "OK", JSON, (), PLAIN)
            else:
                await client.start(200, "OK", JSON, (), sized=True)
                await client.write(PLAIN)
                await client.finish()
        assert not seen.started
        # the upstream has answered: who asks again pays again
        assert failed.value.retry is False


async def test_a_reply_that_is_given_at_once_is_stored_first_streamed_or_not() -> None:
    for marks, body in (((("Content-Type", "text/event-stream"),), TEXT + FINISH), ((), PLAIN)):
        seen, kept = Seen(), Kept()
        client, _ = storing(seen, kept)
        assert await client.send(200, "", JSON, marks, body)
        assert seen.body == body
        assert kept.made[0]["choices"][0]["message"]["content"] == "hi"


async def test_what_is_no_whole_completion_passes_and_is_not_stored() -> None:
    error = b'data: {"error":{"message":"no"}}\n\n'
    for status, kind, body in (
        (500, JSON, PLAIN),
        (200, JSON, b"<html>"),
        (200, EVENTS, TEXT + error + FINISH),
        (200, EVENTS, b": nothing\n\n"),
    ):
        seen, kept = Seen(), Kept()
        client, _ = storing(seen, kept)
        await client.start(status, "", kind, (), sized=True)
        await client.write(body)
        assert await client.finish()
        assert (seen.body, seen.ended, kept.made) == (body, "whole", [])


@pytest.mark.parametrize(("kind", "data"), [(JSON, PLAIN), (EVENTS, TEXT + TEXT)])
async def test_a_reply_that_breaks_off_shows_what_came_of_it(kind: Headers, data: bytes) -> None:
    seen, kept = Seen(), Kept()
    client, _ = storing(seen, kept)
    await client.start(200, "OK", kind, (), sized=True)
    await client.write(data[:-3])
    await client.break_off("upstream_broken")
    assert (seen.body, seen.ended, kept.made) == (data[:-3], "upstream_broken", [])


async def test_compressed_replies_are_unpacked_and_unknown_encodings_refused() -> None:
    for packed, ended in ((gzip.compress(PLAIN), "whole"), (gzip.compress(PLAIN)[:-3], "upstream_broken")):
        seen, kept = Seen(), Kept()
        client, record = storing(seen, kept)
        kind = headers({"Content-Type": "application/json", "Content-Encoding": "gzip", "Content-Length": "9"})
        await client.start(200, "OK", kind, (), sized=True)
        for at in range(len(packed)):
            await client.write(packed[at : at + 1])
        assert await client.finish() == (ended == "whole")
        assert (seen.body, seen.ended, seen.sized) == (PLAIN, ended, ended == "whole")
        assert seen.head is not None
        assert "Content-Encoding" not in seen.head[2]
        assert bool(kept.made) == (record.error == "") == (ended == "whole")
    client, _ = storing(seen := Seen(), Kept())
    with pytest.raises(UpstreamBroken):
        await client.start(200, "OK", headers({"Content-Encoding": "br"}), (), sized=True)
    assert not seen.started
