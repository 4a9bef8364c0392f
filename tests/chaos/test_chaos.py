"""Chaos and soak themselves, each for a short time: they run, inject what they say, and everything agrees."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("DIRTY_BUILD", ROOT / "build" / "release")).resolve()
LIMIT = 240.0


def command(name: str, *flags: object) -> subprocess.CompletedProcess[str]:
    """tools/NAME, to its end."""
    words = [sys.executable, ROOT / "tools" / name, "--build", BUILD, *flags]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=LIMIT)


def test_everything_agrees_after_chaos(tmp_path: pathlib.Path) -> None:
    done = command("chaos", "--minutes", 0.45, "--seed", 7, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    report, faults = figures["report"], figures["faults"]
    assert report["calls"] > 300
    assert report["outcomes"]["ok"] > report["calls"] / 2
    assert (report["lost"], report["doubled"], report["wrong"], figures["leaked"]) == (0, 0, 0, [])
    # Each kind of machinery worked: processes, operators, the faulty worker, apps, dirtyd's own deaths.
    for fault in ("kill_worker", "reload", "worker_repeat", "kill_dirtyd"):
        assert faults.get(fault, 0) > 0, faults
    assert sum(faults.values()) > 50


def test_nothing_drifts_in_a_short_soak(tmp_path: pathlib.Path) -> None:
    done = command("soak", "--minutes", 0.4, "--output", tmp_path / "soak")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing drifts" in done.stdout
    header, *samples = (tmp_path / "soak" / "soak.csv").read_text().splitlines()
    assert {"dirtyd_rss", "own_descriptors", "latency_p99", "loop_lag"} <= set(header.split(","))
    assert len(samples) >= 20
