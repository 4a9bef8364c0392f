#!/usr/bin/env python3
"""Runs the tests of the Node client and of the worker in JavaScript: run.py BUILD [FILE ...].

The report is BUILD/results/node_test.xml. What is missing here (node, npm, protoc, the packages) is a skip that says
so, but a failure with CI=true.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import package

OLDEST = 18


def missing() -> str:
    """What is not here; empty: all is."""
    absent = [tool for tool in ("node", "npm", "protoc") if not shutil.which(tool)]
    if absent:
        return f"no {' and no '.join(absent)} on PATH"
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    if int(version.strip("v\n").split(".")[0]) < OLDEST:
        return f"node is {version.strip()}; these tests need {OLDEST}"
    return ""


def skip(why: str) -> int:
    """The exit code for what cannot be run here. ctest takes the word SKIPPED for a skip, whatever the code."""
    needed = os.environ.get("CI") == "true"
    print(f"{'FAILED' if needed else 'SKIPPED'}: tests of the Node client: {why}")
    return 1 if needed else 0


def main(build: pathlib.Path, files: list[str]) -> int:
    build = build.resolve()
    if why := missing():
        return skip(f"{why}: install Node.js with npm")
    try:
        place = package.make(build)
    except package.Unavailable as error:
        return skip(f"the packages cannot be had:\n{error}")
    lock = (package.ROOT / "client/node/package-lock.json").read_text()
    if '"resolved"' in lock:
        print("client/node/package-lock.json has addresses: make it with client/node/.npmrc beside it")
        return 1
    if subprocess.run(["npm", "run", "--silent", "check"], cwd=place / "client" / "node", check=False).returncode != 0:
        return 1
    report = build / "results" / "node_test.xml"
    report.parent.mkdir(exist_ok=True)
    tests = place / "tests" / "node"
    environment = {
        **os.environ,
        "DIRTY_ROOT": str(package.ROOT),
        "DIRTY_BUILD": str(build),
        "DIRTY_PYTHON": sys.executable,
    }
    reporters = ["--test-reporter=spec", "--test-reporter-destination=stdout"]
    reporters += ["--test-reporter=junit", f"--test-reporter-destination={report}"]
    found = files or sorted(path.name for path in tests.glob("*.test.mjs"))
    return subprocess.run(["node", "--test", *reporters, *found], cwd=tests, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
