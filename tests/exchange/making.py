"""Real parts for tests of one exchange: a store in memory, the chat dialect, requests and replies as they come."""

import json
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.errors import UpstreamError
from proxy.exchange.assemble import Prepared, assemble
from proxy.exchange.commit import commit
from proxy.exchange.contract import Request
from proxy.exchange.house import House
from proxy.exchange.identify import Identity
from proxy.exchange.tenant import Tenant
from proxy.policy import Policies, Policy
from proxy.stores.contract import Ref, Store
from proxy.upstream.contract import UpstreamReply

Json = dict[str, Any]

REF = Ref("tenant", "session", "s")
KEY = b"k" * 32
PLAIN = Policy(name="plain", key="plain")
"""Keeps everything, rewrites nothing."""


class Nobody:
    """The upstream of a house that is never asked."""

    async def send(
        self, method: str, target: str, headers: CIMultiDict[str], body: bytes | AsyncIterator[bytes] | None
    ) -> UpstreamReply:
        raise AssertionError("nobody should be asked")


class Came:
    """A reply of the upstream whose body comes in these pieces; an error among them is raised."""

    def __init__(self, *pieces: bytes | UpstreamError, status: int = 200, named: Mapping[str, str]) -> None:
        self.status, self.reason = status, "OK"
        self.headers = headers(named)
        self.closed = 0
        self.reads = 0
        self._pieces = deque(pieces)

    async def read(self) -> bytes:
        self.reads += 1
        piece = self._pieces.popleft() if self._pieces else b""
        if isinstance(piece, UpstreamError):
            raise piece
        return piece

    def close(self) -> None:
        self.closed += 1


def _raise(error: Exception) -> None:
    raise error


def house(store: Store) -> House:
    return House(store, Nobody(), Policies(), observe=lambda record: None, broke=_raise)


def said(role: str, content: str, **more: Any) -> Json:
    return {"role": role, "content": content, **more}


def headers(named: Mapping[str, str] | Sequence[tuple[str, str]] = ()) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(named))


def request(body: bytes) -> Request:
    return Request(
        method="POST",
        target="/v1/chat/completions",
        headers=headers(),
        upstream_headers=CIMultiDict(),
        body=body,
        raw=body,
        encoding="",
        path_session=None,
        tenant=lambda: Tenant(REF.tenant, REF.tenant, KEY),
    )


def asked(*messages: str | Json, model: str = "gpt-4o", **members: Any) -> Request:
    """A str is a user's message."""
    listed = [said("user", each) if isinstance(each, str) else each for each in messages]
    return request(json.dumps({"model": model, "messages": listed, **members}).encode())


async def prepare(store: Store, req: Request, policy: Policy = PLAIN, *, from_turn: int | None = None) -> Prepared:
    return await assemble(CHAT, req, CHAT.read(req.body), Identity(REF.name, policy, True, from_turn), house(store))


def answer(prepared: Prepared, text: str = "", *, reported: int = 0, **message: Any) -> Reply:
    """What a plain reply that says `text` is read as."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": reported, "completion_tokens": 1, "total_tokens": reported + 1}
    reader = CHAT.reader(prepared.call, stream=False)
    reader.feed(json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode())
    reader.end()
    return reader.reply()


async def turn(
    store: Store, req: Request, text: str, policy: Policy = PLAIN, *, reported: int = 0, **message: Any
) -> Prepared:
    """One exchange that is answered by `text` and recorded."""
    prepared = await prepare(store, req, policy)
    reply = answer(prepared, text, reported=reported, **message)
    await commit(CHAT, req, house(store), prepared, reply, "whole", None, None)
    return prepared


async def history(store: Store) -> list[tuple[str, str]]:
    """(role, text) of all messages on the session's branch."""
    chain = await store.load(REF, key="", reach=None)
    return [(m.role, m.text) for entry in chain.entries for m in CHAT.messages(entry.wire)] if chain else []


def context(prepared: Prepared) -> list[tuple[str, str]]:
    """(role, content) of the messages that go upstream."""
    return [(each["role"], each["content"]) for each in json.loads(prepared.body)["messages"]]
