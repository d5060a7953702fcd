"""The rolling summary: made after the reply, shown with the anchor it belongs to, never in anybody's way."""

import asyncio
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from proxy.conversation.summary import Summary
from proxy.stores.contract import Ref
from tests.support.app import Json, Remora, remora, said, sent
from tests.support.upstream import Received, Script, ScriptedUpstream, Wait, model, plain

POLICY = """
[window]
max_tokens = 400
[summary]
max_tokens = 100
"""
LINE = "Fact {n}: the harbour of town number {n} has a red lighthouse, as everybody there will tell you. " * 2
"""Some forty-five tokens."""


def asks_for_summary(request: Received) -> bool:
    return "Write the summary" in str(request.json()["messages"][-1]["content"])


def completion(text: str, finish: str = "stop", **more: object) -> Script:
    message = {"role": "assistant", "content": text, **more}
    return plain(
        200, {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    )


class Writer:
    """A model that answers turns, and writes summaries as the test says: it lists the facts that it was shown."""

    def __init__(self) -> None:
        self.summary: Callable[[Received], Script] = lambda request: completion(self.facts(request))
        self.asked: list[Received] = []
        self._turns = model("Noted, thank you.")

    @staticmethod
    def facts(request: Received) -> str:
        shown = json.dumps(request.json()["messages"])
        found = dict.fromkeys(int(n) for n in re.findall(r"Fact (\d+)", shown))
        ranges = [int(end) for end in re.findall(r"Facts 1 to (\d+)", shown)]
        return f"Facts 1 to {max([*found, *ranges])}."

    def __call__(self, request: Received) -> Script:
        if asks_for_summary(request):
            self.asked.append(request)
            return self.summary(request)
        return self._turns(request)


@pytest.fixture
def writer(upstream: ScriptedUpstream) -> Writer:
    writer = Writer()
    upstream.replies = writer
    return writer


async def ref(proxy: Remora, session: str = "s") -> Ref:
    [found] = [info.ref async for info in proxy.here.house.store.list() if info.ref.name == session]
    return found


async def idle(proxy: Remora) -> None:
    """Until nothing is done in the background."""
    async with asyncio.timeout(10):
        while proxy.here.house.turnstile.running:  # noqa: ASYNC110 - the product has no event for it, and needs none
            await asyncio.sleep(0.001)
    await proxy.here.house.reflections.idle()


async def kept(proxy: Remora) -> list[Summary]:
    return list(await proxy.here.house.store.summaries(await ref(proxy)))


def turns(upstream: ScriptedUpstream) -> list[Received]:
    return [request for request in upstream.requests if not asks_for_summary(request)]


async def say(proxy: Remora, first: int, upto: int) -> None:
    for n in range(first, upto):
        await proxy.chat("s", LINE.format(n=n))
        await idle(proxy)


async def test_what_leaves_the_window_is_in_the_summary_and_nothing_is_in_neither(
    upstream: ScriptedUpstream, writer: Writer, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        for n in range(1, 40):
            answer = await proxy.chat("s", LINE.format(n=n))
            assert answer.status == 200
            await idle(proxy)
            messages = turns(upstream)[-1].json()["messages"]
            covered = 0
            if messages[0]["role"] == "system":
                covered = int(re.findall(r"Facts 1 to (\d+)", messages[0]["content"])[0])
            shown = [int(re.findall(r"Fact (\d+)", m["content"])[0]) for m in messages if m["role"] == "user"]
            assert shown == list(range(covered + 1, n + 1))
        generations = await kept(proxy)
    assert len(generations) > 4
    assert [each.generation for each in generations] == list(range(1, len(generations) + 1))
    assert [each.before for each in generations[1:]] == [each.id for each in generations[:-1]]


async def test_between_two_steps_the_prefix_stays_the_same_bytes(
    upstream: ScriptedUpstream, writer: Writer, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await say(proxy, 1, 60)
        steps = len(await kept(proxy))
    bodies = [request.body.partition(b'"messages": ')[2] for request in turns(upstream)]
    breaks = sum(not later.startswith(earlier[:-2]) for earlier, later in pairwise(bodies))
    assert breaks <= steps
    assert steps < 25


async def test_the_summary_is_asked_for_behind_the_prefix_that_the_model_has_read(
    upstream: ScriptedUpstream, writer: Writer, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await proxy.chat("s", said("system", "Be kind."), LINE.format(n=0), tools=TOOLS, temperature=0.5, max_tokens=9)
        for n in range(1, 20):
            await proxy.chat("s", LINE.format(n=n), tools=TOOLS, temperature=0.5, max_tokens=9)
            await idle(proxy)
    assert writer.asked
    for asked in writer.asked:
        body = asked.json()
        before = turns_before(upstream, asked)
        messages = body["messages"][:-1]
        assert messages == before.json()["messages"][: len(messages)]
        assert body["tools"] == TOOLS
        assert body["tool_choice"] == "none"
        assert body["temperature"] == 0.5
        assert "max_tokens" not in body
        assert asked.get("Authorization") == "Bearer sk-client"


TOOLS: list[Json] = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def turns_before(upstream: ScriptedUpstream, asked: Received) -> Received:
    at = upstream.requests.index(asked)
    return [request for request in upstream.requests[:at] if not asks_for_summary(request)][-1]


async def test_summary_and_anchor_are_a_pair_whenever_the_summary_comes(
    upstream: ScriptedUpstream, writer: Writer, tmp_path: Path
) -> None:
    release = asyncio.Event()

    def late(request: Received) -> Script:
        return Script([Wait(release), *completion(Writer.facts(request)).steps])

    writer.summary = late
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        for n in range(1, 30):
            await proxy.chat("s", LINE.format(n=n))
            if n % 7 == 0:
                release.set()
                await idle(proxy)
                release.clear()
            messages = turns(upstream)[-1].json()["messages"]
            shown = [int(re.findall(r"Fact (\d+)", m["content"])[0]) for m in messages if m["role"] == "user"]
            assert shown == list(range(shown[0], n + 1))
            if messages[0]["role"] == "system":
                covered = int(re.findall(r"Facts 1 to (\d+)", messages[0]["content"])[0])
                # a window that had to move on alone leaves a gap, but nothing is told twice
                assert covered < shown[0]
        release.set()
        await idle(proxy)


CALL: Json = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    "nonsense",
    [
        completion(""),
        completion("   \n"),
        completion("word " * 400),
        completion("It ends he", "length"),
        completion(
            "", "tool_calls", tool_calls=[{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        ),
        plain(500, {"error": {"message": "no"}}),
        plain(200, "<html>"),
        completion("<think>hm"),
    ],
)
async def test_nonsense_changes_nothing_and_what_was_missed_is_caught_up(
    upstream: ScriptedUpstream, writer: Writer, tmp_path: Path, nonsense: Script
) -> None:
    steps = list(nonsense.steps)
    good = writer.summary
    writer.summary = lambda request: Script(steps)
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        for n in range(1, 31):
            answer = await proxy.chat("s", LINE.format(n=n))
            assert answer.text == "Noted, thank you."
            tokens = int(re.findall(r"tokens=(\d+)", answer.headers["X-Session-Context"])[0])
            assert tokens <= 400
            assert turns(upstream)[-1].json()["messages"][0]["role"] == "user"
        assert not await kept(proxy)
        assert writer.asked
        writer.summary = good
        async with asyncio.timeout(30):
            # it is tried again by the clock
            while not await kept(proxy) or (await kept(proxy))[-1].upto < 50:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await idle(proxy)
        await proxy.chat("s", LINE.format(n=31))
        messages = turns(upstream)[-1].json()["messages"]
        covered = int(re.findall(r"Facts 1 to (\d+)", messages[0]["content"])[0])
        shown = [int(re.findall(r"Fact (\d+)", m["content"])[0]) for m in messages if m["role"] == "user"]
        assert shown == list(range(covered + 1, 32))
        handed = [int(n) for asked in writer.asked for n in re.findall(r"Fact (\d+)", asked.body.decode())]
        assert set(range(1, covered + 1)) <= set(handed)


async def test_a_model_that_never_writes_one_delays_no_turn(
    upstream: ScriptedUpstream, writer: Writer, tmp_path: Path
) -> None:
    silent = asyncio.Event()
    writer.summary = lambda request: Script([Wait(silent)])
    async with remora(upstream.url, tmp_path, POLICY + 'timeout = "100ms"\n', stop_timeout_s=1.0) as proxy:
        for n in range(1, 201):
            answer = await proxy.chat("s", LINE.format(n=n))
            assert answer.headers["X-Session-Turn"] == str(n)
        assert writer.asked
        silent.set()
        writer.summary = lambda request: completion(writer.facts(request))
        async with asyncio.timeout(60):
            while not await kept(proxy) or (await kept(proxy))[-1].upto < 380:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        handed = [int(n) for asked in writer.asked for n in re.findall(r"Fact (\d+)", asked.body.decode())]
        assert set(range(1, 190)) <= set(handed)


async def test_a_branch_sees_only_summaries_of_its_own_past(
    upstream: ScriptedUpstream, writer: Writer, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await say(proxy, 1, 12)
        first = (await kept(proxy))[0]
        await proxy.chat("s", "Fact 100: another town.", headers={"X-Session-From": "2"})
        assert sent(turns(upstream)[-1])[0][0] == "user"
        await idle(proxy)
        for n in range(101, 125):
            await proxy.chat("s", LINE.format(n=n))
            await idle(proxy)
        generations = await kept(proxy)
        assert len(generations) > 2
        for asked in writer.asked[len([g for g in generations if g.generation and g.at_ms <= first.at_ms]) :]:
            text = asked.body.decode()
            assert not ("Fact 100" in text and "Fact 9:" in text)
        last = turns(upstream)[-1].body.decode()
        assert "Fact 124" in last
        assert "Facts 1 to 1" in last


async def test_it_outlives_a_restart(upstream: ScriptedUpstream, writer: Writer, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await say(proxy, 1, 12)
        assert await kept(proxy)
    async with remora(upstream.url, tmp_path, POLICY) as proxy:
        await proxy.chat("s", LINE.format(n=12))
        assert "Facts 1 to" in sent(turns(upstream)[-1])[0][1]


async def test_for_templates_without_a_system_role_it_is_a_message_of_the_user(
    upstream: ScriptedUpstream, writer: Writer, tmp_path: Path
) -> None:
    policy = POLICY + 'role = "user"\n[upstream]\nalternate = true\n'
    async with remora(upstream.url, tmp_path, policy) as proxy:
        await say(proxy, 1, 14)
    roles = [role for role, _ in sent(turns(upstream)[-1])]
    assert roles[0] == "user"
    assert all(one != other for one, other in pairwise(roles))
    assert "Facts 1 to" in sent(turns(upstream)[-1])[0][1]


async def test_after_twenty_generations_each_call_was_handed_all_that_the_one_before_knew(
    upstream: ScriptedUpstream, writer: Writer, tmp_path: Path
) -> None:
    def remembers(request: Received) -> Script:
        text = request.body.decode()
        facts = {int(n) for n in re.findall(r"Fact (\d+)", text)}
        for old in re.findall(r"known: ([\d ]+)\.", text):
            facts |= {int(n) for n in old.split()}
        return completion(f"known: {' '.join(map(str, sorted(facts)))}.")

    writer.summary = remembers
    async with remora(upstream.url, tmp_path, POLICY.replace("max_tokens = 100", "max_tokens = 600")) as proxy:
        n = 0
        while n < 150 and len(await kept(proxy) if n else ()) < 21:
            n += 1
            await proxy.chat("s", LINE.format(n=n))
            await idle(proxy)
        last = (await kept(proxy))[-1]
    assert last.generation >= 20
    known = [int(each) for each in re.findall(r"\d+", last.text)]
    assert known == list(range(1, known[-1] + 1))
