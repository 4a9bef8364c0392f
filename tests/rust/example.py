"""The example of a client's README: the README shows the file, the file prints what the README says."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("DIRTY_BUILD", ROOT / "build" / "release")).resolve()
LIMIT = 120  # seconds for the example


def block(readme: str, fence: str) -> str:
    """The first fenced block that begins like this."""
    found = re.search(rf"^```{re.escape(fence)}\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no block ```{fence}"
    return found[1]


def check(client: pathlib.Path, fence: str, source: str, command: Sequence[object], folder: pathlib.Path) -> None:
    """Runs `command`, the example `source` of the README of `client`, against its app."""
    readme = (client / "README.md").read_text()
    assert block(readme, fence).strip() in source, "README.md shows another example than the file"
    (folder / "hello.py").write_text(block(readme, "python hello.py"))
    # Where a client looks last.
    runtime = folder / "dirty"
    daemon = subprocess.Popen(
        [BUILD / "bin" / "dirtyd", "hello:Hello", f"--runtime_dir={runtime}", f"--chdir={folder}",
         f"--python={sys.executable}"], stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    assert daemon.stderr is not None
    try:
        lines: list[str] = []
        for line in daemon.stderr:
            lines.append(line)
            if " ready: 1/1 workers" in line:
                break
        else:
            raise AssertionError("dirtyd did not start:\n" + "".join(lines))
        env = {**os.environ, "DIRTY_SOCKET": str(folder / "absent.sock"), "XDG_RUNTIME_DIR": str(folder)}
        if os.path.exists("/run/dirty/dirty.sock"):  # somebody else's
            env["DIRTY_SOCKET"] = str(runtime / "dirty.sock")
        ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == block(readme, "text")
    finally:
        daemon.terminate()
        daemon.communicate()
