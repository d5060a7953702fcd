"""From the raw bytes of a client's request to the raw bytes that the upstream gets."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.framing.members import Members
from tests.e2e.test_model import Bench, bench  # noqa: F401 - a fixture
from tests.support.app import Remora, remora
from tests.support.raw import exchange
from tests.support.upstream import ScriptedUpstream, model, plain

ODD = (
    b' { "x" : 1.0,\n"big":123456789012345678901234567890, "model":"m" ,"messages" : '
    b'[ {"role": "user", "content": "caf\\u00e9 \xc3\xa9", "odd": 1e2} ] ,"\\u006eew":{"a" : [ 1,2 ]}, "e":1E+2} \n'
)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(model()) as server:
        yield server


@pytest.fixture
async def proxy(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Remora]:
    async with remora(upstream.url, tmp_path) as running:
        yield running


def raw(body: bytes, *headers: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: x", *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, b"", body])


async def test_a_first_turn_travels_as_the_clients_own_bytes(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await exchange(proxy.host, proxy.port, raw(ODD, b"X-Session-Id: s"))
    assert upstream.requests[0].body == ODD


async def test_in_a_later_turn_only_the_history_member_changes(proxy: Remora, upstream: ScriptedUpstream) -> None:
    for _ in range(2):
        await exchange(proxy.host, proxy.port, raw(ODD, b"X-Session-Id: s"))
    before, after = ODD[: ODD.index(b"[ {")], ODD[ODD.index(b' ,"\\u006eew') :]
    sent = upstream.requests[1].body
    own = b'{"role": "user", "content": "caf\\u00e9 \xc3\xa9", "odd": 1e2}'
    assert sent.startswith(before + b"[" + own + b",")
    assert sent.endswith(b"," + own + b"]" + after)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
members = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name not in ("messages", "stream", "n", "model")),
    values,
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(members, members, st.booleans(), st.sampled_from([None, 1, " "]))
def test_every_other_member_keeps_its_bytes_and_place(
    bench: Bench,  # noqa: F811
    front: dict[str, object],
    back: dict[str, object],
    ascii_only: bool,
    indent: int | str | None,
) -> None:
    back = {name: value for name, value in back.items() if name not in front}
    names = [*front, "messages", *back]

    def body(text: str) -> bytes:
        whole = {**front, "messages": [{"role": "user", "content": text}], **back}
        return json.dumps(whole, ensure_ascii=ascii_only, indent=indent).encode(errors="surrogatepass")

    async def twice() -> bytes:
        for text in ("one", "two"):
            answer = await bench.proxy.post("/v1/chat/completions", body(text), {"X-Session-Id": session})
            assert answer.status == 200, answer.body
        return bench.upstream.requests[-1].body

    session = f"bytes{len(bench.upstream.requests)}-{id(front)}"
    sent = bench.runner.run(twice())
    was, now = Members(body("two")), Members(sent)
    assert now.names() == names
    for name in names:
        if name != "messages":
            assert now.get(name) == was.get(name)
    assert [m["content"] for m in json.loads(sent)["messages"]][::2] == ["one", "two"]


async def test_the_reply_is_the_upstreams_with_session_headers_beside_it(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    body = b'{"choices":[ {"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"} ],"z":1.0}'
    headers = [("Content-Type", "application/json"), ("X-Odd", "a"), ("X-Odd", "b"), ("Connection", "keep-alive")]
    upstream.queue.append(plain(201, body, headers, reason="Made"))
    reply = await exchange(
        proxy.host, proxy.port, raw(b'{"messages":[{"role":"user","content":"x"}]}', b"X-Session-Id: s")
    )
    assert reply.line.startswith("HTTP/1.1 201 Made")
    assert reply.body == body
    names = [name.lower() for name, _ in reply.headers]
    assert [value for name, value in reply.headers if name.lower() == "x-odd"] == ["a", "b"]
    assert {"x-session-id", "x-session-turn", "x-session-context"} <= set(names)
    assert set(names) <= {
        "content-type",
        "x-odd",
        "content-length",
        "connection",
        "x-session-id",
        "x-session-turn",
        "x-session-context",
    }


async def test_a_request_without_a_session_is_untouched(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await exchange(proxy.host, proxy.port, raw(ODD, b"X-Odd: 1", b"X-Odd: 2", path=b"/v1/chat/completions?a=%2f&b=;"))
    request = upstream.requests[0]
    assert request.body == ODD
    assert request.target == "/v1/chat/completions?a=%2f&b=;"
    assert request.all("X-Odd") == ["1", "2"]
    assert request.get("Accept-Encoding") is None
