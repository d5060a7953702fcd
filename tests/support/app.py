"""The whole product in this process, between a scripted upstream and real clients."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from blockbuster import blockbuster_ctx

from proxy.app import Running, running
from proxy.exchange.lines import KEEP_S
from proxy.policy import Policies
from proxy.settings import Settings
from tests.support.upstream import Received

Json = dict[str, Any]


def said(role: str, content: str) -> Json:
    return {"role": role, "content": content}


class Remora:
    """A running proxy and an HTTP client for it."""

    def __init__(self, here: Running, http: aiohttp.ClientSession) -> None:
        self.here = here
        self.http = http
        self.host, self.port = here.listen
        self.url = f"http://{self.host}:{self.port}"
        self.admin = f"http://{here.admin[0]}:{here.admin[1]}"

    async def chat(
        self, session: str | None, *messages: str | Json, headers: Mapping[str, str] | None = None, **members: object
    ) -> "Answer":
        """Posts messages (a str is a user's) to /v1/chat/completions under a session header."""
        body = {
            "model": "gpt-4o",
            "messages": [said("user", m) if isinstance(m, str) else m for m in messages],
            **members,
        }
        named = {} if session is None else {"X-Session-Id": session}
        return await self.post("/v1/chat/completions", json.dumps(body).encode(), {**named, **(headers or {})})

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> "Answer":
        sent = {"Content-Type": "application/json", "Authorization": "Bearer sk-client", **(headers or {})}
        async with self.http.post(self.url + path, data=body, headers=sent) as reply:
            return Answer(reply.status, reply.headers.copy(), await reply.read())


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The content of a plain completion."""
        return str(self.json()["choices"][0]["message"]["content"])

    @property
    def code(self) -> str:
        """Of an error that the proxy made."""
        code = str(self.json()["error"]["code"])
        assert self.headers["X-Remora-Error"] == code
        return code


@asynccontextmanager
async def remora(
    upstream: str,
    folder: Path,
    policy: str = "",
    *,
    watched: bool = True,
    shared: bool = False,
    keep_s: float = KEEP_S,
    **settings: Any,
) -> AsyncIterator[Remora]:
    """`policy`: the text of default.toml. `settings`: members of Settings. `watched` is for one test at a time: what
    pytest itself does between tests may block. `shared`: as one of several workers.
    `keep_s`: see `House`."""
    policies = folder / "policies"
    policies.mkdir(exist_ok=True)
    if policy:
        (policies / "default.toml").write_text(policy)
    made = Settings(
        upstream=upstream,
        **{
            "listen": ("127.0.0.1", 0),
            "admin": ("127.0.0.1", 0),
            "store": f"sqlite:///{folder / 'remora.db'}",
            "stop_timeout_s": 5.0,
            **settings,
        },
    )
    async with (
        running(made, Policies.load(str(policies)), shared=shared, keep_s=keep_s) as here,
        aiohttp.ClientSession() as http,
    ):
        if not watched:
            yield Remora(here, http)
            return
        # from here on a blocking call of the product in the event loop fails the test
        with blockbuster_ctx("proxy"):
            yield Remora(here, http)


def sent(request: Received) -> list[tuple[str, str]]:
    """(role, content) of the messages that the upstream was sent."""
    return [(message["role"], message.get("content")) for message in request.json()["messages"]]
