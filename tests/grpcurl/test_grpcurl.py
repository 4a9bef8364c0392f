"""docs/grpcurl.md with the real grpcurl: every command, and what it prints.

grpcurl is installed with Go below the build directory, once. Where that cannot be done, the tests are skipped, but with
CI=true they fail.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("DIRTY_BUILD", ROOT / "build" / "release")).resolve()

sys.path.insert(0, str(ROOT / "tests" / "docs"))
import docs_commands as docs

GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"
DOCUMENT = ROOT / "docs" / "grpcurl.md"
INSTALL_LIMIT = 600  # seconds


@pytest.fixture(scope="session")
def grpcurl() -> pathlib.Path:
    """The folder that it is in."""
    folder = BUILD / "tests" / "grpcurl" / GRPCURL.rpartition("@")[2]
    if (folder / "grpcurl").exists():
        return folder
    why = "no go on PATH"
    if shutil.which("go"):
        done = subprocess.run(["go", "install", GRPCURL], env={**os.environ, "GOBIN": str(folder)}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_LIMIT)  # fmt: skip
        if done.returncode == 0:
            return folder
        why = f"go install {GRPCURL} failed: {done.stdout.strip()[-500:]}"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    return pytest.skip(f"grpcurl cannot be had: {why}")


def test_the_page_does_what_it_says(grpcurl: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{grpcurl}:{os.environ['PATH']}")
    wrong = docs.check(DOCUMENT, ROOT, BUILD)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "what",
    [" list", " describe ", "Arbiter/Execute ", "Arbiter/ExecuteStream", "Admin/Status", "Admin/Reload", "Health/Check",
     "Health/Watch", "attachments", "kwargs", '"@type"'],
)  # fmt: skip
def test_the_page_shows(what: str) -> None:
    shown = "\n".join(
        "\n".join([step.text, *(step.expected or [])])
        for step in docs.parse(DOCUMENT.read_text())
        if isinstance(step, docs.Command)
    )
    assert what in shown + " "


@pytest.mark.parametrize("spelling", ["-unix {}", "unix://{}"])
def test_both_spellings_of_a_socket(grpcurl: pathlib.Path, spelling: str) -> None:
    with tempfile.TemporaryDirectory(prefix="dirty-grpcurl-") as folder:
        app = f"{BUILD}/tests/apps/libfaults.so:Echo"
        daemon = subprocess.Popen(
            [BUILD / "bin/dirtyd", app, "--runtime_dir", folder], stderr=subprocess.PIPE, text=True
        )
        try:
            assert any(" ready: " in line for line in daemon.stderr or ())
            socket = spelling.format(f"{folder}/dirty.sock").split()
            listed = subprocess.run(
                [grpcurl / "grpcurl", "-plaintext", *socket, "list"], capture_output=True, text=True
            )
            assert "dirty.v1.Arbiter\n" in listed.stdout, listed.stderr
        finally:
            daemon.terminate()
            daemon.communicate(timeout=60)
