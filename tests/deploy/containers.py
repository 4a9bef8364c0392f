"""podman, with images, containers and settings of its own below CACHE; and the images that the tests use."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import subprocess

import pytest
from support import BUILD, CACHE, DEPLOY, LONG, ROOT, fetch, made_once, missing, program, run, wheels

BASE = "docker.io/library/debian:bookworm-slim"
# A small machine has no more to give; runc and files need neither systemd nor its bus.
SETTINGS = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def mirror() -> str:
    """Where this machine's apt gets Debian from."""
    files = [pathlib.Path("/etc/apt/sources.list"), *sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*"))]
    for file in files:
        text = file.read_text(errors="replace") if file.is_file() else ""
        # `deb [options] URI bookworm main`, or a stanza with URIs: and Suites:.
        for stanza in re.split(r"\n\s*\n", text):
            uri = re.search(r"^URIs:\s*(\S+)", stanza, re.M)
            if uri and re.search(r"^Suites:.*\bbookworm\b", stanza, re.M):
                return uri[1]
        line = re.search(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+bookworm\s+main\b", text, re.M)
        if line:
            return line[1]
    return missing("a mirror of Debian 12", "apt's sources name none")


class Podman:
    """One for all tests. Everything that it starts is gone at the end; images stay, for the next time."""

    def __init__(self) -> None:
        self.program = program("podman", "podman catatonit runc")
        program("runc")
        program("catatonit")
        if os.geteuid() != 0:
            missing("root", "containers are run as root here")
        CACHE.mkdir(parents=True, exist_ok=True)
        settings = CACHE / "containers.conf"
        settings.write_text(SETTINGS)
        # What must not outlive a restart of the machine.
        state = pathlib.Path("/run/dirty-deploy-" + hashlib.sha256(str(CACHE).encode()).hexdigest()[:12])
        self.environment = {**os.environ, "CONTAINERS_CONF": str(settings)}
        self.command = [self.program, "--root", str(CACHE / "storage"), "--runroot", str(state / "root"),
                        "--tmpdir", str(state / "tmp"), "--log-level", "fatal"]  # fmt: skip
        # For programs that run podman themselves.
        self.wrapper = CACHE / "podman"
        self.wrapper.write_text("#!/bin/sh\n" + f'CONTAINERS_CONF="{settings}" exec {" ".join(self.command)} "$@"\n')
        self.wrapper.chmod(0o755)
        self.clean()

    def __call__(self, *words: str | pathlib.Path, **options: object) -> str:
        """What a command of podman prints."""
        return self.run(*words, **options).stdout.strip()

    def run(self, *words: str | pathlib.Path, **options: object) -> subprocess.CompletedProcess[str]:
        """Runs a command of podman."""
        __tracebackhide__ = True
        return run(*self.command, *words, env=self.environment, **options)

    def clean(self) -> None:
        """Removes containers, pods and volumes, and images that a newer one replaced some time ago."""
        self("pod", "rm", "--force", "--all")
        self("rm", "--force", "--all", "--time", "0")
        self("volume", "prune", "--force")
        self("image", "prune", "--force", "--filter", "until=12h")

    def state(self, name: str) -> dict[str, object]:
        """A container's state."""
        return json.loads(self("inspect", name))[0]["State"]

    def import_base(self) -> None:
        """Debian slim, made with debootstrap: no registry is needed."""
        if self.run("image", "exists", BASE, check=False).returncode == 0:
            return
        debootstrap, uri = program("debootstrap"), mirror()

        def make(folder: pathlib.Path) -> None:
            root = folder / "root"
            fetch("Debian's base system", debootstrap, "--variant=minbase", "bookworm", root, uri, folder=folder)
            (root / "etc/apt/sources.list").write_text(f"deb {uri} bookworm main\n")
            # As slim images are: no documentation, no lists, no archives.
            (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(
                "".join(f"path-exclude /usr/share/{name}/*\n" for name in ("doc", "man", "info", "locale"))
            )
            for name in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists"):
                run("find", root / name, "-mindepth", "1", "-delete")
            run("tar", "-C", root, "-cf", folder / "base.tar", ".", patience=LONG)
            run("rm", "-rf", root)

        archive = made_once(CACHE / "base", uri, make) / "base.tar"
        self("import", "--change", 'CMD ["bash"]', archive, BASE, patience=LONG)

    def check(self) -> None:
        """Whether containers can run here at all."""
        ran = self.run("run", "--rm", "--network", "host", BASE, "true", check=False)
        if ran.returncode != 0:
            # Nobody can install that, CI neither.
            pytest.skip(f"a kernel that lets containers run is missing; podman said:\n{ran.stdout[-3000:]}")


def packages() -> pathlib.Path:
    """The folder with the Debian packages of the build under test."""
    program("dpkg-shlibdeps", "dpkg-dev")
    program("file")
    run("cmake", "--build", BUILD, "--target", "deb", patience=LONG)
    return BUILD / "deb"


def lint(debs: pathlib.Path) -> tuple[int, str]:
    """What lintian says of the packages, but for what we chose: its exit code and its findings."""
    program("lintian")
    # No maintainer's mailbox and no bug of Debian's; gRPC and what it needs are linked statically, on purpose.
    chosen = "bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs,embedded-library"
    said = run("lintian", "--allow-root", "--suppress-tags", chosen, "--fail-on", "error,warning",
               *sorted(debs.glob("*.deb")), check=False, patience=LONG)  # fmt: skip
    return said.returncode, "\n".join(line for line in said.stdout.splitlines() if re.match("[EW]: ", line))


def build_dirtyd(podman: Podman, debs: pathlib.Path) -> str:
    """deploy/Dockerfile, with our packages in place of its stage that builds them."""
    podman("build", "--format", "docker", "--network", "host", "--build-context", f"packages={debs}",
           "-f", DEPLOY / "Dockerfile", "-t", "localhost/dirtyd", ROOT, patience=LONG)  # fmt: skip
    return "localhost/dirtyd"


def build_example(podman: Podman) -> str:
    """deploy/example/Dockerfile. pip finds its packages in a folder of this machine."""
    pip_conf = CACHE / "pip.conf"
    pip_conf.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    podman("build", "--format", "docker", "--network", "host", "--volume", f"{wheels()}:/wheels:ro",
           "--volume", f"{pip_conf}:/etc/pip.conf:ro", "-f", DEPLOY / "example/Dockerfile",
           "-t", "localhost/thumbnails", ROOT, patience=LONG)  # fmt: skip
    return "localhost/thumbnails"


def build_systemd(podman: Podman) -> str:
    """Debian with systemd, to boot and to install our packages in."""
    file = CACHE / "Dockerfile.systemd"
    file.write_text(f"FROM {BASE}\nRUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "
                    "--no-install-recommends systemd adduser python3\n")  # fmt: skip
    empty = CACHE / "empty"
    empty.mkdir(exist_ok=True)
    podman("build", "--format", "docker", "--network", "host", "-f", file, "-t", "localhost/systemd", empty,
           patience=LONG)  # fmt: skip
    return "localhost/systemd"
