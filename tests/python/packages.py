"""Packages of PyPI, installed into environments below the build directory, once.

Where that cannot be done the tests are skipped, but with CI=true they fail.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Optional, Union

import pytest

INSTALL_PATIENCE = 600.0
NO_PACKAGES = "the packages cannot be had"


def install(command: Union[str, list[Union[str, pathlib.Path]]], folder: pathlib.Path,
            env: Optional[dict[str, str]] = None) -> None:  # fmt: skip
    """Runs a command that needs the package index: for the shell, or its words."""
    __tracebackhide__ = True
    words = ["bash", "-c", command] if isinstance(command, str) else command
    ran = subprocess.run(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         timeout=INSTALL_PATIENCE, check=False)  # fmt: skip
    if ran.returncode != 0:
        message = f"{NO_PACKAGES}: {command}\n{ran.stdout[-2000:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def environment(folder: pathlib.Path, requirements: pathlib.Path) -> pathlib.Path:
    """The environment `folder` with what a file asks for, of this interpreter; made when the file is new."""
    wanted = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()
    stamp = folder / "complete"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        install([sys.executable, "-m", "venv", folder], folder.parent)
        install([folder / "bin/pip", "--disable-pip-version-check", "install", "-q", "-r", requirements], folder)
        stamp.write_text(wanted)
    return folder
