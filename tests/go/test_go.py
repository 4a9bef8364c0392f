"""The Go client: its own tests under the race detector, one case each; layout, lint, and the generated code.

Without Go, or without the modules, the tests are skipped, but with CI=true they fail.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("DIRTY_BUILD", ROOT / "build" / "release")).resolve()
MODULES = [ROOT / "client/go", ROOT / "tests/conformance/go", ROOT / "examples/go_thumbnails"]
OUT = BUILD / "tests" / "go"
LIMIT = 600  # seconds for one command: the first build compiles gRPC

sys.path.insert(0, str(ROOT / "tests" / "docs"))
import docs_commands as docs


def run(*command: object, folder: pathlib.Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command and what it printed."""
    return subprocess.run([str(word) for word in command], cwd=folder, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=LIMIT, env={**os.environ, "DIRTY_BUILD": str(BUILD)})  # fmt: skip


@functools.cache
def missing() -> str:
    """What keeps the tests from running here; empty if nothing does."""
    if not shutil.which("go"):
        return "no go on PATH"
    for module in MODULES:
        done = run("go", "mod", "download", folder=module)
        if done.returncode != 0:
            return f"the modules of {module.relative_to(ROOT)}: {done.stdout.strip()[-500:]}"
    return ""


@pytest.fixture(autouse=True)
def go() -> None:
    """Go, with what the modules need."""
    if missing():
        if os.environ.get("CI") == "true":
            pytest.fail(missing())
        pytest.skip(f"Go cannot be had: {missing()}")


@functools.cache
def outcomes() -> dict[str, tuple[str, str]]:
    """Of each test of the client: PASS, FAIL or SKIP, and what it printed. An empty name: of all together."""
    OUT.mkdir(parents=True, exist_ok=True)
    # Race reports make a test fail. Built and run apart: the tests' names come from the run.
    built = run("go", "test", "-race", "-c", "-o", OUT / "client.test", ".", folder=MODULES[0])
    if built.returncode != 0:
        return {"": ("FAIL", built.stdout)}
    done = run(OUT / "client.test", "-test.v", "-test.timeout=300s", folder=MODULES[0])
    found = {"": ("PASS" if done.returncode == 0 else "FAIL", done.stdout[-10000:])}
    for name, text in re.findall(r"^=== RUN   (\w+)\n(.*?(?=^=== RUN|\Z))", done.stdout, re.M | re.S):
        verdict = re.search(rf"^--- (PASS|FAIL|SKIP): {name} ", text, re.M)
        found[name] = (verdict[1] if verdict else "FAIL", text)
    return found


def names() -> Iterator[str]:
    for file in sorted(MODULES[0].glob("*_test.go")):
        yield from re.findall(r"^func ((?:Test|Example)\w*)\(", file.read_text(), re.M)


@pytest.mark.parametrize("name", ["", *names()], ids=lambda name: name or "all")
def test_client(name: str) -> None:
    found = outcomes()
    verdict, text = found.get(name, ("FAIL", "it did not run\n" + found[""][1]))
    if verdict == "SKIP" and os.environ.get("CI") != "true":
        pytest.skip(text)
    assert verdict == "PASS", text


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_layout_and_lint(module: pathlib.Path) -> None:
    assert run("gofmt", "-l", module).stdout == ""
    vetted = run("go", "vet", "./...", folder=module)
    assert vetted.returncode == 0, vetted.stdout
    tidy = run("go", "mod", "tidy", "-diff", folder=module)
    assert tidy.returncode == 0, tidy.stdout


def test_the_generated_code_is_that_of_the_protos(tmp_path: pathlib.Path) -> None:
    done = run(ROOT / "tools/generate_go", tmp_path)
    assert done.returncode == 0, done.stdout

    def text(file: pathlib.Path) -> str:
        return re.sub(r"^// .*\bprotoc  .*\n", "", file.read_text(), flags=re.M)  # any protoc will do

    ours = MODULES[0] / "dirtyv1"
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in ours.iterdir()}
    stale = [file.name for file in sorted(tmp_path.iterdir()) if text(file) != text(ours / file.name)]
    assert not stale, f"run tools/generate_go: {stale}"


def test_the_readme_does_what_it_says() -> None:
    wrong = docs.check(MODULES[0] / "README.md", ROOT, BUILD)
    assert not wrong, "\n".join(wrong)


def started(command: str, folder: pathlib.Path, expected: list[str]) -> subprocess.Popen[str]:
    """A server in the background, in a process group of its own, that has said what is expected."""
    process = subprocess.Popen(["bash", "-c", command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, start_new_session=True)  # fmt: skip
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if docs.matches([*expected, "..."], said):
            return process
    raise AssertionError(f"{command}\nended:\n{''.join(said)}")


def test_the_example_does_what_its_readme_says(tmp_path: pathlib.Path) -> None:
    for entry in ROOT.iterdir():
        if entry.name not in ("build", ".git"):
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "release").symlink_to(BUILD)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="dirty-go-") as run_folder:
        text = (MODULES[2] / "README.md").read_text()
        text = text.replace("/tmp/go-thumbnails", run_folder).replace(":8000", f":{port}")
        steps = [step for step in docs.parse(text) if isinstance(step, docs.Command)]
        servers = []
        try:
            for step in steps:
                if step is not steps[-1]:
                    servers.append(started(step.text, tmp_path, step.expected or []))
            done = run("bash", "-c", steps[-1].text, folder=tmp_path)
            assert docs.matches(steps[-1].expected or [], done.stdout.splitlines()), done.stdout
            assert (tmp_path / "small.jpg").read_bytes()[:2] == b"\xff\xd8"
            no_picture = run("curl", "-s", "--data", "text", "-w", "%{http_code}", f"localhost:{port}/thumbnail")
            assert no_picture.stdout.endswith("422"), no_picture.stdout
            servers[0].terminate()
            servers[0].communicate(timeout=60)
            gone = run("curl", "-s", "--data", "text", "-w", "%{http_code}", f"localhost:{port}/thumbnail")
            assert gone.stdout.endswith("503"), gone.stdout
        finally:
            for server in servers:
                if server.poll() is None:
                    os.killpg(server.pid, signal.SIGTERM)
                    server.communicate(timeout=60)
