"""A random mix of delta, whole-history, truncated, edited, regenerated, branched and retried requests shows the model
the same contexts as a plain in-memory account of the rules does."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.app import Remora, remora, said
from tests.support.upstream import Received, Script, ScriptedUpstream, plain

Line = list[tuple[str, str]]
EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "60"))
_sessions = itertools.count()


def parrot(request: Received) -> Script:
    """Few different replies, so that lines of different branches look alike."""
    content = f"r{len(request.json()['messages']) % 3}"
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return plain(200, {"choices": [choice]})


@dataclass
class Account:
    """The rules, over plain lists: every line that was ever recorded, the newest last."""

    lines: list[Line] = field(default_factory=list)
    head: Line = field(default_factory=list)
    once_whole: bool = False

    def context(self, sent: Line) -> Line:
        tail = max((at + 1 for at, (role, _) in enumerate(sent) if role == "assistant"), default=0)
        if not tail and not self.once_whole:
            return self.head + sent
        if not self.head:
            return sent
        if any(sent[:known] in self.lines for known in range(1, len(sent) + 1)):
            self.once_whole = True
            return sent
        overlap = self.head[len(self.head) - tail :]
        if 0 < tail < len(self.head) and overlap == sent[:tail] and overlap[0][0] == "user":
            self.once_whole = True
            return self.head + sent[tail:]
        return sent

    def record(self, line: Line) -> None:
        self.head = line
        self.lines.append(line)

    def upto_turn(self, turn: int) -> Line:
        users = [at for at, (role, _) in enumerate(self.head) if role == "user"]
        return self.head[: users[turn] if turn < len(users) else len(self.head)]

    @property
    def turns(self) -> int:
        return sum(role == "user" for role, _ in self.head)


text = st.sampled_from(["a", "b"])
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["delta", "delta", "whole", "truncated", "edited", "regenerated", "from", "retried", "foreign"]
        ),
        st.integers(0, 20),
        st.integers(0, 20),
        text,
    ),
    min_size=1,
    max_size=14,
)


class Bench:
    def __init__(self, runner: asyncio.Runner, proxy: Remora, upstream: ScriptedUpstream) -> None:
        self.runner, self.proxy, self.upstream = runner, proxy, upstream


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start(folder: Path) -> Bench:
            upstream = await stack.enter_async_context(ScriptedUpstream(parrot))
            proxy = await stack.enter_async_context(remora(upstream.url, folder, "[session]\n", watched=False))
            return Bench(runner, proxy, upstream)

        yield runner.run(start(tmp_path_factory.mktemp("model")))
        runner.run(stack.aclose())


@settings(max_examples=EXAMPLES, deadline=None)
@given(steps)
def test_contexts_are_those_of_the_plain_account(bench: Bench, steps: list[tuple[str, int, int, str]]) -> None:
    bench.runner.run(check(bench, steps))


async def check(bench: Bench, steps: list[tuple[str, int, int, str]]) -> None:
    account, session = Account(), f"s{next(_sessions)}"
    last: tuple[Line, dict[str, str], Line] | None = None
    for number, (kind, one, two, new) in enumerate(steps):
        headers = {"Idempotency-Key": f"k{number}"}
        line = account.lines[one % len(account.lines)] if account.lines else []
        user = ("user", new)
        match kind:
            case "whole":
                request = [*line, user]
            case "truncated":
                cut = 2 * (two % (len(account.head) // 2 + 1))
                request = [*account.head[cut:], user]
            case "edited":
                cut = 2 * (two % (len(line) // 2 + 1))
                request = [*line[:cut], ("user", f"edited {new}"), *line[cut + 1 :], user]
                if request[-2][0] == "user":
                    request = request[:-1]
            case "regenerated":
                request = line[:-1] or [user]
            case "foreign":
                request = [("user", f"x{one}"), ("assistant", "never said"), user]
            case _:
                request = [user]
        expected: Line
        if kind == "from":
            turn = one % (account.turns + 1)
            headers["X-Session-From"] = str(turn)
            expected = account.upto_turn(turn) + request
        elif kind == "retried" and last is not None:
            request, headers, before = last
            count = len(bench.upstream.requests)
            answer = await bench.proxy.chat(session, *[said(*each) for each in request], headers=headers)
            assert len(bench.upstream.requests) == count
            assert answer.text == before[-1][1]
            continue
        else:
            expected = account.context(request)
        answer = await bench.proxy.chat(session, *[said(*each) for each in request], headers=headers)
        assert answer.status == 200, answer.body
        context = [(m["role"], m["content"]) for m in bench.upstream.requests[-1].json()["messages"]]
        assert context == expected, (kind, request)
        recorded = [*expected, ("assistant", answer.text)]
        account.record(recorded)
        last = request, headers, recorded
    bench.upstream.requests.clear()
