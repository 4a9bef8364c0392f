"""Every interpreter for which there is an extension, in one dirtyd, a pool each, and as clients.

$DIRTY_PYTHONS_BUILT names them: what the build found on this machine.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import sysconfig

from client_support import needs_runtime, python
from conftest import ROOT, USES_OF_A_CLIENT, Dirtyd, pb, values_of

INTERPRETERS = [name for name in os.environ.get("DIRTY_PYTHONS_BUILT", "").split(":") if name] or [sys.executable]


def test_every_interpreter_runs_every_kind_of_call(dirtyd: Dirtyd) -> None:
    versions = [
        subprocess.run([name, "-c", "import platform; print(platform.python_version())"], check=True,
                       capture_output=True, text=True).stdout.strip()
        for name in INTERPRETERS
    ]  # fmt: skip
    pools = []
    for i, interpreter in enumerate(INTERPRETERS):
        folder = dirtyd.folder / str(i)
        folder.mkdir()
        (folder / f"calls{i}.py").write_text("from calls import *\nimport platform\n"
                                            "class Mine(Calls):\n"
                                            "    def version(self): return platform.python_version()\n")  # fmt: skip
        pools.append({"name": f"p{i}", "workers": 1, "threads": 2, "python": interpreter, "apps": [f"calls{i}:Mine"],
                      "pythonpath": [str(folder)]})  # fmt: skip
    dirtyd.ready({"pools": pools, "kill_after": "60s"})
    for i, version in enumerate(versions):
        app = f"calls{i}:Mine"
        assert dirtyd.call(app, "version") == version
        assert dirtyd.call(app, "echo", 2**80, 1.5, "é", kwargs={"x": None}) == [[2**80, 1.5, "é"], {"x": None}]
        assert dirtyd.call(app, "same", [{"$attachment": 0}], attachments=(b"abc",)) == [b"abc"]
        assert "in fail" in dirtyd.fails(app, "fail", "on purpose").traceback
        assert dirtyd.call(app, "wait", 0.01) == "waited"
        assert list(values_of(dirtyd.stream(app, "count", 3))) == [0, 1, 2]
        assert list(values_of(dirtyd.stream(app, "count_async", 3))) == [0, 1, 2]
        assert dirtyd.fails(app, "spin", 100, timeout=1).reason == pb().REASON_TIMEOUT
        assert dirtyd.fails(app, "wait", 100, timeout=1).reason == pb().REASON_TIMEOUT
        # Whatever was asked to stop has stopped when both have been waited for.
        dirtyd.wait_for_status(lambda status: not any(worker["running"] for worker in status["workers"]))
        assert sorted(dirtyd.call(app, "what_was_seen")) == [
            "CancelledError", "DirtyCancelledError", "count ended", "count_async ended"
        ]  # fmt: skip
    assert dirtyd.status()["exits"] == []


@needs_runtime
def test_every_interpreter_runs_the_client(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"apps": ["calls:Calls"], "threads": 4})
    for interpreter in INTERPRETERS:
        python(USES_OF_A_CLIENT, dirtyd.socket, interpreter=interpreter)
    dirtyd.wait_for_status(lambda status: not any(worker["running"] for worker in status["workers"]))


def find_pythons(*named: str) -> subprocess.CompletedProcess[str]:
    """What the build would find."""
    command = [sys.executable, str(ROOT / "worker" / "python" / "extension" / "find_pythons.py"), *named]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_build_finds_each_abi_once() -> None:
    found = [line.split("|") for line in find_pythons().stdout.splitlines()]
    suffixes = [suffix for _, suffix, _, _ in found]
    assert sysconfig.get_config_var("EXT_SUFFIX") in suffixes
    assert len(set(suffixes)) == len(suffixes)
    assert all((pathlib.Path(include) / "Python.h").exists() for _, _, include, _ in found)


def test_an_interpreter_that_is_named_and_does_not_fit_is_an_error(tmp_path: pathlib.Path) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\necho 'is CPython 3.8.1: CPython 3.9 or newer is needed|3.8.1|.so|/include|old'\n")
    old.chmod(0o755)
    ran = find_pythons(str(old))
    assert ran.returncode == 1
    assert ran.stderr == f"{old} is CPython 3.8.1: CPython 3.9 or newer is needed\n"
    ran = find_pythons("/nowhere/python3")
    assert ran.returncode == 1 and "No such file" in ran.stderr
