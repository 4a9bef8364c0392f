"""The Rust client: its own tests, its README's example, and what rustfmt and clippy say.

Without cargo, or the packages that it has to fetch, the tests are skipped, but with CI=true they fail.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import example
import pytest

CLIENT = example.ROOT / "client" / "rust"
OUT = example.BUILD / "rust"
NAMES = re.findall(r"^async fn (\w+)\(\) \{", (example.ROOT / "tests/rust/client.rs").read_text(), re.MULTILINE)
LIMIT = 900  # seconds; a first build takes one to two minutes
CANNOT_BE_HAD = re.compile(r"failed to (download|fetch|get)|Could(n't| not) resolve|attempting to make an HTTP request")


def missing(why: str) -> None:
    """Skips, or fails where everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def cargo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs cargo in the client's folder; all that is built goes below the build directory."""
    if not shutil.which("cargo"):
        missing("the packages cannot be had: there is no cargo on PATH (rustup installs it)")
    where = {"CARGO_TARGET_DIR": str(OUT), "DIRTY_BUILD": str(example.BUILD), "DIRTY_PYTHON": sys.executable}
    env = {**os.environ, **where, "CARGO_TERM_COLOR": "never", "RUST_BACKTRACE": "0"}
    ran = subprocess.run(["cargo", *arguments], cwd=CLIENT, env=env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)  # fmt: skip
    if ran.returncode != 0 and CANNOT_BE_HAD.search(ran.stdout):
        missing(f"the packages cannot be had: cargo says\n{ran.stdout[-2000:]}")
    return ran


@functools.lru_cache(maxsize=None)
def results() -> tuple[dict[str, str], str]:
    """How each test of client.rs ended, and all that was printed."""
    ran = cargo("test", "--locked", "--test", "client")
    return dict(re.findall(r"^test (\w+) \.\.\. (\w+)", ran.stdout, re.MULTILINE)), ran.stdout


@pytest.mark.parametrize("name", NAMES)
def test_client(name: str) -> None:
    ended, output = results()
    if name not in ended:
        pytest.fail(f"it did not run:\n{output[-5000:]}")
    said = re.search(rf"^---- {name} stdout ----\n(.*?)(?=^---- |^failures:)", output, re.MULTILINE | re.DOTALL)
    assert ended[name] == "ok", said[1] if said else output[-5000:]


def test_readme(tmp_path: pathlib.Path) -> None:
    built = cargo("build", "--locked", "--example", "hello")
    assert built.returncode == 0, built.stdout
    source = (CLIENT / "examples" / "hello.rs").read_text()
    example.check(CLIENT, "rust,no_run", source, [OUT / "debug" / "examples" / "hello"], tmp_path)


def test_clippy() -> None:
    ran = cargo("clippy", "--locked", "--all-targets", "--", "--deny", "warnings")
    assert ran.returncode == 0, ran.stdout


def test_rustfmt() -> None:
    ran = cargo("fmt", "--check")
    assert ran.returncode == 0, ran.stdout
