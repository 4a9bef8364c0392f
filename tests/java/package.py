#!/usr/bin/env python3
"""Builds the Java client and its tests below a build directory: package.py BUILD.

BUILD/java/classes has the client, BUILD/java/dependency the libraries that it needs. What has not changed is not done
again; any number of these may run at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CLIENT = ROOT / "client" / "java"
LIMIT = 600  # seconds


def maven(out: pathlib.Path, *goals: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Maven: by itself if it has fetched everything before, else with its registry."""
    ran = None
    for mode in (["--offline"], []):
        ran = subprocess.run(
            ["mvn", *mode, "--batch-mode", "--no-transfer-progress", "-Dstyle.color=never", f"-Doutput={out}",
             "--file", str(CLIENT / "pom.xml"), *goals], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=LIMIT
        )  # fmt: skip
        if ran.returncode == 0 or "offline" not in ran.stdout:
            break
    assert ran is not None
    return ran


def state() -> str:
    """Of all that the build reads."""
    folders = (CLIENT / "src", ROOT / "proto", ROOT / "tests" / "java" / "src")
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    total = hashlib.sha256()
    for path in [CLIENT / "pom.xml", *paths]:
        total.update(str(path).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def make(build: pathlib.Path) -> tuple[pathlib.Path, str]:
    """BUILD/java, and what Maven said if it failed."""
    out = build.resolve() / "java"
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, now = out / "built", state()
        if stamp.exists() and stamp.read_text() == now:
            return out, ""
        ran = maven(out, "test-compile", "dependency:copy-dependencies")
        if ran.returncode != 0:
            return out, ran.stdout
        stamp.write_text(now)
    return out, ""


if __name__ == "__main__":
    place, failure = make(pathlib.Path(sys.argv[1]))
    if failure:
        sys.exit(failure)
    print(place)
