"""Stored chat completions: which request asks what, the scan through many, and what happens when the store is away."""

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.dialects.chat import CHAT
from proxy.errors import InvalidBody, NotFound, StoreUnavailable, UnknownPolicy
from proxy.exchange.contract import Request
from proxy.exchange.house import House
from proxy.exchange.record import ExchangeRecord
from proxy.policy import Policies, Policy
from proxy.resources.completions import SCAN, Completions, completion_path, stores
from proxy.resources.shelf import Kept, encode, ref_of
from proxy.stores.contract import Ref
from proxy.stores.memory import MemoryStore
from proxy.upstream.contract import UpstreamReply
from tests.exchange.making import Came, asked, headers
from tests.resources.test_storing import DONE, FINISH, PLAIN, TEXT, Seen


class Away(MemoryStore):
    """A store whose labels cannot be written."""

    async def label(self, ref: Ref, label: bytes, *, new: bool, ttl_s: int | None = None) -> bool:
        raise StoreUnavailable("The store is away.")


class Timed(MemoryStore):
    """Remembers how long labels are kept."""

    ttl_s: int | None = -1

    async def label(self, ref: Ref, label: bytes, *, new: bool, ttl_s: int | None = None) -> bool:
        self.ttl_s = ttl_s
        return await super().label(ref, label, new=new, ttl_s=ttl_s)


class Answers:
    """An upstream that gives these replies."""

    def __init__(self, *replies: Came) -> None:
        self._replies = deque(replies)
        self.bodies: list[object] = []

    async def send(
        self, method: str, target: str, headers: CIMultiDict[str], body: bytes | AsyncIterator[bytes] | None
    ) -> UpstreamReply:
        self.bodies.append(body)
        return self._replies.popleft()


def completions(
    store: MemoryStore, *replies: Came, policies: Policies | None = None, say: Callable[[str], None] = lambda line: None
) -> Completions:
    house = House(
        store, Answers(*replies), policies or Policies(), observe=lambda record: None, broke=lambda error: None
    )
    return Completions(house, CHAT, say)


def event_stream(*pieces: bytes) -> Came:
    return Came(*pieces, named={"Content-Type": "text/event-stream"})


def whole() -> Came:
    return Came(PLAIN, named={"Content-Type": "application/json"})


def wants(session: str | None = None, **members: Any) -> Request:
    made = asked("hello", store=True, **members)
    return msgspec.structs.replace(made, path_session=session)


def record() -> ExchangeRecord:
    return ExchangeRecord(at_ms=0, method="POST", path="/", kind="session")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/chat/completions", ("list", "")),
        ("GET", "/v1/chat/completions/", ("list", "")),
        ("GET", "/v1/chat/completions/c-1", ("retrieve", "c-1")),
        ("GET", "/openai/v1/chat/completions/a%2Fb%20c", ("retrieve", "a/b c")),
        ("GET", "/v1/chat/completions/c-1/messages", ("messages", "c-1")),
        ("POST", "/v1/chat/completions/c-1", ("update", "c-1")),
        ("DELETE", "/v1/chat/completions/c-1", ("delete", "c-1")),
        ("POST", "/v1/chat/completions", None),
        ("DELETE", "/v1/chat/completions", None),
        ("PUT", "/v1/chat/completions/c-1", None),
        ("POST", "/v1/chat/completions/c-1/messages", None),
        ("GET", "/v1/chat/completions/c-1/other", None),
        ("GET", "/v1/chat", None),
        ("GET", "/v1/completions/c-1", None),
    ],
)
def test_the_path_says_what_is_asked(method: str, path: str, expected: tuple[str, str] | None) -> None:
    assert completion_path(method, path) == expected


def test_only_true_means_store() -> None:
    assert stores(b'{"messages":[], "store": true }')
    for body in (
        b'{"store":false}',
        b'{"store":"true"}',
        b'{"store":1}',
        b"{}",
        b"[]",
        b"",
        b'{"store":true,"store":true}',
    ):
        assert not stores(body)


@settings(deadline=None, max_examples=40)
@given(
    marks=st.lists(st.integers(0, 2), max_size=3 * SCAN),
    wanted=st.sampled_from([None, 0, 1]),
    limit=st.integers(1, 40),
    order=st.sampled_from(["asc", "desc"]),
)
@example(marks=[1] * (2 * SCAN) + [0, 1, 0], wanted=0, limit=1, order="asc")
async def test_a_filter_finds_all_of_them_however_far_apart(
    marks: list[int], wanted: int | None, limit: int, order: str
) -> None:
    store = MemoryStore()
    made = completions(store)
    for at, mark in enumerate(marks):
        kept = Kept(msgspec.Raw(b'{"id":"%d"}' % at), (), {"mark": str(mark)}, (f"m{mark % 2}",))
        # same moment, so that the name decides the order: digits of one length
        await store.label(ref_of("t", f"{at:03}"), encode(kept), new=True)
    query = {"limit": str(limit), "order": order} | ({} if wanted is None else {"metadata[mark]": str(wanted)})
    seen: list[str] = []
    while True:
        page = json.loads(await made.list("t", query))
        seen += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        assert len(page["data"]) == limit
        query["after"] = page["last_id"]
    expected = [str(at) for at, mark in enumerate(marks) if wanted is None or mark == wanted]
    assert seen == (expected if order == "asc" else expected[::-1])


@pytest.mark.parametrize("session", [None, "s"])
async def test_a_plain_reply_that_cannot_be_stored_is_refused(session: str | None) -> None:
    seen = Seen()
    with pytest.raises(StoreUnavailable) as failed:
        await completions(Away(), whole()).create(wants(session), seen, record())
    assert failed.value.retry is False
    assert not seen.started


@pytest.mark.parametrize("session", [None, "s"])
async def test_a_stream_that_cannot_be_stored_has_no_end(session: str | None) -> None:
    seen, made = Seen(), record()
    reply = event_stream(TEXT, FINISH, DONE)
    await completions(Away(), reply).create(wants(session, stream=True), seen, made)
    assert seen.body.startswith(TEXT)
    assert FINISH not in seen.body
    assert DONE not in seen.body
    assert (seen.ended, made.error) == ("store_unavailable", "store_unavailable")
    assert b'"store_unavailable"' in seen.body
    assert reply.closed


@pytest.mark.parametrize("stream", [False, True])
async def test_without_a_session_the_log_tells_of_the_completion(stream: bool) -> None:
    made = record()
    reply = event_stream(TEXT, FINISH, DONE) if stream else whole()
    await completions(MemoryStore(), reply).create(wants(stream=stream), Seen(), made)
    assert (made.kind, made.recorded, made.finish, made.policy) == ("completion", "whole", "stop", "default")
    assert (made.tenant, made.model, made.stream) == ("tenant", "gpt-4o", stream)


async def test_the_policy_says_how_long_it_is_kept() -> None:
    long, short = Policy(name="long", key="l"), Policy(name="short", key="s", ttl_s=60)
    policies = Policies((long, short))
    store = Timed()
    for name, ttl_s in (("long", None), ("short", 60), (None, policies.default.ttl_s)):
        for session in (None, "s"):
            request = msgspec.structs.replace(
                wants(session), headers=headers({"X-Session-Policy": name} if name else {})
            )
            await store.erase(ref_of("tenant", "c"))
            await completions(store, whole(), policies=policies).create(request, Seen(), record())
            assert store.ttl_s == ttl_s
    request = msgspec.structs.replace(wants(), headers=headers({"X-Session-Policy": "none"}))
    with pytest.raises(UnknownPolicy):
        await completions(store).create(request, Seen(), record())


async def test_a_session_is_answered_as_ever_when_nothing_is_to_be_stored() -> None:
    store = MemoryStore()
    seen = Seen()
    request = msgspec.structs.replace(asked("hello"), path_session="s")
    await completions(store, whole()).create(request, seen, record())
    assert seen.body == PLAIN
    assert await store.load(Ref("tenant", "session", "s"), key="", reach=None) is not None
    assert await store.labels("tenant", "completion", after=None, most=5, newest_first=False) == []


async def test_messages_of_any_form_are_shown() -> None:
    store = MemoryStore()
    forms = [b"5", b'{"role":"user"}', b'{"role":"tool","content":[],"x":1.0}', b'{"content":null}']
    kept = Kept(msgspec.Raw(b'{"id":"c"}'), tuple(map(msgspec.Raw, forms)), {}, ())
    await store.label(ref_of("t", "c"), encode(kept), new=True)
    page = await completions(store).messages("t", "c", {})
    assert b'"x":1.0' in page
    data = json.loads(page)["data"]
    assert [(each["id"], each["content"], each["content_parts"]) for each in data[:3]] == [
        ("c-0", None, None),
        ("c-1", None, None),
        ("c-2", None, []),
    ]
    assert data[3] == {"id": "c-3", "content": None, "content_parts": None}


@settings(deadline=None, max_examples=60)
@given(
    id=st.text(max_size=20) | st.just("x" * 300),
    body=st.binary(max_size=20) | st.sampled_from([b"{}", b'{"metadata":{}}', b'{"metadata":"\\ud800"}']),
    query=st.dictionaries(
        st.sampled_from(["limit", "after", "order", "model", "metadata", "metadata[a]", "metadata["]),
        st.text(max_size=4) | st.sampled_from(["1", "asc"]),
    ),
)
async def test_malformed_requests_are_refused_and_nothing_breaks(id: str, body: bytes, query: dict[str, str]) -> None:
    made = completions(MemoryStore())
    for ask in (
        made.retrieve("t", id),
        made.messages("t", id, query),
        made.update("t", id, body),
        made.delete("t", id),
        made.list("t", query),
    ):
        try:
            answer = json.loads(await ask)
        except (NotFound, InvalidBody):
            continue
        assert answer["object"] == "list"
        assert answer["data"] == []
