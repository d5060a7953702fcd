"""Clients that keep their own history: recognised, recorded once, bounded by the policy."""

import json
from pathlib import Path

from tests.support.app import Json, Remora, remora, said, sent
from tests.support.upstream import ScriptedUpstream


async def stored(proxy: Remora) -> int:
    """Messages stored, over all branches."""
    return sum(
        [
            record.entry.count
            async for info in proxy.here.house.store.list()
            async for record in proxy.here.house.store.records(info.ref)
        ]
    )


async def grown(proxy: Remora, turns: int, session: str = "s") -> list[Json]:
    """A whole-history client's conversation of so many turns."""
    line: list[Json] = []
    for n in range(1, turns + 1):
        line.append(said("user", f"u{n}"))
        line.append(said("assistant", (await proxy.chat(session, *line)).text))
    return line


async def test_a_history_sent_in_full_travels_unchanged_and_is_recorded_once(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    line = await grown(proxy, 5)
    assert await stored(proxy) == 10
    body = json.dumps({"messages": [*line, said("user", "u6")], "x": 1.0, "model": "gpt-4o"}, indent=1).encode()
    answer = await proxy.post("/v1/chat/completions", body, {"X-Session-Id": "s"})
    assert upstream.requests[-1].body == body
    assert answer.headers["X-Session-Turn"] == "6"
    assert await stored(proxy) == 12


async def test_the_small_changes_of_sdks_are_no_change(proxy: Remora, upstream: ScriptedUpstream) -> None:
    line = await grown(proxy, 2)
    line[1] = {
        "role": "assistant",
        "content": [{"type": "text", "text": line[1]["content"]}],
        "refusal": None,
        "annotations": [],
    }
    answer = await proxy.chat("s", *line, "u3")
    assert answer.headers["X-Session-Turn"] == "3"
    assert await stored(proxy) == 6


async def test_a_truncated_history_is_completed_from_the_store(proxy: Remora, upstream: ScriptedUpstream) -> None:
    line = await grown(proxy, 4)
    answer = await proxy.chat("s", *line[4:], "u5")
    assert sent(upstream.requests[-1]) == [(m["role"], m["content"]) for m in line] + [("user", "u5")]
    assert answer.headers["X-Session-Turn"] == "5"
    assert await stored(proxy) == 10


async def test_a_regenerated_reply_is_a_branch(proxy: Remora, upstream: ScriptedUpstream) -> None:
    line = await grown(proxy, 3)
    answer = await proxy.chat("s", *line[:5])
    assert answer.headers["X-Session-Turn"] == "3"
    assert answer.headers["X-Session-Context"].endswith("branch")
    assert sent(upstream.requests[-1]) == [(m["role"], m["content"]) for m in line[:5]]
    line[5] = said("assistant", answer.text)
    after = await proxy.chat("s", *line, "u4")
    assert after.headers["X-Session-Turn"] == "4"
    assert "branch" not in after.headers["X-Session-Context"]


async def test_an_edited_message_is_a_branch_and_the_old_line_resumes(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    line = await grown(proxy, 3)
    edited = [*line[:2], said("user", "edited")]
    assert (await proxy.chat("s", *edited)).headers["X-Session-Turn"] == "2"
    resumed = await proxy.chat("s", *line, "u4")
    assert resumed.headers["X-Session-Turn"] == "4"
    assert sent(upstream.requests[-1]) == [(m["role"], m["content"]) for m in line] + [("user", "u4")]
    assert await stored(proxy) == 6 + 2 + 2


async def test_an_unknown_history_is_a_new_root(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await grown(proxy, 2)
    foreign = [said("user", "x"), said("assistant", "y"), said("user", "z")]
    answer = await proxy.chat("s", *foreign)
    assert sent(upstream.requests[-1]) == [(m["role"], m["content"]) for m in foreign]
    assert answer.headers["X-Session-Turn"] == "2"


async def test_after_whole_history_a_lone_message_starts_again(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await grown(proxy, 2)
    await proxy.chat("s", "fresh")
    assert sent(upstream.requests[-1]) == [("user", "fresh")]


async def test_a_whole_history_is_bounded_by_the_window_with_the_clients_own_bytes(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with remora(upstream.url, tmp_path, "[window]\nmax_turns = 4\n") as proxy:
        line = await grown(proxy, 4)
        odd = [{**message, "odd": 1.0} for message in line]
        await proxy.chat("s", *odd, "u5")
        assert len(upstream.requests[-1].json()["messages"]) == 9
        line += [said("user", "u5"), said("assistant", "reply 5")]
        odd = [{**message, "odd": 1.0} for message in line]
        answer = await proxy.chat("s", *odd, "u6")
        assert upstream.requests[-1].json()["messages"] == [*odd[6:], said("user", "u6")]
        assert "kept=4, dropped=6" in answer.headers["X-Session-Context"]


async def test_a_whole_historys_preamble_is_what_it_sent(proxy: Remora, upstream: ScriptedUpstream) -> None:
    first = await proxy.chat("s", said("system", "be brief"), "u1")
    line = [said("user", "u1"), said("assistant", first.text)]
    await proxy.chat("s", *line, "u2")
    assert sent(upstream.requests[-1])[0] == ("user", "u1")


async def test_full_puts_nothing_back(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, '[session]\nhistory = "full"\n') as proxy:
        line = await grown(proxy, 3)
        await proxy.chat("s", *line[2:], "u4")
        assert sent(upstream.requests[-1]) == [(m["role"], m["content"]) for m in line[2:]] + [("user", "u4")]
        assert await stored(proxy) == 8


async def test_delta_records_a_few_shot_lead_once(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, '[session]\nhistory = "delta"\n[window]\nmax_turns = 2\n') as proxy:
        lead = [said("user", "1+1"), said("assistant", "2")]
        for n in range(1, 7):
            await proxy.chat("s", *lead, f"u{n}")
        assert await stored(proxy) == 2 + 12
        messages = sent(upstream.requests[-1])
        assert messages[:2] == [("user", "1+1"), ("assistant", "2")]
        assert messages[2:] != messages[:2]
        assert messages[-1] == ("user", "u6")
        assert messages.count(("user", "1+1")) == 1


async def test_a_prefill_is_stored_as_one_with_its_reply(proxy: Remora, upstream: ScriptedUpstream) -> None:
    await proxy.chat("s", "a poem", said("assistant", "Roses "))
    assert sent(upstream.requests[0]) == [("user", "a poem"), ("assistant", "Roses ")]
    await proxy.chat("s", "more")
    assert sent(upstream.requests[1]) == [("user", "a poem"), ("assistant", "Roses reply 1"), ("user", "more")]
