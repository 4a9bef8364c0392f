"""Ten thousand calls leave nothing behind, neither in the worker nor in the client.

With a sanitizer it looks for leaks, and that the search finds one is tested too. Without, memory must stay flat.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import BUILD, SANITIZED, Dirtyd, sanitizer

APP = "calls:Calls"
COUNT = 10_000
HERE = pathlib.Path(__file__).resolve().parent


def run(*arguments: object, log: pathlib.Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a Python of its own, with the client; a sanitizer looks for leaks at its end."""
    env = {**os.environ, "PYTHONPATH": str(BUILD / "python"), **sanitizer(leaks=True, log=log)}
    command = [sys.executable, "-X", "faulthandler", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)


def test_ten_thousand_calls_leave_nothing_behind(dirtyd: Dirtyd) -> None:
    dirtyd.ready({"apps": [APP], "threads": 4, "timeout": "120s", "kill_after": "60s", "env": sanitizer(leaks=True)})
    ran = run(HERE / "endurance_client.py", dirtyd.socket, COUNT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(ran.stdout)
    outcomes = told["outcomes"]
    assert sum(outcomes.values()) == COUNT
    assert set(outcomes) <= {"ok", "cancelled", "APP_ERROR", "INVALID_REQUEST", "TIMEOUT", "QUEUE_TIMEOUT"}
    assert min(outcomes.get(kind, 0) for kind in ("ok", "cancelled", "APP_ERROR", "INVALID_REQUEST")) > COUNT / 20
    print(json.dumps(told))
    dirtyd.wait_for_status(lambda status: not status["workers"][0]["running"])
    assert dirtyd.status()["exits"] == []
    if not SANITIZED:  # whose quarantine grows
        for side in ("client", "worker"):
            (blocks, kilobytes), (blocks_after, kilobytes_after) = told[side]
            assert blocks_after - blocks < COUNT / 5, told
            assert kilobytes_after - kilobytes < 4 * 1024, told


LEAK = "import ctypes; ctypes.CDLL(None).malloc(4321)"


@pytest.mark.skipif(not SANITIZED, reason="there is no sanitizer in this build")
def test_the_search_finds_a_leak_of_the_client(tmp_path: pathlib.Path) -> None:
    ran = run("-c", f"import sys, dirty; dirty._extension.load(); {LEAK}", log=tmp_path / "report")
    (report,) = tmp_path.glob("report.*")
    assert ran.returncode == 99 and "4321 byte(s)" in report.read_text()


@pytest.mark.skipif(not SANITIZED, reason="there is no sanitizer in this build")
def test_the_search_finds_a_leak_of_the_worker(dirtyd: Dirtyd, tmp_path: pathlib.Path) -> None:
    (tmp_path / "leaks.py").write_text(
        f"from dirty import DirtyApp\nclass Leaks(DirtyApp):\n    def now(self):\n        {LEAK}\n"
    )
    dirtyd.ready({"apps": ["leaks:Leaks"], "chdir": str(tmp_path),
                  "env": sanitizer(leaks=True, log=tmp_path / "report")})  # fmt: skip
    dirtyd.call("leaks:Leaks", "now")
    assert dirtyd.end_process() == 0
    assert "exited with 99" in dirtyd.log()
    dirtyd.process = None
    (report,) = tmp_path.glob("report.*")
    assert "4321 byte(s)" in report.read_text()
