"""Every interpreter for which there is an extension, in one dirtyd, a pool each. $DIRTY_PYTHONS_BUILT names them."""

from __future__ import annotations

import os
import subprocess
import sys

from conftest import Dirtyd, pb, values_of

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
        assert dirtyd.fails(app, "spin", 100, timeout=0.2).reason == pb().REASON_TIMEOUT
        assert dirtyd.fails(app, "wait", 100, timeout=0.2).reason == pb().REASON_TIMEOUT
        # Whatever was asked to stop has stopped when both have been waited for.
        dirtyd.wait_for_status(lambda status: not any(worker["running"] for worker in status["workers"]))
        assert sorted(dirtyd.call(app, "what_was_seen")) == [
            "CancelledError", "DirtyCancelledError", "count ended", "count_async ended"
        ]  # fmt: skip
    assert dirtyd.status()["exits"] == []
