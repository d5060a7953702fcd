"""Runs an application as users have it: a program of its own, configured by environment variables alone."""

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any

from tests.support.app import Remora

WITHIN_S = 60.0


async def run(proxy: Remora, *command: str, environment: Mapping[str, str] | None = None) -> list[Any]:
    """What the program prints, each line read as JSON. It sees nothing of this process's environment but where
    programs are, and no host but the proxy is named to it."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "OPENAI_API_KEY": "sk-client",
            "OPENAI_BASE_URL": f"{proxy.url}/v1",
            **(environment or {}),
        },
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]
