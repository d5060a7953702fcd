"""The same request again is recognised by what it carries, waits for the first, and is answered by its reply."""

import asyncio
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.entry import grow, new_id
from proxy.conversation.message import Message
from proxy.errors import IdempotencyKeyReused
from proxy.exchange.retry import Attempt, Claim, Retries, attempt
from proxy.stores import open_store
from proxy.stores.contract import Append, Ref, Replay, Store
from tests.exchange.making import KEY, REF, headers

OTHER = Ref("other", "session", "s")


def tried(named: Mapping[str, str], body: bytes = b"{}") -> Attempt:
    found = attempt(headers(named), body)
    assert found is not None
    return found


def replay_of(one: Attempt) -> Replay:
    return Replay(one.key, one.request, one.sticky, 200, (("Content-Type", "application/json"),), b"said", "")


async def recorded(store: Store, one: Attempt, ref: Ref = REF) -> Replay:
    """One more entry, appended with a reply for the request."""
    chain = await store.load(ref, key="", reach=None)
    entry = grow(
        id=new_id(),
        parent=chain.head if chain else None,
        key=KEY,
        messages=[Message("user", b"{}", "said")],
        tokens=[1],
        dialect="chat",
        model="m",
    )
    replay = msgspec.structs.replace(replay_of(one), entry=entry.id)
    await store.append(Append(ref=ref, expected=chain.ref_head if chain else None, entry=entry, replay=replay))
    return replay


async def again(retries: Retries, ref: Ref, one: Attempt, timeout_s: float) -> Replay | None:
    """The same request again: its recorded reply; None if it is a request of its own, which then ends at once."""
    found = await retries.claim(ref, one, timeout_s)
    if isinstance(found, Claim):
        found.end()
        return None
    return found


async def begun(retries: Retries, ref: Ref, one: Attempt) -> Claim:
    """A first request that runs."""
    found = await retries.claim(ref, msgspec.structs.replace(one, again=False), 60)
    assert isinstance(found, Claim)
    return found


async def settled() -> None:
    """Lets every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_client_that_never_says_so_tries_nothing_again() -> None:
    assert attempt(headers({"Content-Type": "application/json"}), b"{}") is None


@pytest.mark.parametrize(
    ("named", "sticky", "again"),
    [
        ({"Idempotency-Key": "a"}, True, True),
        ({"idempotency-key": "a"}, True, True),
        ({"Idempotency-Key": "a", "x-stainless-retry-count": "0"}, True, True),
        ({"Idempotency-Key": "a", "x-stainless-retry-count": "2"}, True, True),
        ({"x-stainless-retry-count": "0"}, False, False),
        ({"x-stainless-retry-count": "1"}, False, True),
        ({"X-Stainless-Retry-Count": "10"}, False, True),
    ],
)
def test_what_the_headers_say(named: dict[str, str], sticky: bool, again: bool) -> None:
    found = attempt(headers(named), b"{}")
    assert found is not None
    assert (found.sticky, found.again) == (sticky, again)


def test_an_idempotency_key_counts_whatever_else_is_sent() -> None:
    assert tried({"Idempotency-Key": "a"}).key == tried({"Idempotency-Key": "a", "x-stainless-retry-count": "1"}).key
    assert tried({"Idempotency-Key": "a"}).key != tried({"Idempotency-Key": "b"}).key


def test_without_a_key_the_body_counts_and_the_number_of_the_retry_does_not() -> None:
    first, second = tried({"x-stainless-retry-count": "0"}), tried({"x-stainless-retry-count": "1"})
    assert (first.key, first.request) == (second.key, second.request)
    assert tried({"x-stainless-retry-count": "1"}, b"{ }").key != second.key


@given(st.text(st.characters(codec="latin-1"), max_size=60), st.binary(max_size=60))
def test_a_key_is_never_stored_as_it_came_and_never_meets_a_body(key: str, body: bytes) -> None:
    """It may be a secret; and a client must not be able to name another request by its body's hash."""
    by_key, by_body = tried({"Idempotency-Key": key}, body), tried({"x-stainless-retry-count": "1"}, body)
    assert len(by_key.key) == 34
    assert len(key) < 3 or key not in by_key.key
    assert by_key.key[:2] != by_body.key[:2]
    assert tried({"Idempotency-Key": by_body.key}, body).key != by_body.key


def test_a_key_with_bytes_that_are_no_utf_8_is_a_key() -> None:
    assert tried({"Idempotency-Key": "\udcff"}).key != tried({"Idempotency-Key": "\udcfe"}).key


async def test_a_request_of_its_own_has_no_recorded_reply() -> None:
    retries = Retries(open_store("memory:"))
    assert await again(retries, REF, tried({"Idempotency-Key": "a"}), 5) is None


@pytest.mark.parametrize("named", [{"Idempotency-Key": "a"}, {"x-stainless-retry-count": "1"}])
async def test_the_recorded_reply_is_given_again(named: dict[str, str]) -> None:
    store = open_store("memory:")
    replay = await recorded(store, tried(named))
    retries = Retries(store)
    assert await again(retries, REF, tried(named), 5) == replay
    assert await again(retries, OTHER, tried(named), 5) is None


async def test_a_key_used_for_another_body_is_refused() -> None:
    store = open_store("memory:")
    await recorded(store, tried({"Idempotency-Key": "a"}, b"one"))
    with pytest.raises(IdempotencyKeyReused):
        await again(Retries(store), REF, tried({"Idempotency-Key": "a"}, b"two"), 5)


async def test_once_the_session_has_moved_on_only_a_key_still_counts() -> None:
    store = open_store("memory:")
    by_body, by_key = tried({"x-stainless-retry-count": "1"}), tried({"Idempotency-Key": "a"})
    await recorded(store, by_body)
    await recorded(store, by_key)
    await recorded(store, tried({"x-stainless-retry-count": "1"}, b"later"))
    retries = Retries(store)
    assert await again(retries, REF, by_body, 5) is None
    assert await again(retries, REF, by_key, 5) is not None


async def test_a_retry_waits_for_the_first_and_gets_its_reply() -> None:
    store = open_store("memory:")
    retries, one = Retries(store), tried({"Idempotency-Key": "a"})
    first = await begun(retries, REF, one)
    second = asyncio.create_task(again(retries, REF, one, 60))
    third = asyncio.create_task(again(retries, REF, one, 60))
    await settled()
    assert not second.done()
    replay = await recorded(store, one)
    await settled()
    assert not second.done(), "the first still runs"
    first.end()
    assert await second == replay
    assert await third == replay


async def test_a_retry_of_what_left_nothing_is_a_request_of_its_own() -> None:
    retries, one = Retries(open_store("memory:")), tried({"Idempotency-Key": "a"})
    first = await begun(retries, REF, one)
    second = asyncio.create_task(again(retries, REF, one, 60))
    await settled()
    first.end()
    assert await second is None


async def test_other_sessions_tenants_and_keys_wait_for_nobody() -> None:
    retries, one = Retries(open_store("memory:")), tried({"Idempotency-Key": "a"})
    await begun(retries, REF, one)
    assert await again(retries, OTHER, one, 60) is None
    assert await again(retries, REF, tried({"Idempotency-Key": "b"}), 60) is None


async def test_the_wait_is_bounded_and_does_not_end_the_first() -> None:
    retries, one = Retries(open_store("memory:")), tried({"Idempotency-Key": "a"})
    first = await begun(retries, REF, one)
    with pytest.raises(TimeoutError):
        await again(retries, REF, one, 0.01)
    assert (REF, one.key) in retries._running
    first.end()
    assert await again(retries, REF, one, 0.01) is None


async def test_a_retry_that_gives_up_waiting_leaves_the_others_waiting() -> None:
    retries, one = Retries(open_store("memory:")), tried({"Idempotency-Key": "a"})
    first = await begun(retries, REF, one)
    gone, stays = (asyncio.create_task(again(retries, REF, one, 60)) for _ in range(2))
    await settled()
    gone.cancel()
    await settled()
    assert (REF, one.key) in retries._running
    assert not stays.done()
    first.end()
    assert await stays is None
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_what_has_ended_leaves_no_trace() -> None:
    retries = Retries(open_store("memory:"))
    for n in range(100):
        one = tried({"Idempotency-Key": str(n)})
        (await begun(retries, REF, one)).end()
    assert not retries._running


async def test_of_two_that_waited_for_one_that_left_nothing_only_one_runs() -> None:
    retries, one = Retries(open_store("memory:")), tried({"Idempotency-Key": "a"})
    first = await begun(retries, REF, one)
    waiting = {asyncio.create_task(retries.claim(REF, one, 60)) for _ in range(2)}
    await settled()
    first.end()
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await settled()
    assert len(done) == 1
    assert not any(task.done() for task in rest)
    claim = done.pop().result()
    assert isinstance(claim, Claim)
    claim.end()
    last = await rest.pop()
    assert isinstance(last, Claim)


async def test_the_end_of_an_older_request_does_not_hide_a_newer_one() -> None:
    """Two of one key can run: the second began when it had waited in vain."""
    retries, one = Retries(open_store("memory:")), tried({"Idempotency-Key": "a"})
    older, newer = await begun(retries, REF, one), await begun(retries, REF, one)
    older.end()
    waiting = asyncio.create_task(again(retries, REF, one, 60))
    await settled()
    assert not waiting.done()
    newer.end()
    assert await waiting is None
    assert not retries._running
