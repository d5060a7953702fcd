"""From a request and what is stored to the body that goes upstream, and what the entry will stand on."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.context.contract import Window
from proxy.conversation.quirks import Quirks
from proxy.errors import StoreUnavailable, UnknownToolCall, UnknownTurn
from proxy.exchange import assemble
from proxy.exchange.tenant import Tenant
from proxy.policy import Policy, Session
from proxy.stores import open_store
from proxy.stores.contract import Store
from proxy.tokens import counter
from tests.exchange.making import KEY, PLAIN, REF, Json, asked, context, prepare, request, said, turn

UNKNOWN = "mystery-7b"
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


async def talked(turns: int, policy: Policy = PLAIN, **members: str) -> Store:
    """A store whose session holds so many turns: u1, a1, u2, a2, ..."""
    store = open_store("memory:")
    for n in range(1, turns + 1):
        await turn(store, asked(f"u{n}", **members), f"a{n}", policy)
    return store


def lines(*turns: int) -> list[tuple[str, str]]:
    return [pair for n in turns for pair in (("user", f"u{n}"), ("assistant", f"a{n}"))]


def whole(turns: int, *more: str | Json) -> list[str | Json]:
    """The history as a client that keeps it sends it."""
    return [*(said(role, text) for role, text in lines(*range(1, turns + 1))), *more]


# the client's own bytes

ODD = b"""{ "model":"gpt-4o" , "top_p": 1.0,"seed":123456789012345678901234567890,
 "messages" : [ {"content":"\\u00e9", "role":"user", "x": 1e2} ] , "unknown": {"b":1,"a":[ ]} }"""


async def test_a_first_request_travels_as_it_came() -> None:
    assert (await prepare(open_store("memory:"), request(ODD))).body == ODD


async def test_behind_a_history_every_other_byte_travels_as_it_came() -> None:
    store = await talked(1)
    body = (await prepare(store, request(ODD))).body
    before, _, behind = ODD.partition(b'[ {"content":"\\u00e9", "role":"user", "x": 1e2} ]')
    assert body.startswith(before)
    assert body.endswith(behind)
    assert b'{"content":"\\u00e9", "role":"user", "x": 1e2}' in body
    assert len(json.loads(body)["messages"]) == 3


@pytest.mark.parametrize("lead", [(), (said("system", "Be brief."),)])
async def test_a_history_that_is_sent_again_in_full_travels_as_it_came(lead: tuple[Json, ...]) -> None:
    store = await talked(2)
    req = asked(*lead, *whole(2, "u3"))
    prepared = await prepare(store, req)
    assert prepared.body == req.body
    assert [message.text for message in prepared.new] == ["u3"]
    assert (prepared.plan.history, prepared.plan.branch, prepared.turn) == ("whole", False, 3)


@given(st.integers(0, 4), st.integers(0, 4))
@settings(max_examples=25)
async def test_delta_or_whole_the_same_is_sent_and_weighed(deltas: int, wholes: int) -> None:
    """A client that begins to keep its history loses and doubles nothing, and the estimate is what the body weighs."""
    store = open_store("memory:")
    for n in range(1, deltas + wholes + 2):
        req = asked(f"u{n}") if n <= deltas else asked(*whole(n - 1, f"u{n}"))
        prepared = await turn(store, req, f"a{n}")
        assert context(prepared) == [*lines(*range(1, n)), ("user", f"u{n}")]
        assert (prepared.plan.kept, prepared.plan.dropped) == (2 * (n - 1), 0)
        weights = [4 + counter.count_text(text, "gpt-4o") for _, text in context(prepared)]
        assert prepared.estimated == counter.PRIMING_TOKENS + sum(weights)


@pytest.mark.parametrize(
    "quirks",
    [Quirks(alternate=True), Quirks(one_system=True), Quirks(developer="system")],
    ids=["alternate", "one_system", "developer"],
)
async def test_a_quirk_of_the_upstream_forces_a_rewrite(quirks: Quirks) -> None:
    """Also of a request that would otherwise travel as it came."""
    req = asked(said("developer", "Be brief."), said("system", "Be kind."), "one", "two")
    store = open_store("memory:")
    assert (await prepare(store, req)).body == req.body
    rewritten = await prepare(store, req, Policy(name="p", key="p", upstream=quirks))
    roles = [role for role, _ in context(rewritten)]
    if quirks.alternate:
        assert roles[-2:] == ["system", "user"]
    if quirks.one_system:
        assert roles == ["system", "user", "user"]
    if quirks.developer == "system":
        assert roles == ["system", "system", "user", "user"]


# the preamble

RULES, OTHERS = said("system", "Be brief."), said("system", "Be kind.")


async def test_a_delta_without_a_preamble_uses_the_newest_recorded() -> None:
    store = open_store("memory:")
    first = await turn(store, asked(RULES, "u1"), "a1")
    second = await turn(store, asked("u2"), "a2")
    assert context(second)[0] == ("system", "Be brief.")
    assert second.preamble == first.preamble
    assert context(await prepare(store, asked("u3")))[0] == ("system", "Be brief.")


async def test_a_delta_with_a_preamble_replaces_it_from_then_on() -> None:
    store = open_store("memory:")
    await turn(store, asked(RULES, "u1"), "a1")
    second = await turn(store, asked(OTHERS, "u2"), "a2")
    assert context(second) == [("system", "Be kind."), *lines(1), ("user", "u2")]
    assert context(await prepare(store, asked("u3")))[0] == ("system", "Be kind.")


async def test_a_whole_history_has_the_preamble_that_it_sent_also_when_that_is_none() -> None:
    store = open_store("memory:")
    await turn(store, asked(RULES, "u1"), "a1")
    bare = await prepare(store, asked(*whole(1, "u2")))
    assert bare.preamble is None
    assert context(bare) == [*lines(1), ("user", "u2")]
    other = await prepare(store, asked(OTHERS, *whole(1, "u2")))
    assert context(other)[0] == ("system", "Be kind.")


async def test_the_preamble_weighs_and_the_same_one_is_kept_once() -> None:
    store = open_store("memory:")
    first = await turn(store, asked(RULES, "u1"), "a1")
    assert first.preamble is not None
    assert first.preamble.tokens == counter.count_text("Be brief.", "gpt-4o") + 4
    assert first.estimated == (await prepare(open_store("memory:"), asked("u1"))).estimated + first.preamble.tokens
    chain = await store.load(REF, key="", reach=0)
    assert chain is not None
    second = await prepare(store, asked(RULES, "u2"))
    assert second.preamble is not None
    assert second.preamble.id == chain.head.facts.preamble


async def test_a_branch_has_the_preamble_of_where_it_starts() -> None:
    store = open_store("memory:")
    await turn(store, asked(RULES, "u1"), "a1")
    await turn(store, asked(OTHERS, "u2"), "a2")
    branch = await prepare(store, asked("u2 anew"), from_turn=1)
    assert context(branch)[0] == ("system", "Be brief.")


# the window


async def test_the_policy_s_window_decides_what_is_kept() -> None:
    policy = Policy(name="last", key="last", window=Window(max_turns=2, trim_to=1.0))
    store = await talked(5, policy)
    prepared = await prepare(store, asked("u6"), policy)
    assert context(prepared) == [*lines(4, 5), ("user", "u6")]
    assert (prepared.plan.kept, prepared.plan.dropped, prepared.turn) == (4, 6, 6)
    assert prepared.context_header == f'policy="last", kept=4, dropped=6, tokens={prepared.plan.tokens}'
    assert (prepared.plan.upto, prepared.plan.policy) == (10, "last")


async def test_nothing_stored_is_lost_by_trimming() -> None:
    policy = Policy(name="last", key="last", window=Window(max_turns=1, trim_to=1.0))
    store = await talked(4, policy)
    assert context(await prepare(store, asked("u5"))) == [*lines(1, 2, 3, 4), ("user", "u5")]


async def test_a_whole_history_is_trimmed_as_well() -> None:
    policy = Policy(name="last", key="last", window=Window(max_turns=1, trim_to=1.0))
    store = await talked(3, policy)
    prepared = await prepare(store, asked(*whole(3, "u4")), policy)
    assert context(prepared) == [*lines(3), ("user", "u4")]
    assert (prepared.plan.history, prepared.plan.dropped) == ("whole", 4)


async def test_full_puts_nothing_back_that_the_client_left_out() -> None:
    policy = Policy(name="full", key="full", session=Session(history="full"))
    store = open_store("memory:")
    for n in range(1, 4):
        await turn(store, asked(*whole(n - 1, f"u{n}")), f"a{n}", policy)
    req = asked(*(said(role, text) for role, text in lines(3)), "u4")
    prepared = await prepare(store, req, policy)
    assert prepared.body == req.body
    assert prepared.parent is not None, "it is recorded behind what it left out"
    assert prepared.plan.anchor.start == 0, "what one request left out is not dropped for the next"


async def test_what_fits_a_model_comes_from_the_policy_before_the_table() -> None:
    window = Window(max_tokens="fit")
    fits = Policy(name="fit", key="fit", window=window)
    small = Policy(name="small", key="small", window=window, upstream=Quirks(context_tokens=4096))
    store = await talked(1)
    wide, narrow = await prepare(store, asked("u2"), fits), await prepare(store, asked("u2"), small)
    less = narrow.estimated - narrow.plan.tokens
    assert narrow.plan.limit == 4096 - 1024 - less
    assert wide.plan.limit == 128_000 - 4096 - less
    asking = await prepare(store, asked("u2", max_tokens=96), small)
    assert asking.plan.limit == 4096 - 96 - less


# the ratio

LIMIT = Policy(name="limit", key="limit", window=Window(max_tokens=1000))


async def reported(model: str, times: float) -> Store:
    """A session whose upstream counted so many times as many tokens as were estimated."""
    store = open_store("memory:")
    estimated = (await prepare(store, asked("hello " * 100, model=model))).estimated
    await turn(store, asked("hello " * 100, model=model), "a1", reported=int(estimated * times))
    return store


@pytest.mark.parametrize("times", [0.5, 2.0])
async def test_the_estimate_of_an_unknown_model_is_corrected_by_what_its_upstream_counted(times: float) -> None:
    store = await reported(UNKNOWN, times)
    prepared = await prepare(store, asked("u2", model=UNKNOWN), LIMIT)
    assert prepared.plan.limit is not None
    assert prepared.plan.limit == pytest.approx(1000 / times, rel=0.02)


@pytest.mark.parametrize(("before", "now"), [("gpt-4o", "gpt-4o"), (UNKNOWN, "gpt-4o"), (UNKNOWN, "other-7b")])
async def test_a_known_model_s_count_is_not_corrected_nor_one_by_another_s(before: str, now: str) -> None:
    store = await reported(before, 2.0)
    assert (await prepare(store, asked("u2", model=now), LIMIT)).plan.limit == 1000


async def test_an_upstream_that_reports_nothing_corrects_nothing() -> None:
    store = await reported(UNKNOWN, 0)
    assert (await prepare(store, asked("u2", model=UNKNOWN), LIMIT)).plan.limit == 1000


# branches


@pytest.mark.parametrize("number", [0, 1, 2, 3])
async def test_from_continues_after_a_turn_as_a_new_branch(number: int) -> None:
    store = await talked(3)
    prepared = await prepare(store, asked("anew"), from_turn=number)
    assert context(prepared) == [*lines(*range(1, number + 1)), ("user", "anew")]
    assert prepared.turn == number + 1
    assert prepared.plan.branch is (number < 3)
    assert prepared.context_header.endswith(", branch") is (number < 3)
    chain = await store.load(REF, key="", reach=0)
    assert chain is not None
    assert prepared.head == chain.head.id, "an append expects what the session names now"


async def test_from_copies_the_turn_that_stands_in_the_middle_of_an_entry() -> None:
    """A client that sent its whole history at once made one entry of many turns."""
    store = open_store("memory:")
    await turn(store, asked(*whole(3, "u4")), "a4")
    prepared = await prepare(store, asked("anew"), from_turn=2)
    assert context(prepared) == [*lines(1, 2), ("user", "anew")]
    assert [message.text for message in prepared.new] == ["u1", "a1", "u2", "a2", "anew"]
    assert len(prepared.tokens) == 5
    assert (prepared.turn, prepared.parent) == (3, None)


@pytest.mark.parametrize("number", [4, 99])
async def test_from_a_turn_that_is_not_there_is_refused(number: int) -> None:
    with pytest.raises(UnknownTurn):
        await prepare(await talked(3), asked("anew"), from_turn=number)
    with pytest.raises(UnknownTurn):
        await prepare(open_store("memory:"), asked("anew"), from_turn=number)


async def test_an_edited_message_is_a_branch_from_where_it_differs() -> None:
    store = await talked(3)
    req = asked(*whole(1, "u2 edited"))
    prepared = await prepare(store, req)
    assert prepared.body == req.body
    assert prepared.plan.branch
    assert prepared.parent is not None
    assert (prepared.parent.upto, prepared.turn) == (2, 2)


# tool calls


async def test_a_result_whose_call_nobody_made_is_refused() -> None:
    store = await talked(1)
    with pytest.raises(UnknownToolCall) as refused:
        await prepare(store, asked(said("tool", "found", tool_call_id="c1")))
    assert refused.value.param == "messages"


async def test_a_result_is_taken_once_from_wherever_its_call_waits() -> None:
    store = await talked(1)
    await turn(store, asked("u2"), "", tool_calls=[CALL])
    result = said("tool", "found", tool_call_id="c1")
    prepared = await turn(store, asked(result), "a2")
    assert [role for role, _ in context(prepared)] == ["user", "assistant", "user", "assistant", "tool"]
    assert prepared.turn == 2, "a result goes on with the turn"
    with pytest.raises(UnknownToolCall):
        await prepare(store, asked(result))
    with pytest.raises(UnknownToolCall):
        await prepare(store, asked(result), from_turn=1)


async def test_a_call_that_the_user_walked_past_is_answered_and_its_late_result_taken() -> None:
    store = open_store("memory:")
    await turn(store, asked("u1"), "", tool_calls=[CALL])
    past = await turn(store, asked("u2"), "a2")
    assert [role for role, _ in context(past)] == ["user", "assistant", "tool", "user"]
    assert past.plan.repaired
    late = await prepare(store, asked(said("tool", "found", tool_call_id="c1"), "u3"))
    assert ("tool", "found") in context(late)
    assert late.plan.repaired


# counting, and what is left out


async def test_long_messages_are_counted_as_others_are() -> None:
    """They are counted in a thread, so that other requests go on."""
    long = asked("word " * 20_000, "short")
    prepared = await prepare(open_store("memory:"), long)
    assert any(map(counter.is_slow, prepared.new))
    assert prepared.tokens == tuple(counter.count(message, "gpt-4o") for message in prepared.new)
    assert await assemble.count(prepared.new[::-1], "gpt-4o") == prepared.tokens[::-1]


async def test_tools_weigh_beside_the_messages() -> None:
    store = open_store("memory:")
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    bare, armed = await prepare(store, asked("u1")), await prepare(store, asked("u1", tools=tools))
    assert armed.estimated > bare.estimated


async def test_other_tenants_and_sessions_have_no_part_in_it() -> None:
    store = await talked(2)
    req = asked("u1")
    theirs = await prepare(store, msgspec.structs.replace(req, tenant=lambda: Tenant("other", "other", KEY)))
    assert (theirs.body, theirs.head, theirs.parent) == (req.body, None, None)


async def test_a_store_that_fails_is_said_to_fail() -> None:
    store = await talked(1)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await prepare(store, asked("u2"))
