"""The Java client: its own tests, and its README's example.

Without a JDK and Maven, or the packages that it has to fetch, the tests are skipped, but with CI=true they fail.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import shutil
import sys
import xml.etree.ElementTree as ET

import package
import pytest

sys.path.insert(0, str(package.ROOT / "tests" / "rust"))
import example

SOURCE = package.ROOT / "tests/java/src/dev/dirty/client/DirtyClientTest.java"
NAMES = re.findall(r"@Test\n +void (\w+)\(", SOURCE.read_text())
CANNOT_BE_HAD = re.compile(r"Could not transfer|Unknown host|Connection refused|Network is unreachable")


def missing(why: str) -> None:
    """Skips, or fails where everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@functools.lru_cache(maxsize=None)
def built() -> tuple[pathlib.Path, str]:
    """The folder with the classes, and why it could not be made."""
    return package.make(example.BUILD)


def place() -> pathlib.Path:
    """That folder."""
    if absent := [tool for tool in ("java", "javac", "mvn") if not shutil.which(tool)]:
        missing(f"the packages cannot be had: no {', no '.join(absent)} on PATH (apt install openjdk-17-jdk maven)")
    out, failure = built()
    if failure and CANNOT_BE_HAD.search(failure):
        missing(f"the packages cannot be had: Maven says\n{failure[-2000:]}")
    assert not failure, failure[-10000:]
    return out


@functools.lru_cache(maxsize=None)
def results(out: pathlib.Path) -> tuple[dict[str, str], str]:
    """How each test ended: an empty text, or what failed; and all that was printed."""
    shutil.rmtree(out / "surefire-reports", ignore_errors=True)
    where = {"DIRTY_ROOT": str(package.ROOT), "DIRTY_BUILD": str(example.BUILD), "DIRTY_PYTHON": sys.executable}
    ran = package.maven(out, "test", env={**os.environ, **where})
    ended: dict[str, str] = {}
    for report in (out / "surefire-reports").glob("TEST-*.xml"):
        for case in ET.parse(report).iter("testcase"):
            bad = [part.text or "" for kind in ("failure", "error") for part in case.findall(kind)]
            ended[case.get("name", "").partition("(")[0]] = "\n".join(bad)
    return ended, ran.stdout


@pytest.mark.parametrize("name", NAMES)
def test_client(name: str) -> None:
    ended, output = results(place())
    if name not in ended:
        pytest.fail(f"it did not run:\n{output[-5000:]}")
    assert not ended[name], ended[name]


def test_readme(tmp_path: pathlib.Path) -> None:
    out = place()
    source = package.CLIENT / "examples" / "Hello.java"
    command = ["java", "-cp", f"{out}/classes:{out}/dependency/*", str(source)]
    example.check(package.CLIENT, "java", source.read_text(), command, tmp_path)
