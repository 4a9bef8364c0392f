"""The commands of docs/deploy.md do what is written there: each section on what it is about."""

from __future__ import annotations

import pathlib
import re
import sys

import pytest
from containers import Podman
from support import LONG, ROOT, run
from test_machine import Machine

sys.path.insert(0, str(ROOT / "tests/docs"))
import docs_commands

PAGE = ROOT / "docs/deploy.md"


def section(title: str) -> list[docs_commands.Command | docs_commands.File]:
    """The commands and files below a heading."""
    [text] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.S | re.M)
    found = docs_commands.parse(text)
    assert found
    return found


def compare(command: docs_commands.Command, said: str) -> None:
    """What a command printed must be what the page shows."""
    lines = said.splitlines()
    # A page shows nothing where nothing of interest is printed: builds, and the like, end with `...`.
    assert command.expected is None or docs_commands.matches(command.expected, lines), f"$ {command.text}\n{said}"


def test_paths_and_links_exist() -> None:
    assert docs_commands.missing_paths(PAGE.read_text(), ROOT, PAGE.parent) == []
    for path in re.findall(r"deploy/[\w./-]+", PAGE.read_text()):
        assert (ROOT / path.rstrip(".")).exists(), path


@pytest.fixture(scope="module")
def machine(podman: Podman, systemd_image: str, debs: pathlib.Path):
    """A fresh one, where the packages are."""
    machine = Machine(podman, systemd_image, debs, "documented")
    machine.says("apt-get update -qq")
    yield machine
    podman("rm", "--force", "--time", "0", machine.name)


def test_packages_and_systemd(machine: Machine, debs: pathlib.Path) -> None:
    build, listing, *rest = section("Debian packages") + section("systemd")
    assert build.text == "cmake --build build/release --target deb"  # the fixture did
    compare(listing, "\n".join(sorted(path.name for path in debs.iterdir())))
    for step in rest:
        if isinstance(step, docs_commands.File):
            machine.write(step.name, step.text)
        else:
            compare(
                step,
                machine.run(f"cd /debs; export DEBIAN_FRONTEND=noninteractive\n{step.text} 2>&1", patience=LONG)[1],
            )


def test_a_container(podman: Podman, example_image: str) -> None:
    steps = section("A container")
    assert [step.text.split(" -t ")[1] for step in steps[:2]] == ["dirtyd .", "thumbnails ."]  # the fixtures did
    for step in steps[2:]:
        if step.text.startswith("podman-compose"):
            continue  # test_container.py
        text = re.sub(r"^podman ", f"{podman.wrapper} ", step.text)
        compare(step, run("bash", "-c", text).stdout)
    podman("rm", "--force", "dirtyd")


def test_kubernetes(node: pathlib.Path) -> None:
    for step in section("Kubernetes"):
        compare(step, run("bash", "-c", f"PATH={node}/bin:$PATH\n{step.text}", cwd=ROOT, stderr=None).stdout)
