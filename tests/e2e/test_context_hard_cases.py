"""Faults that summaries, recall and overflow once had, or could have: each a case of its own."""

from pathlib import Path

import pytest

from proxy.tokens import counter
from tests.e2e.test_overflow import refusal
from tests.e2e.test_recall import TALK, filler
from tests.e2e.test_summary import CALL, LINE, Writer, completion, idle, kept, turns
from tests.support.app import Json, remora, said, sent
from tests.support.upstream import Close, Received, Script, ScriptedUpstream, head, model, plain

RECALLING = "[window]\nmax_tokens = 200\n[recall]\nmax_tokens = 300\n"
WINDOW = "[window]\nmax_tokens = 100000\n"


async def test_what_one_tenants_request_made_the_upstream_say_touches_no_other(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    mine, theirs = {"Authorization": "Bearer a"}, {"Authorization": "Bearer b"}
    async with remora(upstream.url, tmp_path) as proxy:
        for n in range(4):
            await proxy.chat("s", LINE.format(n=n), headers=theirs, model="my-llm")
        await proxy.chat("s", "hi", headers=mine, model="my-llm")
        words = "This model's maximum context length is 128000 tokens. However, you requested 128040 tokens"
        upstream.queue.append(refusal(f"{words} (40 in the messages, 127990 in the completion)."))
        await proxy.chat("s", "hi", headers=mine, max_tokens=127990, model="my-llm")
        await proxy.chat("s", "and you?", headers=mine, model="my-llm")
        # nor the same tenant's next request, which keeps less for its reply: only the window has moved
        assert len(sent(upstream.requests[-1])) == 3
        await proxy.chat("s", "what did I say?", headers=theirs, model="my-llm")
        assert len(sent(upstream.requests[-1])) == 9


async def test_a_second_try_recalls_nothing_that_would_not_fit(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    noted = model("Noted.")
    upstream.replies = noted

    def small(request: Received) -> Script:
        tokens = sum(counter.count_text(str(m["content"]), "gpt-4o") + 4 for m in request.json()["messages"])
        says = f"This model's maximum context length is 700 tokens. However, your messages resulted in {tokens} tokens."
        return refusal(says) if tokens > 700 else noted(request)

    async with remora(upstream.url, tmp_path, WINDOW + "[recall]\nmax_tokens = 600\nmin_score = 0.0\n") as proxy:
        for n in range(40):
            await proxy.chat("s", f"The lighthouse keeper number {n} of harbour {7 * n} is called Jonathan{n} today.")
        await idle(proxy)
        upstream.replies = small
        answer = await proxy.chat("s", "What is the lighthouse keeper of the harbour called?")
    assert answer.status == 200


@pytest.mark.parametrize("window", ["max_turns = 1", "max_tokens = 80"])
async def test_the_turn_that_has_just_ended_is_never_dropped_for_a_summary(
    upstream: ScriptedUpstream, tmp_path: Path, window: str
) -> None:
    upstream.replies = Writer()
    async with remora(upstream.url, tmp_path, f"[window]\n{window}\n[summary]\nmax_tokens = 40\n") as proxy:
        for n in range(1, 6):
            await proxy.chat("s", LINE.format(n=n))
            await idle(proxy)
    assert LINE.format(n=4) in str(turns(upstream)[-1].json())


async def test_one_turn_that_no_model_can_read_at_once_does_not_end_the_summaries(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    writer = Writer()

    def small(request: Received) -> Script:
        tokens = sum(counter.count_text(str(m.get("content")), "gpt-4o") + 4 for m in request.json()["messages"])
        return refusal("prompt is too long") if tokens > 1500 else writer(request)

    upstream.replies = small
    policy = "[window]\nmax_tokens = 600\n[summary]\nmax_tokens = 100\n"
    async with remora(upstream.url, tmp_path, policy) as proxy:
        await proxy.chat("s", "Fact 0: go")
        upstream.queue.append(completion("", "tool_calls", tool_calls=[CALL]))
        await proxy.chat("s", "Fact 1: look at everything")
        for step in range(8):
            if step < 7:
                upstream.queue.append(completion("", "tool_calls", tool_calls=[CALL]))
            result = {"role": "tool", "tool_call_id": "c", "content": "row of data " * 90}
            assert (await proxy.chat("s", result)).status == 200
        for n in range(2, 20):
            await proxy.chat("s", LINE.format(n=n))
            await idle(proxy)
        assert (await kept(proxy))[-1].upto > 20


async def test_nothing_of_a_request_that_is_not_recorded_gets_into_a_summary(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    writer = Writer()
    upstream.replies = writer
    writer.summary = lambda request: plain(500, {"error": {"message": "no"}})
    policy = "[window]\nmax_tokens = 400\n[summary]\nmax_tokens = 100\n"
    async with remora(upstream.url, tmp_path, policy) as proxy:
        for n in range(1, 12):
            await proxy.chat("s", LINE.format(n=n))
        await idle(proxy)
        asked = len(writer.asked)
        await proxy.chat("s", said("system", "SECRET"), "x", headers={"X-Session-Record": "no"})
        await idle(proxy)
        await proxy.chat("s", "next")
    assert asked
    assert not any("SECRET" in request.body.decode() for request in writer.asked)


async def test_where_nothing_is_put_back_no_summary_is_paid_for(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    writer = Writer()
    upstream.replies = writer
    policy = '[session]\nhistory = "full"\n[window]\nmax_tokens = 400\n[summary]\nmax_tokens = 100\n'
    async with remora(upstream.url, tmp_path, policy) as proxy:
        line: list[Json] = []
        for n in range(1, 15):
            line.append(said("user", LINE.format(n=n)))
            line.append(said("assistant", (await proxy.chat("s", *line)).text))
            await idle(proxy)
    assert not writer.asked


async def test_a_lead_that_is_always_sent_is_not_recalled_as_well(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    policy = '[session]\nhistory = "delta"\n[window]\nmax_tokens = 120\n[recall]\nmax_tokens = 300\nmin_score = 0.1\n'
    lead = [
        said("user", "Where does Henrietta live?"),
        said("assistant", "Henrietta lives in Trondheim near the fjord."),
    ]
    async with remora(upstream.url, tmp_path, policy) as proxy:
        for n in range(12):
            await proxy.chat("s", *lead, filler(n))
            await idle(proxy)
        await proxy.chat("s", *lead, "Tell me about Henrietta and the fjord.")
    assert str(sent(upstream.requests[-1])).count("near the fjord") == 1


async def test_each_step_of_a_turn_says_what_was_recalled(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, RECALLING) as proxy:
        for text in (*TALK, *(filler(n) for n in range(20))):
            await proxy.chat("s", text)
            await idle(proxy)
        upstream.queue.append(completion("", "tool_calls", tool_calls=[CALL]))
        first = await proxy.chat("s", "Where does Henrietta live?")
        second = await proxy.chat("s", {"role": "tool", "tool_call_id": "c", "content": "found"})
    assert "recalled=" in first.headers["X-Session-Context"]
    assert "recalled=" in second.headers["X-Session-Context"]


async def test_a_text_that_the_embeddings_model_refuses_costs_its_own_vector_only(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    noted = model("Noted.")

    def replies(request: Received) -> Script:
        if not request.target.endswith("/embeddings"):
            return noted(request)
        texts = request.json()["input"]
        if any("POISON" in text for text in texts):
            return plain(400, {"error": {"message": "input too long: 8192 tokens"}})
        return plain(200, {"data": [{"index": n, "embedding": [1.0, float(n)]} for n in range(len(texts))]})

    upstream.replies = replies
    async with remora(upstream.url, tmp_path, RECALLING + 'method = "both"\nmodel = "e"\n') as proxy:
        await proxy.chat("s", "POISON")
        for n in range(8):
            await proxy.chat("s", filler(n))
            await idle(proxy)
        store = proxy.here.house.store
        [info] = [info async for info in store.list()]
        found = await store.vectors(info.ref, info.head, "e")
    assert found is not None
    assert len(found.positions) // 4 == 16


@pytest.mark.parametrize(
    "broken",
    [
        [refusal("prompt is too long: 9999 tokens > 8000 maximum"), Script([Close()])],
        [Script([head(400, [("Content-Length", "500")], reason="Bad Request"), b'{"error":', Close()])],
    ],
)
async def test_sdks_are_told_not_to_pay_again_where_the_upstream_has_answered(
    upstream: ScriptedUpstream, tmp_path: Path, broken: list[Script]
) -> None:
    async with remora(upstream.url, tmp_path, WINDOW) as proxy:
        for _ in range(4):
            await proxy.chat("s", "hello there")
        upstream.queue.extend(broken)
        answer = await proxy.chat("s", "x")
    assert answer.status == 502
    assert answer.headers["x-should-retry"] == "false"
