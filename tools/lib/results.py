#!/usr/bin/env python3
"""Counts what a ctest run did: results.py BUILD_DIR. Prints the output of what failed, and last a line `PASSED FAILED`.

It reads BUILD_DIR/results: ctest.xml (ctest --output-junit) and, for each program that writes one, its own NAME.xml, so that
test cases are counted and not programs. A report of a sanitizer in BUILD_DIR/sanitizer is a failure too, whichever
process wrote it. Exit code 1 if anything failed or nothing ran.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as ET

LONGEST_OUTPUT = 20_000  # characters shown of one failing program: its end
# `#1 0x55 in Crash() ../../tests/apps/faults.cc:35`; paths are relative to the build's folder or absolute.
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
OUR_FRAME = re.compile(
    rf"^ *#\d+ .* (?:(?:\.\./)+|{re.escape(str(ROOT))}/)(?P<top>server|worker|client|tools|examples|tests)/\S+:\d+", re.MULTILINE
)


def cases_of(report: pathlib.Path) -> tuple[int, list[str]] | None:
    """Passed and failed cases of a GoogleTest program; None if it wrote no readable report (it crashed, or is not one)."""
    try:
        root = ET.parse(report).getroot()
    except (OSError, ET.ParseError):
        return None
    passed, failed = 0, []
    for case in root.iter("testcase"):
        skipped = case.find("skipped") is not None or case.get("result") in ("suppressed", "skipped")
        if skipped or case.get("status") == "notrun":
            continue
        if case.find("failure") is not None:
            failed.append(f"{case.get('classname')}.{case.get('name')}")
        else:
            passed += 1
    return passed, failed


def is_meant(report: str) -> bool:
    """Whether a crash by a signal is a test's: the first function of the project on the stack, if there is one, is in tests/.
    Some apps there crash on purpose."""
    if "DEADLYSIGNAL" not in report:
        return False
    ours = OUR_FRAME.search(report)
    return ours is None or ours["top"] == "tests"


def sanitizer_reports(folder: pathlib.Path) -> list[tuple[str, str]]:
    """What sanitizers found."""
    reports = []
    for path in sorted(folder.glob("report.*")):
        text = path.read_text(errors="replace")
        if text.strip() and not is_meant(text):
            reports.append((path.name, text))
    return reports


def main(build: pathlib.Path) -> int:
    passed, failures = 0, []
    results = build / "results"
    for test in ET.parse(results / "ctest.xml").getroot().iter("testcase"):
        name = test.get("name", "")
        bad = test.find("failure") is not None or test.get("status") == "fail"
        if not bad and test.find("skipped") is not None:
            continue
        cases = cases_of(results / f"{name}.xml")
        if cases is None:
            passed += not bad
            failed = [name] if bad else []
        else:
            passed += cases[0]
            # A program whose cases are all well may still end badly: at exit, or at its time limit.
            failed = cases[1] or ([name] if bad else [])
        if failed:
            failures += failed
            output = test.findtext("system-out") or ""
            why = test.find("failure")
            print(f"--- {name} failed ({', '.join(failed)}): {why.get('message', '') if why is not None else ''}")
            print(output[-LONGEST_OUTPUT:])
    for name, text in sanitizer_reports(build / "sanitizer"):
        failures.append(name)
        print(f"--- a sanitizer found this ({name}):\n{text[:LONGEST_OUTPUT]}")
    print(passed, len(failures))
    return 1 if failures or not passed else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
