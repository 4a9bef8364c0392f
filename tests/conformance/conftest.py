"""Prints the table language x vector at the end."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

from languages import LANGUAGES

# By column (language-transport-app), then vector.
_verdicts: dict[str, dict[str, str]] = {}
_NAMES = "|".join(each.name for each in LANGUAGES)
_CASE = re.compile(rf"test_vector\[((?:{_NAMES})-[a-z-]*?(?:native|python))-(\w+)\]")


def pytest_runtest_logreport(report: Any) -> None:
    found = _CASE.search(report.nodeid)
    if found and (report.when == "call" or report.outcome != "passed"):
        mark = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}[report.outcome]
        _verdicts.setdefault(found[1], {})[found[2]] = mark


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A row for each vector, a column for each client, transport and app."""
    if not _verdicts:
        return
    known = json.loads((pathlib.Path(__file__).parent / "vectors.json").read_text())
    vectors = [vector["name"] for vector in known if any(vector["name"] in column for column in _verdicts.values())]
    width = max(map(len, vectors))
    terminalreporter.section("language x vector (XX: failed, ??: skipped, -: the client lacks what it needs)")
    columns = list(_verdicts)
    for i, column in enumerate(columns):
        terminalreporter.line(f"{'   ' * i}{' ' * width} {column}")
    for vector in vectors:
        cells = [{"ok": "ok", "FAILED": "XX", "skipped": "??"}.get(_verdicts[c].get(vector, ""), " -") for c in columns]
        terminalreporter.line(f"{vector:<{width}} {' '.join(cells)}")
    for column in columns:
        marks = list(_verdicts[column].values())
        terminalreporter.line(f"{column}: {marks.count('ok')} ok, {marks.count('FAILED')} failed, "
                              f"{marks.count('skipped')} skipped, {len(vectors) - len(marks)} not for it")  # fmt: skip
