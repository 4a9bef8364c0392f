#!/usr/bin/env python3
"""Makes the package dirty-client below a build directory: package.py BUILD.

BUILD/node mirrors the checkout: client/node (installed and built there, so that the source tree stays clean),
examples/node_worker, tests/node and tests/conformance/node, with the package where all of them find it. What has not
changed is not done again; any number of these may run at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# What is taken along; of the package also what npm reads.
MIRRORED = ("client/node", "examples/node_worker", "tests/node", "tests/conformance/node")
# What is not a source.
LEFT_OUT = {"node_modules", "dist", "generated", "__pycache__"}


class Unavailable(Exception):
    """npm does not get the packages; the message is what it said."""


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files below a folder of the checkout that are its sources."""
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and not LEFT_OUT & set(path.relative_to(folder).parts)
    )


def mirror(place: pathlib.Path) -> None:
    """Copies what has changed, and removes what is gone."""
    for name in MIRRORED:
        source = ROOT / name
        kept = {path.relative_to(source) for path in files_of(source)}
        for path in files_of(place / name):
            if path.relative_to(place / name) not in kept:
                path.unlink()
        for path in kept:
            target = place / name / path
            if not target.exists() or target.read_bytes() != (source / path).read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / path, target)
    link(place / "proto", ROOT / "proto")
    package = place / "client" / "node"
    link(place / "node_modules" / "dirty-client", package)
    link(place / "node_modules" / "@grpc", package / "node_modules" / "@grpc")


def link(path: pathlib.Path, target: pathlib.Path) -> None:
    """A symbolic link at `path`."""
    if not path.is_symlink() or path.readlink() != target:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def digest(paths: list[pathlib.Path]) -> str:
    """Of the contents of files."""
    total = hashlib.sha256()
    for path in paths:
        total.update(str(path).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def unless_done(stamp: pathlib.Path, state: str, folder: pathlib.Path, command: list[str]) -> str:
    """Runs a command unless it was run for this state; what it said if it failed, else nothing."""
    if stamp.exists() and stamp.read_text() == state:
        return ""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        return f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}"
    stamp.write_text(state)
    return ""


def make(build: pathlib.Path) -> pathlib.Path:
    """BUILD/node, with the package installed and built; raises Unavailable, and exits if it does not build."""
    place = build.resolve() / "node"
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mirror(place)
        package = place / "client" / "node"
        version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
        installed = version + digest([package / "package.json", package / "package-lock.json"])
        if said := unless_done(place / "installed", installed, package, ["npm", "ci", "--prefer-offline"]):
            raise Unavailable(said)
        sources = files_of(package / "src") + sorted((ROOT / "proto").rglob("*.proto")) + [package / "tsconfig.json"]
        if said := unless_done(place / "built", installed + digest(sources), package, ["npm", "run", "build"]):
            sys.exit(said)
    return place


if __name__ == "__main__":
    try:
        print(make(pathlib.Path(sys.argv[1])))
    except Unavailable as error:
        sys.exit(str(error))
