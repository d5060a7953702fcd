"""Recall: old turns that bear on the new message are in its context, behind the stable prefix, and only theirs."""

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_summary import idle
from tests.support.app import Remora, remora, said
from tests.support.upstream import Received, Script, ScriptedUpstream, Wait, model, plain

POLICY = """
[window]
max_tokens = 200
[recall]
max_tokens = 300
"""
TALK = [
    "My sister Henrietta has moved to Trondheim in March.",
    "The parser lives in src/lexer/token_stream.py and is called TokenStream.",
    "Meine Tochter lernt seit einem Jahr Klarinette.",
    "I am allergic to walnuts, by the way.",
]


def filler(n: int) -> str:
    return f"Let us speak about the weather in week {n}: it was quite pleasant and the sun was shining on most days."


async def talked(proxy: Remora, *, upto: int = 20, session: str = "s") -> None:
    for text in TALK:
        await proxy.chat(session, text)
        await idle(proxy)
    for n in range(upto):
        await proxy.chat(session, filler(n))
        await idle(proxy)


def last(upstream: ScriptedUpstream) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = upstream.requests[-1].json()["messages"]
    return messages


@pytest.mark.parametrize("store", ["sqlite", "memory:"])
@pytest.mark.parametrize(
    ("question", "evidence"),
    [
        ("Where does Henrietta live now?", TALK[0]),
        ("In which file is the token stream?", TALK[1]),
        ("Welches Instrument lernt meine Tochter?", TALK[2]),
        ("Is there an allergy I told you about? Walnut?", TALK[3]),
    ],
)
async def test_what_was_said_long_ago_is_in_the_context_of_a_question_about_it(
    upstream: ScriptedUpstream, tmp_path: Path, store: str, question: str, evidence: str
) -> None:
    url = f"sqlite:///{tmp_path / 'recall.db'}" if store == "sqlite" else store
    async with remora(upstream.url, tmp_path, POLICY, store=url) as proxy:
        await talked(proxy)
        answer = await proxy.chat("s", question)
        messages = last(upstream)
        assert evidence in messages[-1]["content"]
        assert messages[-1]["content"].endswith(question)
        assert evidence not in json.dumps(messages[:-1])
        assert "recalled=" in answer.headers["X-Session-Context"]
        # what is recorded is what the client said
        await proxy.chat("s", "And now?", headers={"X-Session-From": answer.headers["X-Session-Turn"]})
        assert last(upstream)[-3]["content"] == question


async def test_the_prefix_before_the_new_message_is_what_it_was_without_recall(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await talked(proxy)
        for n in range(3):
            await proxy.chat("s", f"Where does Henrietta live, question {n}?")
            await idle(proxy)
        contexts = [request.json()["messages"][:-1] for request in upstream.requests[-3:]]
    for earlier, later in pairwise(contexts):
        assert later[: len(earlier)] == earlier or later[0] != earlier[0]


async def test_a_message_that_asks_for_nothing_recalls_nothing(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await talked(proxy)
        for text in ("Thanks!", "ok", "And what about that?", "Tell me a joke about quantum chromodynamics."):
            answer = await proxy.chat("s", text)
            assert last(upstream)[-1]["content"] == text
            assert "recalled" not in answer.headers["X-Session-Context"]


async def test_excerpts_are_the_same_for_all_steps_of_a_turn_and_gone_in_the_next(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await talked(proxy)
        upstream.queue.append(plain(200, {"object": "chat.completion", "choices": [choice]}))
        await proxy.chat("s", "Where does Henrietta live?")
        first = last(upstream)[-1]
        assert TALK[0] in first["content"]
        await proxy.chat("s", {"role": "tool", "tool_call_id": "c1", "content": "found"})
        assert last(upstream)[-3] == first
        await proxy.chat("s", "Thanks!")
        assert last(upstream)[-5] == said("user", "Where does Henrietta live?")
        assert TALK[0] not in upstream.requests[-1].body.decode()


async def test_only_the_branchs_own_past_is_recalled(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await talked(proxy)
        await proxy.chat("s", "Henrietta has a boat called Nordlys.", headers={"X-Session-From": "6"})
        for n in range(12):
            await proxy.chat("s", filler(100 + n))
            await idle(proxy)
        await proxy.chat("s", "Where does Henrietta live?")
        text = last(upstream)[-1]["content"]
        assert TALK[0] in text
        assert "Nordlys" in text
        await proxy.chat("s", "Where does Henrietta live, and her boat?", headers={"X-Session-From": "5"})
        assert "Nordlys" not in upstream.requests[-1].body.decode()


async def test_another_tenant_with_the_same_session_id_recalls_nothing(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await talked(proxy)
        other = {"Authorization": "Bearer sk-other"}
        for n in range(12):
            await proxy.chat("s", filler(n), headers=other)
            await idle(proxy)
        await proxy.chat("s", "Where does Henrietta live?", headers=other)
        assert TALK[0] not in upstream.requests[-1].body.decode()


async def test_a_session_that_began_without_recall_is_indexed_after_its_next_reply(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, "[window]\nmax_tokens = 200\n") as proxy:
        await talked(proxy, upto=150)
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await proxy.chat("s", "Hello again.")
        await idle(proxy)
        await proxy.chat("s", "Where does Henrietta live?")
        assert TALK[0] in last(upstream)[-1]["content"]


async def test_nothing_is_left_of_what_was_erased(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await talked(proxy)
        store = proxy.here.house.store
        [found] = [info.ref async for info in store.list()]
        await store.erase(found)
        await talked(proxy, upto=12, session="t")
        await proxy.chat("s", "Where does Henrietta live?")
        assert TALK[0] not in upstream.requests[-1].body.decode()


VECTORS = POLICY + 'method = "{method}"\nmodel = "small"\ntimeout_ms = {timeout}\n'
ABOUT = ("sister", "Henrietta", "relative", "sibling"), ("weather", "sun"), ("parser", "file"), ("walnut", "nut")


class Embedding:
    """A model with an embeddings endpoint: a text's vector says which of the subjects above it is about."""

    def __init__(self) -> None:
        self.turns = model("Noted.")
        self.asked: list[list[str]] = []
        self.wait: asyncio.Event | None = None

    def __call__(self, request: Received) -> Script:
        if not request.target.endswith("/v1/embeddings"):
            return self.turns(request)
        texts = request.json()["input"]
        self.asked.append(texts)
        assert request.get("Authorization") == "Bearer sk-client"
        data = [{"index": n, "embedding": self._vector(text)} for n, text in reversed([*enumerate(texts)])]
        answer = plain(200, {"object": "list", "data": data, "model": request.json()["model"]})
        return Script([Wait(self.wait), *answer.steps]) if self.wait and len(texts) == 1 else answer

    @staticmethod
    def _vector(text: str) -> list[float]:
        return [0.1 + float(any(word.lower() in text.lower() for word in words)) for words in ABOUT]


@pytest.mark.parametrize("method", ["embeddings", "both"])
async def test_by_vectors_a_question_in_other_words_finds_it(
    upstream: ScriptedUpstream, tmp_path: Path, method: str
) -> None:
    upstream.replies = Embedding()
    async with remora(upstream.url, tmp_path, VECTORS.format(method=method, timeout=5000)) as proxy:
        await talked(proxy)
        await proxy.chat("s", "What do you know of that sibling?")
        assert TALK[0] in last(upstream)[-1]["content"]


async def test_a_vector_that_is_late_costs_the_vectors_not_the_turn(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    embedding = Embedding()
    upstream.replies = embedding
    async with remora(upstream.url, tmp_path, VECTORS.format(method="both", timeout=50)) as proxy:
        await talked(proxy)
        embedding.wait = asyncio.Event()
        answer = await proxy.chat("s", "Where does Henrietta live?")
        assert answer.status == 200
        assert TALK[0] in last(upstream)[-1]["content"]
        embedding.wait.set()


async def test_an_upstream_without_embeddings_serves_by_keywords(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    turns = model("Noted.")

    def replies(request: Received) -> Script:
        return plain(404, {"error": "no"}) if request.target.endswith("/embeddings") else turns(request)

    upstream.replies = replies
    async with remora(upstream.url, tmp_path, VECTORS.format(method="both", timeout=500)) as proxy:
        await talked(proxy)
        await proxy.chat("s", "Where does Henrietta live?")
        assert TALK[0] in last(upstream)[-1]["content"]
