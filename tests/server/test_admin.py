"""The second listener: alive, and ready."""

from pathlib import Path

from tests.support.app import Remora, remora


async def status(proxy: Remora, path: str) -> tuple[int, str]:
    async with proxy.http.get(proxy.admin + path) as reply:
        return reply.status, (await reply.json())["status"]


async def test_it_says_whether_it_lives_and_can_serve(tmp_path: Path) -> None:
    async with remora("echo:", tmp_path) as proxy:
        assert await status(proxy, "/healthz") == (200, "ok")
        assert await status(proxy, "/readyz") == (200, "ready")
        proxy.here.house.turnstile.stop()
        assert await status(proxy, "/readyz") == (503, "stopping")
        assert await status(proxy, "/healthz") == (200, "ok")


async def test_a_store_that_cannot_be_written_is_not_ready(tmp_path: Path) -> None:
    async with remora("echo:", tmp_path) as proxy:
        await proxy.here.house.store.close()
        code, reason = await status(proxy, "/readyz")
        assert code == 503
        assert "store" in reason


async def test_nothing_else_is_there(tmp_path: Path) -> None:
    async with remora("echo:", tmp_path) as proxy, proxy.http.get(proxy.admin + "/sessions") as reply:
        assert reply.status == 404
