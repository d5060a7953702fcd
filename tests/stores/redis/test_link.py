"""A connection answers in order, within a bound, and is made again after it was lost."""

import asyncio
import time

import pytest
import uvloop

from proxy.errors import StoreUnavailable
from proxy.stores.redis import link as module
from proxy.stores.redis.address import Address, parse
from proxy.stores.redis.link import Link
from proxy.stores.redis.refusal import Refusal
from tests.support.redis import Server


async def test_answers_come_in_order(address: Address) -> None:
    link = Link(address)
    said = await asyncio.gather(*[link.ask("ECHO", f"{n}" * (n % 50 * 40)) for n in range(500)])
    assert said == [f"{n}".encode() * (n % 50 * 40) for n in range(500)]
    await link.close()


def test_uvloop_serves_too(address: Address) -> None:
    async def run() -> None:
        link = Link(address)
        assert await link.ask("ECHO", b"x" * 3_000_000) == b"x" * 3_000_000
        await link.close()

    uvloop.run(run())


async def test_a_refusal_harms_nobody_else(address: Address) -> None:
    link = Link(address)
    answers = await asyncio.gather(
        link.ask("ECHO", "a"), link.ask("NONSENSE"), link.ask("ECHO", "b"), return_exceptions=True
    )
    assert (answers[0], answers[2]) == (b"a", b"b")
    assert isinstance(answers[1], Refusal)
    await link.close()


async def test_who_goes_does_not_shift_the_answers(address: Address) -> None:
    link = Link(address)
    await link.ask("PING")
    asked = [asyncio.ensure_future(link.ask("ECHO", f"{n}")) for n in range(20)]
    await asyncio.sleep(0)
    for each in asked[::2]:
        each.cancel()
    said = await asyncio.gather(*asked, return_exceptions=True)
    assert said[1::2] == [f"{n}".encode() for n in range(1, 20, 2)]
    await link.close()


async def test_a_lost_connection_is_made_again(address: Address) -> None:
    link = Link(address)
    other = Link(address)
    for _ in range(3):
        number = await link.ask("CLIENT", "ID")
        assert isinstance(number, int)
        await other.ask("CLIENT", "KILL", "ID", number)
        try:
            new = await link.ask("CLIENT", "ID")
        except StoreUnavailable:
            # it was not known yet that the connection was lost
            new = await link.ask("CLIENT", "ID")
        assert isinstance(new, int)
        assert new > number
    await link.close()
    await other.close()


async def test_a_silent_server_is_given_up_in_time(redis_server: Server) -> None:
    link = Link(parse(f"{redis_server.url}?timeout=0.4"))
    await link.ask("PING")
    redis_server.pause()
    try:
        start = time.monotonic()
        answers = await asyncio.gather(*[link.ask("PING") for _ in range(5)], return_exceptions=True)
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        assert len({id(answer) for answer in answers}) == 5
        assert 0.4 <= time.monotonic() - start < 2
        # connecting is answered by the kernel, the greeting is not
        with pytest.raises(StoreUnavailable, match="in time"):
            await link.ask("PING")
        assert time.monotonic() - start < 4
    finally:
        redis_server.resume()
    assert await link.ask("ECHO", "x") == b"x"
    await link.close()


async def test_where_nobody_listens_is_said(tmp_path: object) -> None:
    for url in (f"unix://{tmp_path}/none?timeout=1", "redis://127.0.0.1:1?timeout=1"):
        link = Link(parse(url))
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await link.ask("PING")
        await link.close()


async def test_what_waits_is_bounded(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 20)
    link = Link(address)
    for _ in range(2):  # while connecting, and connected
        answers = await asyncio.gather(*[link.ask("PING") for _ in range(25)], return_exceptions=True)
        assert answers[:20] == [b"PONG"] * 20
        assert all(isinstance(answer, StoreUnavailable) for answer in answers[20:])
    await link.close()


async def test_what_is_no_redis_is_told(tmp_path: object) -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(page, f"{tmp_path}/s")
    link = Link(parse(f"unix://{tmp_path}/s?timeout=1"))
    with pytest.raises(StoreUnavailable, match="does not speak Redis"):
        await link.ask("PING")
    await link.close()
    server.close()
    await server.wait_closed()
