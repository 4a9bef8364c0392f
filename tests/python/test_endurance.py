"""Ten thousand calls leave nothing behind, neither in the worker nor in the client.

With a sanitizer it looks for leaks, and that the search finds one is tested too. Without, memory must stay flat.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import BUILD, SANITIZED, Dirtyd, sanitizer

APP = "calls:Calls"
COUNT = 10_000
HERE = pathlib.Path(__file__).resolve().parent


# The search itself fails now and then, where a thread ends at that moment: then nothing has been found out.
NO_SEARCH = "LeakSanitizer has encountered a fatal error"


def reports(attempt: Callable[[pathlib.Path], None], folder: pathlib.Path) -> list[str]:
    """What a sanitizer reported, to the path that `attempt` gets; it is tried again where the search failed."""
    for number in range(4):
        (folder / str(number)).mkdir()
        attempt(folder / str(number) / "report")
        found = [report.read_text() for report in (folder / str(number)).glob("report.*")]
        if not any(NO_SEARCH in report for report in found):
            return found
    raise AssertionError("\n".join(found))


def run(log: pathlib.Path, *arguments: object) -> str:
    """What a Python of its own, with the client, prints; a sanitizer looks for leaks at its end."""
    env = {**os.environ, "PYTHONPATH": str(BUILD / "python"), **sanitizer(leaks=True, log=log)}
    command = [sys.executable, "-X", "faulthandler", *map(str, arguments)]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    # 99: there is a report.
    assert ran.returncode in (0, 99 if SANITIZED else 0), ran.stdout + ran.stderr
    return ran.stdout


def test_ten_thousand_calls_leave_nothing_behind(tmp_path: pathlib.Path) -> None:
    def attempt(log: pathlib.Path) -> None:
        env = sanitizer(leaks=True, log=log.with_name("report.worker"))
        dirtyd = Dirtyd(log.parent).ready(
            {"apps": [APP], "threads": 4, "timeout": "120s", "kill_after": "60s", "env": env}
        )
        try:
            told.update(json.loads(run(log, HERE / "endurance_client.py", dirtyd.socket, COUNT)))
            dirtyd.wait_for_status(lambda status: not status["workers"][0]["running"])
            assert dirtyd.status()["exits"] == []
        finally:
            assert dirtyd.end_process() == 0

    told: dict[str, Any] = {}
    assert reports(attempt, tmp_path) == []
    outcomes = told["outcomes"]
    assert sum(outcomes.values()) == COUNT
    assert set(outcomes) <= {"ok", "cancelled", "APP_ERROR", "INVALID_REQUEST", "TIMEOUT", "QUEUE_TIMEOUT"}
    assert min(outcomes.get(kind, 0) for kind in ("ok", "cancelled", "APP_ERROR", "INVALID_REQUEST")) > COUNT / 20
    print(json.dumps(told))
    if not SANITIZED:  # whose quarantine grows
        for side in ("client", "worker"):
            (blocks, kilobytes), (blocks_after, kilobytes_after) = told[side]
            assert blocks_after - blocks < COUNT / 5, told
            assert kilobytes_after - kilobytes < 4 * 1024, told


LEAK = "import ctypes; ctypes.CDLL(None).malloc(4321)"


@pytest.mark.skipif(not SANITIZED, reason="there is no sanitizer in this build")
@pytest.mark.parametrize("side", ["client", "worker"])
def test_the_search_finds_a_leak(tmp_path: pathlib.Path, side: str) -> None:
    def attempt(log: pathlib.Path) -> None:
        if side == "client":
            run(log, "-c", f"import dirty; dirty._extension.load(); {LEAK}")
            return
        (log.parent / "leaks.py").write_text(
            f"from dirty import DirtyApp\nclass Leaks(DirtyApp):\n    def now(self):\n        {LEAK}\n"
        )
        dirtyd = Dirtyd(log.parent).ready(
            {"apps": ["leaks:Leaks"], "chdir": str(log.parent), "env": sanitizer(leaks=True, log=log)}
        )
        dirtyd.call("leaks:Leaks", "now")
        assert dirtyd.end_process() == 0

    (report,) = reports(attempt, tmp_path)
    assert "4321 byte(s) leaked in 1 allocation(s)" in report
