"""The append: what was said and answered becomes one entry behind the right one, or nothing at all."""

import asyncio
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.context.contract import Plan
from proxy.conversation.entry import Chain
from proxy.conversation.message import ROOT_DIGEST, digest
from proxy.dialects.chat import CHAT
from proxy.errors import SessionConflict, StoreUnavailable
from proxy.exchange.assemble import Prepared
from proxy.exchange.commit import commit, commit_failed
from proxy.exchange.house import House
from proxy.exchange.retry import attempt
from proxy.policy import Policies, Policy, Session
from proxy.stores import open_store
from proxy.stores.contract import Append, Appended, Conflict, Record, Store
from proxy.stores.memory import MemoryStore
from proxy.tokens import counter
from tests.exchange.making import (
    KEY,
    PLAIN,
    REF,
    Came,
    Json,
    Nobody,
    answer,
    asked,
    context,
    headers,
    history,
    house,
    prepare,
    said,
    turn,
)

PARALLEL = Policy(name="parallel", key="parallel", session=Session(concurrency="parallel"))
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


async def chain_of(store: Store) -> Chain:
    chain = await store.load(REF, key="", reach=None)
    assert chain is not None
    return chain


async def records(store: Store) -> list[Record]:
    return [record async for record in store.records(REF)]


async def record(store: Store, prepared: Prepared, text: str) -> None:
    req = asked("the request's body counts no more")
    await commit(CHAT, req, house(store), prepared, answer(prepared, text), "whole", None, None)


def assert_chained(chain: Chain) -> None:
    """Each entry stands behind the one before: positions, sums, turns, and the digest that a client's re-sent history
    is recognised by."""
    last, position, tokens, turns = ROOT_DIGEST, 0, 0, 0
    for before, entry in itertools.pairwise((None, *chain.entries)):
        assert entry is not None
        assert entry.parent == (before.id if before else "")
        assert entry.first == position
        for message in CHAT.messages(entry.wire):
            last = digest(KEY, last, message)
            turns += message.role == "user"
        position, tokens = position + entry.count, tokens + entry.tokens
        assert (entry.upto, entry.tokens_upto, entry.turn, entry.digest) == (position, tokens, turns, last)


async def test_one_exchange_is_one_entry_of_what_was_new_and_its_answer() -> None:
    store = open_store("memory:")
    await turn(store, asked(said("system", "Be brief."), "one"), "first")
    second = await turn(store, asked("two"), "second")
    assert await history(store) == [("user", "one"), ("assistant", "first"), ("user", "two"), ("assistant", "second")]
    chain = await chain_of(store)
    assert [entry.count for entry in chain.entries] == [2, 2]
    assert_chained(chain)
    assert chain.preamble == second.preamble
    assert chain.preamble is not None
    assert msgspec.json.decode(chain.preamble.wire) == said("system", "Be brief.")


async def test_an_entry_says_what_is_known_of_it() -> None:
    store = open_store("memory:")
    prepared = await turn(store, asked("one", model="mystery-7b"), "first", reported=77)
    (kept,) = await records(store)
    facts = kept.entry.facts
    assert (facts.dialect, facts.model, facts.state, facts.finish) == ("chat", "mystery-7b", "whole", "stop")
    assert (facts.estimated, facts.reported) == (prepared.estimated, 77)
    assert facts.anchor == prepared.plan.anchor
    assert msgspec.json.decode(kept.plan, type=Plan) == prepared.plan
    weights = [counter.count(message, "mystery-7b") for message in CHAT.messages(kept.entry.wire)]
    assert [shape.tokens for shape in facts.shapes] == weights


@pytest.mark.parametrize("ttl_s", [None, 60])
async def test_the_policy_says_how_long_it_is_kept(ttl_s: int | None) -> None:
    store = open_store("memory:")
    await turn(store, asked("one"), "first", Policy(name="p", key="p", ttl_s=ttl_s))
    (info,) = [info async for info in store.list()]
    kept_ms = None if info.expires_ms is None else info.expires_ms - info.updated_ms
    assert kept_ms == (None if ttl_s is None else ttl_s * 1000)


async def test_a_session_remembers_that_its_client_sends_everything() -> None:
    store = open_store("memory:")
    await turn(store, asked("one"), "first")
    assert not (await chain_of(store)).whole
    await turn(store, asked("one", said("assistant", "first"), "two"), "second")
    assert (await chain_of(store)).whole
    assert len(await history(store)) == 4


async def test_a_history_of_which_nothing_was_known_does_not_make_the_client_one_that_sends_everything() -> None:
    store = open_store("memory:")
    await turn(store, asked("one"), "first")
    await turn(store, asked("elsewhere", said("assistant", "said"), "two"), "second")
    assert not (await chain_of(store)).whole


async def test_reasoning_is_sent_back_in_turns_that_use_tools_only() -> None:
    store = open_store("memory:")
    thought: Json = {"reasoning_content": "because"}
    await turn(store, asked("plain"), "answer", **thought)
    await turn(store, asked("with tools"), "", tool_calls=[CALL])
    await turn(store, asked(said("tool", "found", tool_call_id="c1")), "answer", **thought)
    await turn(store, asked("plain again"), "answer", **thought)
    entries = (await chain_of(store)).entries
    assert [b"because" in entry.wire for entry in entries] == [False, False, True, False]
    assert [any(b"because" in aside for _, aside in entry.facts.asides) for entry in entries] == [
        *(True, False, False, True)
    ]


# two at once


@pytest.mark.parametrize("concurrency", ["queue", "reject"])
async def test_a_session_that_moved_meanwhile_is_a_conflict_and_keeps_nothing_of_the_loser(concurrency: str) -> None:
    store = open_store("memory:")
    policy = Policy(name="p", key="p", session=msgspec.convert({"concurrency": concurrency}, Session))
    await turn(store, asked("one"), "first", policy)
    winner, loser = await prepare(store, asked("won"), policy), await prepare(store, asked("lost"), policy)
    await record(store, winner, "winner's")
    before = await records(store)
    with pytest.raises(SessionConflict) as refused:
        await record(store, loser, "loser's")
    assert refused.value.retry is False
    assert await records(store) == before


async def test_two_first_turns_are_a_conflict_too() -> None:
    store = open_store("memory:")
    winner, loser = await prepare(store, asked("won")), await prepare(store, asked("lost"))
    await record(store, winner, "winner's")
    with pytest.raises(SessionConflict):
        await record(store, loser, "loser's")
    assert await history(store) == [("user", "won"), ("assistant", "winner's")]


async def test_a_session_that_was_erased_meanwhile_does_not_come_back() -> None:
    store = open_store("memory:")
    await turn(store, asked("one"), "first")
    prepared = await prepare(store, asked("two"))
    await store.erase(REF)
    with pytest.raises(SessionConflict):
        await record(store, prepared, "second")
    assert await store.load(REF, key="", reach=None) is None


@given(st.booleans(), st.permutations(range(5)))
async def test_parallel_turns_stand_in_the_order_in_which_they_end(begun: bool, order: list[int]) -> None:
    """Each behind whatever has come since, in one valid chain, though each was made without the others."""
    store = open_store("memory:")
    if begun:
        await turn(store, asked("begin"), "begun", PARALLEL)
    start = await history(store)
    prepared = [await prepare(store, asked(f"u{n}"), PARALLEL) for n in range(len(order))]
    for n in order:
        await record(store, prepared[n], f"a{n}")
    expected = [pair for n in order for pair in (("user", f"u{n}"), ("assistant", f"a{n}"))]
    assert await history(store) == [*start, *expected]
    assert_chained(await chain_of(store))


async def test_parallel_commits_at_the_same_moment_are_all_kept() -> None:
    store = open_store("memory:")
    prepared = [await prepare(store, asked(f"u{n}"), PARALLEL) for n in range(20)]
    await asyncio.gather(*(record(store, each, f"a{n}") for n, each in enumerate(prepared)))
    kept = await history(store)
    assert sorted(kept[::2]) == sorted(("user", f"u{n}") for n in range(20))
    assert all(mine[1][1:] == its[1][1:] for mine, its in zip(kept[::2], kept[1::2], strict=True))
    assert_chained(await chain_of(store))


async def test_one_whose_place_lapses_between_two_tries_is_not_recorded() -> None:
    """The same request may have been let through elsewhere by then."""

    class Slow(MemoryStore):
        async def append(self, append: Append) -> Appended | Conflict:
            outcome = await super().append(append)
            if isinstance(outcome, Conflict):
                await asyncio.sleep(0.2)
            return outcome

    store = Slow()
    here = House(store, Nobody(), Policies(), observe=lambda _: None, broke=print, shared=True, keep_s=0.15)
    visit = here.turnstile.begin()
    visit.key = "k"
    await here.turnstile.before(visit, REF)
    prepared, between = await prepare(store, asked("late"), PARALLEL), await prepare(store, asked("between"), PARALLEL)
    await record(store, between, "first")
    with pytest.raises(SessionConflict):
        await commit(CHAT, asked(""), here, prepared, answer(prepared, "second"), "whole", None, None, visit=visit)
    assert await history(store) == [("user", "between"), ("assistant", "first")]
    here.turnstile.end(visit)


async def test_after_parallel_turns_a_client_that_re_sends_them_is_recognised() -> None:
    store = open_store("memory:")
    one, two = await prepare(store, asked("u0"), PARALLEL), await prepare(store, asked("u1"), PARALLEL)
    await record(store, two, "a1")
    await record(store, one, "a0")
    everything: list[str | Json] = [
        said("user", "u1"),
        said("assistant", "a1"),
        said("user", "u0"),
        said("assistant", "a0"),
        "next",
    ]
    prepared = await prepare(store, asked(*everything), PARALLEL)
    assert prepared.reading.known == 4
    assert prepared.parent is not None
    assert prepared.parent.id == (await chain_of(store)).head.id


async def test_a_parallel_branch_stays_a_branch() -> None:
    """It was to begin after an older turn: what came since does not belong in front of it."""
    store = open_store("memory:")
    await turn(store, asked("u1"), "a1", PARALLEL)
    await turn(store, asked("u2"), "a2", PARALLEL)
    branch = await prepare(store, asked("u2 anew"), PARALLEL, from_turn=1)
    await turn(store, asked("u3"), "a3", PARALLEL)
    await record(store, branch, "a2 anew")
    assert await history(store) == [("user", "u1"), ("assistant", "a1"), ("user", "u2 anew"), ("assistant", "a2 anew")]
    assert_chained(await chain_of(store))
    assert len(await records(store)) == 4, "nothing is overwritten"


@pytest.mark.parametrize("anew", [False, True])
async def test_a_parallel_turn_does_not_bring_back_what_was_erased_meanwhile(anew: bool) -> None:
    """Nor does it put the erased preamble into a session that has begun anew under the name."""
    store = open_store("memory:")
    await turn(store, asked(said("system", "The secret."), "u1"), "a1", PARALLEL)
    prepared = await prepare(store, asked("u2"), PARALLEL)
    await store.erase(REF)
    if anew:
        await turn(store, asked("new"), "said", PARALLEL)
    with pytest.raises(SessionConflict):
        await record(store, prepared, "a2")
    assert not any(each.preamble for each in await records(store))


async def test_a_parallel_branch_whose_start_was_erased_meanwhile_is_a_conflict() -> None:
    store = open_store("memory:")
    await turn(store, asked("u1"), "a1", PARALLEL)
    await turn(store, asked("u2"), "a2", PARALLEL)
    branch = await prepare(store, asked("u2 anew"), PARALLEL, from_turn=1)
    await store.erase(REF)
    with pytest.raises(SessionConflict):
        await record(store, branch, "a2 anew")


# what is kept for a retry


async def test_of_a_reply_s_headers_a_replay_holds_content_type_and_session_headers_only() -> None:
    """Others may be cookies, and a day later they would be wrong."""
    store = open_store("memory:")
    tried = attempt(headers({"Idempotency-Key": "a"}), b"{}")
    assert tried is not None
    others = {"Set-Cookie": "secret", "X-Request-Id": "7", "Content-Length": "9"}
    came = Came(status=201, named={"Content-Type": "application/json", **others})
    marks = (("X-Session-Id", "s"), ("X-Session-Turn", "1"))
    prepared = await prepare(store, asked("one"))
    sent = (came, marks, b'{"a": 1}')
    await commit(CHAT, asked("one"), house(store), prepared, answer(prepared, "first"), "whole", tried, sent)
    replay = await store.find_replay(REF, tried.key)
    assert replay is not None
    assert replay.headers == (("Content-Type", "application/json"), *marks)
    assert (replay.status, replay.body, replay.sticky) == (201, b'{"a": 1}', True)
    assert (replay.request, replay.entry) == (tried.request, (await chain_of(store)).head.id)


async def test_without_a_sign_of_retries_or_a_whole_reply_nothing_is_kept_for_them() -> None:
    store = open_store("memory:")
    tried = attempt(headers({"Idempotency-Key": "a"}), b"{}")
    assert tried is not None
    prepared = await prepare(store, asked("one"))
    await commit(CHAT, asked("one"), house(store), prepared, answer(prepared, "cut"), "partial", tried, None)
    assert await store.find_replay(REF, tried.key) is None
    assert (await chain_of(store)).head.facts.state == "partial"


# what failed


@pytest.mark.parametrize("begun", [False, True])
async def test_what_failed_is_kept_for_reading_and_moves_nothing(begun: bool) -> None:
    store = open_store("memory:")
    if begun:
        await turn(store, asked("one"), "first")
    head, before = await store.load(REF, key="", reach=None), await history(store)
    prepared = await prepare(store, asked("lost"))
    await commit_failed(CHAT, asked("lost"), house(store), prepared, answer(prepared, "half an ans"), "upstream_broken")
    assert await store.load(REF, key="", reach=None) == head
    assert await history(store) == before
    failed = (await records(store))[-1].entry
    assert (failed.facts.state, failed.facts.finish) == ("failed", "upstream_broken")
    assert [m.text for m in CHAT.messages(failed.wire)] == ["lost", "half an ans"]
    following = await prepare(store, asked("next"))
    assert context(following) == [*before, ("user", "next")]
    await record(store, following, "said")
    assert await history(store) == [*before, ("user", "next"), ("assistant", "said")]


async def test_what_failed_before_the_answer_is_kept_as_far_as_it_came() -> None:
    store = open_store("memory:")
    prepared = await prepare(store, asked("lost"))
    nothing = CHAT.reader(prepared.call, stream=True).reply()
    assert nothing.message is None
    await commit_failed(CHAT, asked("lost"), house(store), prepared, nothing, "upstream_timeout")
    (failed,) = await records(store)
    assert [m.text for m in CHAT.messages(failed.entry.wire)] == ["lost"]


async def test_what_failed_is_never_taken_for_history_that_is_sent_again() -> None:
    store = open_store("memory:")
    prepared = await prepare(store, asked("lost"))
    await commit_failed(CHAT, asked("lost"), house(store), prepared, answer(prepared, "half"), "upstream_broken")
    again = await prepare(store, asked("lost", said("assistant", "half"), "next"))
    assert (again.reading.known, again.parent) == (0, None)


async def test_what_failed_in_a_session_that_was_erased_meanwhile_does_not_bring_it_back() -> None:
    store = open_store("memory:")
    await turn(store, asked("one"), "first")
    prepared = await prepare(store, asked("two"))
    await store.erase(REF)
    await commit_failed(CHAT, asked("two"), house(store), prepared, answer(prepared, "half"), "upstream_broken")
    assert await records(store) == []


@pytest.mark.parametrize("policy", [PLAIN, PARALLEL], ids=["queue", "parallel"])
async def test_a_store_that_fails_is_said_to_fail(policy: Policy) -> None:
    store = open_store("memory:")
    prepared = await prepare(store, asked("one"), policy)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await record(store, prepared, "first")
