"""For tests of the client: the package `dirty` of the build under test, and ways to call that must not differ."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any, Callable

import pytest
from conftest import BUILD, RUNTIME_IS_HERE, sanitizer

sys.path.insert(0, str(BUILD / "python"))

import dirty

# A sanitizer's runtime has to be there from the start.
needs_runtime = pytest.mark.skipif(
    not RUNTIME_IS_HERE, reason="the extension needs the sanitizer's runtime in this process"
)

Run = Callable[..., Any]


def run_sync(client: dirty.DirtyClient, *args: Any, **kwargs: Any) -> Any:
    """By `execute`."""
    return client.execute(*args, **kwargs)


def run_async(client: dirty.DirtyClient, *args: Any, **kwargs: Any) -> Any:
    """By `execute_async`."""
    return asyncio.run(client.execute_async(*args, **kwargs))


def run_stream(client: dirty.DirtyClient, *args: Any, **kwargs: Any) -> Any:
    """By `stream`, of one value."""
    (value,) = client.stream(*args, **kwargs)
    return value


def run_stream_async(client: dirty.DirtyClient, *args: Any, **kwargs: Any) -> Any:
    """By `stream_async`, of one value."""

    async def collect() -> Any:
        (value,) = [value async for value in client.stream_async(*args, **kwargs)]
        return value

    return asyncio.run(collect())


WAYS = [run_sync, run_async, run_stream, run_stream_async]


def python(script: str, *args: object, env: dict[str, str] | None = None, interpreter: str = sys.executable) -> str:
    """What `script` prints, in an interpreter of its own; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(BUILD / "python"), **sanitizer(), **(env or {})}
    ran = subprocess.run([interpreter, "-X", "faulthandler", "-c", script, *map(str, args)], env=environment,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    return ran.stdout
