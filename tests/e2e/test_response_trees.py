"""Random trees of responses and random conversations give the contexts that a plain account of the API gives."""

import asyncio
import itertools
import json
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.app import Remora, remora, sent
from tests.support.upstream import ScriptedUpstream, model

EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "30"))
_tenants = itertools.count()
Line = tuple[tuple[str, str], ...]


@dataclass
class Tree:
    """Every response that was made: (its id, the line that it ends; None for one that can not be gone on from)."""

    made: list[tuple[str, Line]] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    conversation: str = ""
    items: list[tuple[str, str, str]] = field(default_factory=list)
    """(id, role, text) of the conversation's items, oldest first."""


kinds = st.sampled_from(
    ["root", "child", "child", "child", "unstored", "delete", "talk", "talk", "add", "remove", "streamed"]
)
steps = st.lists(st.tuples(kinds, st.integers(0, 30)), min_size=1, max_size=16)


class User:
    def __init__(self, proxy: Remora, upstream: ScriptedUpstream) -> None:
        self.proxy, self.upstream = proxy, upstream
        self.headers = {"Authorization": f"Bearer sk-{next(_tenants)}", "Content-Type": "application/json"}
        self.tree = Tree()
        self.said = 0

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body) if body is not None else None
        async with self.proxy.http.request(method, self.proxy.url + path, data=data, headers=self.headers) as reply:
            return reply.status, await reply.text()

    async def make(self, before: Line, *, stream: bool = False, **members: Any) -> tuple[str, Line]:
        """A new response, whose context must be `before` and the new message."""
        self.said += 1
        text = f"said {self.said}"
        status, raw = await self.call(
            "POST", "/v1/responses", {"model": "gpt-4o", "input": text, "stream": stream, **members}
        )
        assert status == 200, raw
        assert tuple(sent(self.upstream.requests[-1])) == (*before, ("user", text))
        if stream:
            events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: ")]
            made = events[-1]["response"]
        else:
            made = json.loads(raw)
        assert made["status"] == "completed"
        return made["id"], (*before, ("user", text), ("assistant", made["output_text"]))

    async def step(self, kind: str, number: int) -> None:
        tree = self.tree
        left = [each for each in tree.made if each[0] not in tree.gone]
        match kind:
            case "root":
                tree.made.append(await self.make(()))
            case "streamed":
                id, line = left[number % len(left)] if left else ("", ())
                more: dict[str, Any] = {"previous_response_id": id} if id else {}
                tree.made.append(await self.make(line, stream=True, **more))
            case "child" if left:
                id, line = left[number % len(left)]
                tree.made.append(await self.make(line, previous_response_id=id))
            case "unstored":
                id, line = left[number % len(left)] if left else ("", ())
                more = {"previous_response_id": id} if id else {}
                id, _ = await self.make(line, store=False, **more)
                tree.gone.add(id)
            case "delete" if left:
                id, _ = left[number % len(left)]
                assert (await self.call("DELETE", f"/v1/responses/{id}"))[0] == 200
                tree.gone.add(id)
            case "talk":
                await self._talk()
            case "add":
                await self._converse()
                self.said += 1
                item = {"role": "user", "content": f"added {self.said}"}
                status, raw = await self.call("POST", f"/v1/conversations/{tree.conversation}/items", {"items": [item]})
                assert status == 200, raw
                tree.items.append((json.loads(raw)["data"][0]["id"], "user", item["content"]))
            case "remove" if tree.items:
                id, _, _ = tree.items.pop(number % len(tree.items))
                status, raw = await self.call("DELETE", f"/v1/conversations/{tree.conversation}/items/{id}")
                assert status == 200, raw

    async def _converse(self) -> None:
        if not self.tree.conversation:
            self.tree.conversation = json.loads((await self.call("POST", "/v1/conversations", {}))[1])["id"]

    async def _talk(self) -> None:
        await self._converse()
        tree = self.tree
        before = tuple((role, text) for _, role, text in tree.items)
        _, line = await self.make(before, conversation=tree.conversation)
        _, raw = await self.call("GET", f"/v1/conversations/{tree.conversation}/items?limit=2")
        told, asked = json.loads(raw)["data"]
        tree.items += [(asked["id"], *line[-2]), (told["id"], *line[-1])]

    async def check(self) -> None:
        """At the end: what is there is there, and what is gone is gone."""
        for id, line in self.tree.made:
            status, raw = await self.call("GET", f"/v1/responses/{id}")
            if id in self.tree.gone:
                assert status == 404
                status, raw = await self.call(
                    "POST", "/v1/responses", {"model": "m", "input": "x", "previous_response_id": id}
                )
                assert status == 400
            else:
                assert json.loads(raw)["output_text"] == line[-1][1]
        if self.tree.conversation:
            _, raw = await self.call("GET", f"/v1/conversations/{self.tree.conversation}/items?limit=100&order=asc")
            assert [each["id"] for each in json.loads(raw)["data"]] == [id for id, _, _ in self.tree.items]


def test_contexts_are_those_of_the_account(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def open_all() -> tuple[ScriptedUpstream, Remora]:
            upstream = await stack.enter_async_context(ScriptedUpstream(model()))
            return upstream, await stack.enter_async_context(remora(upstream.url, tmp_path, watched=False))

        upstream, proxy = runner.run(open_all())

        @settings(max_examples=EXAMPLES, deadline=None)
        @given(steps)
        def law(todo: list[tuple[str, int]]) -> None:
            async def play() -> None:
                user = User(proxy, upstream)
                for kind, number in todo:
                    await user.step(kind, number)
                await user.check()

            runner.run(play())

        try:
            law()
        finally:
            runner.run(stack.aclose())
