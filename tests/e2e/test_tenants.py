"""One tenant's sessions do not exist for another; no credential is kept or said."""

import asyncio
from pathlib import Path

import pytest

from tests.support.app import Remora, remora, sent
from tests.support.upstream import ScriptedUpstream


async def test_two_credentials_with_one_session_id_see_nothing_of_each_other(
    proxy: Remora, upstream: ScriptedUpstream
) -> None:
    for key in ("one", "two"):
        await proxy.chat("s", f"I am {key}", headers={"Authorization": f"Bearer {key}"})
    assert sent(upstream.requests[1]) == [("user", "I am two")]
    answer = await proxy.chat("s", "who?", headers={"Authorization": "Bearer one"})
    assert answer.headers["X-Session-Turn"] == "2"
    assert "two" not in upstream.requests[2].body.decode()


async def test_proxy_keys_are_required_and_replaced_by_the_upstreams(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    keys = (("anna", "key-a"), ("bert", "key-b"))
    async with remora(upstream.url, tmp_path, api_keys=keys, upstream_api_key="sk-upstream") as proxy:
        for session in ("s", None):
            refused = await proxy.chat(session, "x", headers={"Authorization": "Bearer wrong"})
            assert (refused.status, refused.code) == (401, "invalid_api_key")
        assert upstream.requests == []
        await proxy.chat("s", "x", headers={"Authorization": "Bearer key-a"})
        await proxy.chat(None, "x", headers={"Authorization": "Bearer key-b"})
        assert [request.all("Authorization") for request in upstream.requests] == [["Bearer sk-upstream"]] * 2
        tenants = [info.ref.tenant async for info in proxy.here.house.store.list()]
        assert tenants == ["anna"]


async def test_a_header_names_the_tenant(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, tenant="header:X-Tenant") as proxy:
        await proxy.chat("s", "x", headers={"X-Tenant": "t1"})
        assert (await proxy.chat("s", "x", headers={"X-Tenant": "t2"})).headers["X-Session-Turn"] == "1"
        refused = await proxy.chat("s", "x")
        assert (refused.status, refused.code) == (400, "invalid_header")


async def test_shared_is_for_rotating_tokens(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with remora(upstream.url, tmp_path, tenant="shared") as proxy:
        await proxy.chat("s", "x", headers={"Authorization": "Bearer one"})
        assert (await proxy.chat("s", "x", headers={"Authorization": "Bearer two"})).headers["X-Session-Turn"] == "2"


async def test_no_credential_and_no_content_in_database_wal_or_log(
    upstream: ScriptedUpstream, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "sk-very-secret-credential"
    async with remora(upstream.url, tmp_path) as proxy:
        for name in ("Authorization", "x-api-key", "api-key"):
            for stream in (False, True):
                headers = {"Authorization": "", name: secret, "Idempotency-Key": f"{name}{stream}", "Cookie": secret}
                await proxy.chat("s", "some content", headers=headers, stream=stream)
        await proxy.chat("s", "some content", headers={"x-api-key": secret, "X-Session-From": "99"})
        for path in await asyncio.to_thread(lambda: [*tmp_path.glob("remora.db*")]):
            assert secret.encode() not in await asyncio.to_thread(path.read_bytes)
    written = capfd.readouterr()
    assert '"session":"s"' in written.out
    for stream_text in (written.out, written.err):
        assert secret not in stream_text
        assert "some content" not in stream_text
