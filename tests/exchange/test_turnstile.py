"""One exchange at a time on a session, in arrival order, and who ends one early."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from proxy.errors import QueueFull, QueueTimeout, SessionBusy, Stopping
from proxy.exchange.turnstile import Reason, Turnstile, Visit
from proxy.policy import Policy, Session
from proxy.stores.contract import Ref

REF = Ref("tenant", "session", "s")
Work = Callable[[Visit], Awaitable[None]]


def policy(concurrency: str = "queue", timeout_s: float = 60.0) -> Policy:
    session = msgspec.convert({"concurrency": concurrency}, Session)
    return Policy(session=session, queue_timeout_s=timeout_s)


class Hall:
    """Runs visits as tasks and writes down what happened."""

    def __init__(self, turnstile: Turnstile | None = None) -> None:
        self.turnstile = turnstile or Turnstile()
        self.events: list[str] = []
        self.visits: dict[str, Visit] = {}
        self.inside: dict[str, asyncio.Event] = {}

    def start(self, name: str, mode: Policy, *, ref: Ref = REF) -> tuple["asyncio.Task[None]", asyncio.Event]:
        done = asyncio.Event()
        self.inside[name] = asyncio.Event()
        return asyncio.create_task(self._visit(name, mode, ref, done)), done

    async def _visit(self, name: str, mode: Policy, ref: Ref, done: asyncio.Event) -> None:
        visit = self.visits[name] = self.turnstile.begin()
        try:
            await self.turnstile.enter(visit, ref, mode)
            self.events.append(f"{name} in")
            self.inside[name].set()
            visit.on_disconnect = "finish"
            visit.asking()
            await done.wait()
            visit.calm()
            self.events.append(f"{name} out")
        except asyncio.CancelledError:
            if visit.reason is None:
                raise
            visit.calm()
            self.events.append(f"{name} {visit.reason.name}")
        finally:
            self.turnstile.end(visit)


async def settled() -> None:
    """Lets every task run as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_requests_on_one_session_go_in_arrival_order() -> None:
    hall = Hall()
    tasks, dones = zip(*(hall.start(str(n), policy()) for n in range(5)), strict=True)
    for done in dones:
        await settled()
        done.set()
    await asyncio.gather(*tasks)
    assert hall.events == [f"{n} {what}" for n in range(5) for what in ("in", "out")]
    assert hall.turnstile.running == 0
    assert not hall.turnstile._holders
    assert not hall.turnstile._queues


async def test_other_sessions_and_tenants_do_not_wait() -> None:
    hall = Hall()
    one, done_one = hall.start("a", policy())
    two, done_two = hall.start("b", policy(), ref=Ref("other", "session", "s"))
    await hall.inside["a"].wait()
    await hall.inside["b"].wait()
    done_one.set()
    done_two.set()
    await asyncio.gather(one, two)


async def test_reject_refuses_the_second() -> None:
    hall = Hall()
    one, done = hall.start("a", policy("reject"))
    await hall.inside["a"].wait()
    two, _ = hall.start("b", policy("reject"))
    with pytest.raises(SessionBusy):
        await two
    done.set()
    await one


async def test_parallel_waits_for_nobody() -> None:
    hall = Hall()
    one, done_one = hall.start("a", policy("parallel"))
    two, done_two = hall.start("b", policy("parallel"))
    await hall.inside["a"].wait()
    await hall.inside["b"].wait()
    done_one.set()
    done_two.set()
    await asyncio.gather(one, two)


async def test_a_wait_is_bounded_and_leaves_no_trace_in_the_queue() -> None:
    hall = Hall()
    one, done = hall.start("a", policy())
    await hall.inside["a"].wait()
    two, _ = hall.start("b", policy(timeout_s=0.01))
    with pytest.raises(QueueTimeout) as refused:
        await two
    assert refused.value.retry_after_s == 1
    assert not hall.turnstile._queues
    done.set()
    await one


@pytest.mark.parametrize("at_most", [0, 1, 3])
async def test_a_queue_that_is_full_refuses_at_once_and_takes_the_next_when_one_has_gone(at_most: int) -> None:
    hall = Hall(Turnstile(at_most))
    tasks = [hall.start(str(n), policy()) for n in range(at_most + 1)]
    await settled()
    refused, _ = hall.start("refused", policy())
    with pytest.raises(QueueFull) as told:
        await refused
    assert (told.value.status, told.value.retry_after_s) == (429, 1)
    elsewhere, done = hall.start("elsewhere", policy(), ref=Ref("other", "session", "s"))
    done.set()
    await elsewhere
    tasks[0][1].set()
    await tasks[0][0]
    taken, done = hall.start("taken", policy())
    for each in (*(done for _, done in tasks[1:]), done):
        each.set()
    await asyncio.gather(*(task for task, _ in tasks[1:]), taken)
    assert hall.events[-1] == "taken out"
    assert not hall.turnstile._queues


async def test_a_client_that_leaves_the_queue_is_passed_over() -> None:
    hall = Hall()
    one, done_one = hall.start("a", policy())
    await hall.inside["a"].wait()
    two, _ = hall.start("b", policy())
    three, done_three = hall.start("c", policy())
    await settled()
    hall.turnstile.client_left(hall.visits["b"])
    done_one.set()
    done_three.set()
    await asyncio.gather(one, two, three)
    assert sorted(hall.events) == ["a in", "a out", "b GONE", "c in", "c out"]
    assert hall.events.index("a out") < hall.events.index("c in")


async def test_a_client_that_leaves_at_the_moment_of_its_turn_passes_it_on() -> None:
    hall = Hall()
    one, done_one = hall.start("a", policy())
    await hall.inside["a"].wait()
    two, _ = hall.start("b", policy())
    three, done_three = hall.start("c", policy())
    await settled()
    done_three.set()
    # handed over and cancelled before its task has run
    hall.turnstile.leave(hall.visits["a"])
    two.cancel()
    await three
    done_one.set()
    await one
    with pytest.raises(asyncio.CancelledError):
        await two
    assert not hall.turnstile._holders


async def test_a_finished_reply_for_nobody_is_ended_by_a_new_request() -> None:
    hall = Hall()
    one, _ = hall.start("a", policy())
    await hall.inside["a"].wait()
    hall.turnstile.client_left(hall.visits["a"])
    await settled()
    assert hall.events == ["a in"]
    two, done = hall.start("b", policy())
    await one
    assert hall.visits["a"].reason is Reason.SUPERSEDED
    await hall.inside["b"].wait()
    done.set()
    await two


async def test_a_client_that_leaves_while_another_waits_is_superseded() -> None:
    hall = Hall()
    one, _ = hall.start("a", policy())
    await hall.inside["a"].wait()
    two, done = hall.start("b", policy())
    await settled()
    hall.turnstile.client_left(hall.visits["a"])
    await one
    assert hall.visits["a"].reason is Reason.SUPERSEDED
    done.set()
    await two


async def test_nothing_interrupts_a_commit() -> None:
    turnstile = Turnstile()
    committed = asyncio.Event()
    go_on = asyncio.Event()

    async def exchange() -> str:
        visit = turnstile.begin()
        await turnstile.enter(visit, REF, policy())
        visit.asking()
        visit.calm()
        committed.set()
        await go_on.wait()
        turnstile.end(visit)
        return "whole"

    task = asyncio.create_task(exchange())
    await committed.wait()
    turnstile.interrupt_all()
    await settled()
    go_on.set()
    assert await task == "whole"


async def test_when_stopping_nobody_gets_in() -> None:
    turnstile = Turnstile()
    turnstile.stop()
    with pytest.raises(Stopping):
        turnstile.begin()


@pytest.mark.parametrize("late", [False, True], ids=["as it ends", "after its end"])
async def test_what_follows_an_exchange_is_not_interrupted(late: bool) -> None:
    turnstile = Turnstile()
    visit = turnstile.begin()
    if not late:
        visit.interrupt(Reason.CANCELLED)
    turnstile.end(visit)
    if late:
        visit.interrupt(Reason.CANCELLED)
    for _ in range(5):
        await asyncio.sleep(0)
