"""The packages' types hold, for us and for those who use them."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest
from conftest import BUILD, ROOT

# What a user's checker says of a user's code.
USER = """
import asyncio
from typing import Any
import dirty

async def view() -> Any:
    client = await dirty.get_dirty_client_async()
    async for chunk in client.stream_async("a:B", "c", timeout=1.5):
        print(chunk)
    return await client.execute_async("a:B", "c", 1, key=b"x", timeout=None)

def describe(error: dirty.DirtyError) -> str:
    return f"{error.reason} {error.app_path} {error.retry_delay}"

client: dirty.DirtyClient = dirty.get_dirty_client("/run/dirty/dirty.sock")
with client.stream("a:B", "c") as values:
    first: Any = next(values)
"""


def mypy(folder: pathlib.Path, *arguments: str | pathlib.Path) -> None:
    command = ["/usr/bin/mypy", "--strict", "--cache-dir", folder / "cache", *arguments]
    ran = subprocess.run(command, env={**os.environ, "MYPYPATH": str(BUILD / "python")}, cwd=folder,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    assert ran.returncode == 0, ran.stdout


@pytest.mark.skipif(not pathlib.Path("/usr/bin/mypy").exists(), reason="mypy (Debian: mypy) is missing")
def test_the_client_is_strict(tmp_path: pathlib.Path) -> None:
    sources = sorted((ROOT / "client/python/dirty").glob("*.py"))
    (tmp_path / "dirty").symlink_to(ROOT / "client/python/dirty")
    (tmp_path / "_dirty.pyi").symlink_to(ROOT / "worker/python/extension/_dirty.pyi")
    (tmp_path / "user.py").write_text(USER)
    assert sources
    mypy(tmp_path, "-p", "dirty", "--exclude", "v1")
    mypy(tmp_path, "user.py")
