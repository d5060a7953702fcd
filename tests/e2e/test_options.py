"""Naming a session, and what its headers and its policy ask for."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.app import Remora, remora, said, sent
from tests.support.upstream import Script, ScriptedUpstream, Wait, model


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/api/v1/chat/completions",
        "/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
        "/v1beta/openai/chat/completions",
    ],
)
async def test_every_path_that_ends_in_chat_completions_is_stateful(
    proxy: Remora, upstream: ScriptedUpstream, path: str
) -> None:
    for text in ("one", "two"):
        await proxy.post(path, json.dumps({"messages": [said("user", text)]}).encode(), {"X-Session-Id": "s"})
    assert [request.target for request in upstream.requests] == [path, path]
    assert len(sent(upstream.requests[1])) == 3


async def test_the_path_names_a_session(proxy: Remora, upstream: ScriptedUpstream) -> None:
    body = json.dumps({"messages": [said("user", "one")]}).encode()
    await proxy.post("/s/my%2Fchat/v1/chat/completions?a=%20b", body)
    answer = await proxy.chat("my/chat", "two")
    assert upstream.requests[0].target == "/v1/chat/completions?a=%20b"
    assert answer.headers["X-Session-Turn"] == "2"


async def test_a_member_of_the_body_names_a_session(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, '[session]\nmembers = ["metadata.session_id", "user"]\n') as proxy:
        await proxy.chat(None, "one", metadata={"session_id": "m"})
        assert (await proxy.chat(None, "two", metadata={"session_id": "m"})).headers["X-Session-Turn"] == "2"
        assert (await proxy.chat("m", "three")).headers["X-Session-Turn"] == "3"
        assert (await proxy.chat(None, "one", user="u")).headers["X-Session-Id"] == "u"
        assert "X-Session-Id" not in (await proxy.chat(None, "alone")).headers
        assert sent(upstream.requests[-1]) == [("user", "alone")]


async def test_session_headers_never_reach_the_upstream(proxy: Remora, upstream: ScriptedUpstream) -> None:
    headers = {"X-Session-Policy": "default", "X-Session-Record": "yes", "X-Session-From": "0", "X-Session-Other": "x"}
    await proxy.chat("s", "hello", headers=headers)
    assert not [name for name, _ in upstream.requests[0].headers if name.lower().startswith("x-session")]
    assert upstream.requests[0].get("Accept-Encoding") == "identity"


async def test_models_and_embeddings_pass_through_with_the_session_taken_off(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    answer = await proxy.post("/s/anna/v1/embeddings", b'{"input": "x", "messages": []}', {"X-Session-Id": "s"})
    assert answer.status == 200
    assert upstream.requests[0].target == "/v1/embeddings"
    assert not upstream.requests[0].all("X-Session-Id")


async def test_a_session_on_an_api_that_is_not_spoken_is_refused(proxy: Remora, upstream: ScriptedUpstream) -> None:
    refused = await proxy.post("/v1/messages", b"{}", {"X-Session-Id": "s"})
    assert (refused.status, refused.code) == (400, "unsupported_dialect")
    assert upstream.requests == []


async def test_record_no_uses_the_history_and_leaves_no_trace(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await proxy.chat("s", "one")
    answer = await proxy.chat("s", "aside", headers={"X-Session-Record": "no"})
    assert len(sent(upstream.requests[1])) == 3
    assert "X-Session-Turn" not in answer.headers
    await proxy.chat("s", "two")
    assert ("user", "aside") not in sent(upstream.requests[2])


async def test_record_no_waits_for_nobody(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await proxy.chat("s", "one")
    go_on = asyncio.Event()
    answer = model("slow")
    upstream.queue.append(Script([Wait(go_on), *model("x")(upstream.requests[0]).steps]))
    slow = asyncio.create_task(proxy.chat("s", "two"))
    await upstream.until(lambda u: len(u.requests) == 2)
    aside = await proxy.chat("s", "aside", headers={"X-Session-Record": "no"})
    assert aside.status == 200
    assert sent(upstream.requests[2]) == [("user", "one"), ("assistant", "reply 1"), ("user", "aside")]
    go_on.set()
    assert (await slow).status == 200
    assert answer is not None


async def test_from_continues_after_a_turn_as_a_new_branch(proxy: Remora, upstream: ScriptedUpstream) -> None:
    for n in range(1, 5):
        await proxy.chat("s", f"u{n}")
    answer = await proxy.chat("s", "other", headers={"X-Session-From": "2"})
    assert answer.headers["X-Session-Turn"] == "3"
    assert answer.headers["X-Session-Context"].endswith("branch")
    assert [text for _, text in sent(upstream.requests[-1])] == ["u1", "reply 1", "u2", "reply 2", "other"]
    await proxy.chat("s", "next")
    assert [text for _, text in sent(upstream.requests[-1])][-3:] == ["other", "reply 5", "next"]


async def test_from_reaches_into_an_entry_of_many_turns(proxy: Remora, upstream: ScriptedUpstream) -> None:
    line = [said("user", "u1"), said("assistant", "a1"), said("user", "u2"), said("assistant", "a2")]
    await proxy.chat("s", *line, "u3")
    await proxy.chat("s", "other", headers={"X-Session-From": "1"})
    assert [text for _, text in sent(upstream.requests[-1])] == ["u1", "a1", "other"]
    answer = await proxy.chat("s", "next")
    assert answer.headers["X-Session-Turn"] == "3"


async def test_from_zero_starts_again(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await proxy.chat("s", "u1")
    await proxy.chat("s", "again", headers={"X-Session-From": "0"})
    assert sent(upstream.requests[-1]) == [("user", "again")]


@pytest.mark.parametrize("turn", ["7", "-1", "x", "1.0"])
async def test_from_a_turn_that_is_not_there_is_refused(proxy: Remora, turn: str) -> None:
    await proxy.chat("s", "u1")
    refused = await proxy.chat("s", "x", headers={"X-Session-From": turn})
    assert refused.status == 400
    assert refused.code in {"unknown_turn", "invalid_header"}


async def test_the_newest_preamble_is_used_and_replaced(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await proxy.chat("s", said("system", "one"), said("developer", "dev"), "u1")
    await proxy.chat("s", "u2")
    assert sent(upstream.requests[1])[:3] == [("system", "one"), ("developer", "dev"), ("user", "u1")]
    await proxy.chat("s", said("system", "two"), "u3")
    assert sent(upstream.requests[2])[:2] == [("system", "two"), ("user", "u1")]
    await proxy.chat("s", "u4")
    assert sent(upstream.requests[3])[:2] == [("system", "two"), ("user", "u1")]


async def test_quirks_of_the_upstream_are_obeyed(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    policy = '[upstream]\nalternate = true\none_system = true\ndeveloper = "system"\n'
    async with remora(upstream.url, tmp_path, policy) as proxy:
        await proxy.chat("s", said("developer", "a"), said("system", "b"), "u1", "u2")
        assert sent(upstream.requests[0]) == [("system", "a\n\nb"), ("user", "u1\n\nu2")]


async def test_side_calls_are_relayed_stateless(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    policy = '[[session.ignore]]\nstarts_with = "### Task:"\n[[session.ignore]]\nmember = "metadata.task"\n'
    async with remora(upstream.url, tmp_path, policy) as proxy:
        await proxy.chat("s", "u1")
        side = await proxy.chat("s", "### Task:\nGenerate a title")
        await proxy.chat("s", "tags", metadata={"task": "tags_generation"})
        assert sent(upstream.requests[1]) == [("user", "### Task:\nGenerate a title")]
        assert sent(upstream.requests[2]) == [("user", "tags")]
        assert "X-Session-Turn" not in side.headers
        await proxy.chat("s", "u2")
        assert len(sent(upstream.requests[3])) == 3


async def test_policies_are_named_or_matched(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "short.toml").write_text("[window]\nmax_turns = 1\n")
    (folder / "small.toml").write_text('[match]\nmodels = ["small-*"]\n')
    async with remora(upstream.url, tmp_path) as proxy:
        assert (
            'policy="short"'
            in (await proxy.chat("s", "x", headers={"X-Session-Policy": "short"})).headers["X-Session-Context"]
        )
        assert 'policy="small"' in (await proxy.chat("s", "x", model="small-1")).headers["X-Session-Context"]
        assert 'policy="default"' in (await proxy.chat("s", "x")).headers["X-Session-Context"]
        refused = await proxy.chat("s", "x", headers={"X-Session-Policy": "nope"})
        assert (refused.status, refused.code) == (400, "unknown_policy")


async def test_reject_answers_409_that_is_not_to_be_retried(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, '[session]\nconcurrency = "reject"\n') as proxy:
        go_on = asyncio.Event()
        answer = model("slow")
        upstream.replies = lambda request: Script([Wait(go_on), *answer(request).steps])
        first = asyncio.create_task(proxy.chat("s", "one"))
        await upstream.until(lambda u: len(u.requests) == 1)
        refused = await proxy.chat("s", "two")
        assert (refused.status, refused.code, refused.headers["x-should-retry"]) == (409, "session_busy", "false")
        go_on.set()
        assert (await first).status == 200


async def test_parallel_requests_are_appended_as_they_end(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, '[session]\nconcurrency = "parallel"\n') as proxy:
        await proxy.chat("s", "zero")
        go_on = asyncio.Event()
        answer = model("slow")
        upstream.replies = lambda request: Script([Wait(go_on), *answer(request).steps])
        asked = [asyncio.create_task(proxy.chat("s", f"p{n}")) for n in range(5)]
        await upstream.until(lambda u: len(u.requests) == 6)
        assert all(len(sent(request)) == 3 for request in upstream.requests[1:])
        go_on.set()
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 5
        await proxy.chat("s", "last")
        said_by_user = [text for role, text in sent(upstream.requests[-1]) if role == "user"]
        assert sorted(said_by_user) == sorted(["zero", "p0", "p1", "p2", "p3", "p4", "last"])
        assert said_by_user[-1] == "last"


async def test_queued_requests_see_what_came_before_them(proxy: Remora, upstream: ScriptedUpstream) -> None:
    answers = await asyncio.gather(*(proxy.chat("s", f"q{n}") for n in range(8)))
    assert sorted(int(answer.headers["X-Session-Turn"]) for answer in answers) == list(range(1, 9))
    assert [len(sent(request)) for request in upstream.requests] == [2 * n + 1 for n in range(8)]
