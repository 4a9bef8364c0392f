"""The Debian packages on a machine with systemd (in a container): installed, run as a service, and purged.

The tests share one machine and go in their order, as its life does.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import pytest
from containers import Podman
from support import DEPLOY, LONG, until

PACKAGES = ["dirtyd", "dirtyctl", "dirty-worker", "dirty-bench", "python3-dirty"]
ECHO = "libdirty_bench_app.so:Echo"
CONFIG = """
workers: 1
apps:
  - libdirty_bench_app.so:Echo
pools:
  - {name: python, apps: ["hello:Hello"], pythonpath: [/srv/hello]}
"""
HELLO = """
from dirty import DirtyApp
class Hello(DirtyApp):
    def greet(self, name):
        return f"hello {name}"
"""
# What installing and removing any package changes, and what systemd writes while it runs.
CHANGES = re.compile(
    r"/(proc|sys|dev|tmp|run/(?!dirty)|debs|var/(lib/(dpkg|apt|systemd)|cache|log|tmp|backups)|root|"
    r"etc/(passwd|shadow|group|gshadow|subuid|subgid|\.pwd\.lock|ld\.so\.cache|mailcap)|usr/share/(mime|python3)|.*__pycache__)"
)


DROP_IN = "/etc/systemd/system/dirtyd.service.d/test.conf"


class Machine:
    """A container that runs systemd."""

    def __init__(self, podman: Podman, image: str, debs: pathlib.Path, name: str):
        self.podman = podman
        self.name = name
        podman("run", "--detach", "--name", self.name, "--systemd", "always", "--network", "host",
               "--volume", f"{debs}:/debs:ro", image, "/lib/systemd/systemd")  # fmt: skip
        # `degraded` too: what is not ours may have failed.
        until("systemd has booted", lambda: self.run("systemctl is-system-running", check=False)[0] in (0, 1) and
              self.run("systemctl is-system-running", check=False)[1] in ("running", "degraded"))  # fmt: skip

    def run(self, command: str, user: str = "root", check: bool = True, patience: float = 60.0) -> tuple[int, str]:
        """Exit code and output of a shell command."""
        __tracebackhide__ = True
        # As a login: with all groups of the user.
        words = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "sh", "-c", command]
        words = words if user != "root" else ["sh", "-c", command]
        ran = self.podman.run("exec", self.name, *words, check=False, patience=patience)
        if check and ran.returncode != 0:
            journal = self.podman.run("exec", self.name, "journalctl", "-n", "40", "--no-pager", check=False).stdout
            pytest.fail(f"{command}: exit code {ran.returncode}\n{ran.stdout[-5000:]}\n{journal[-5000:]}")
        return ran.returncode, ran.stdout.strip()

    def says(self, command: str, user: str = "root") -> str:
        """What a command prints, which must succeed."""
        __tracebackhide__ = True
        return self.run(command, user)[1]

    def write(self, path: str, text: str) -> None:
        """Writes a file."""
        folder = path.rsplit("/", 1)[0]
        self.podman("exec", "--interactive", self.name, "sh", "-c", f"mkdir -p {folder} && cat > {path}", input=text)

    def files(self) -> set[str]:
        """All files that a package may own."""
        found = self.says(
            "find / -xdev -path /proc -prune -o -path /sys -prune -o -print; find /run/dirty* -print 2>&- || :"
        )
        return {line for line in found.splitlines() if not CHANGES.match(line)}

    def pid(self) -> int:
        """The service's main process."""
        return int(self.says("systemctl show --property MainPID --value dirtyd"))


@pytest.fixture(scope="module")
def machine(podman: Podman, systemd_image: str, debs: pathlib.Path) -> Iterator[Machine]:
    """The machine; what was on it before is in `before`."""
    machine = Machine(podman, systemd_image, debs, "machine")
    machine.says("apt-get update -qq")
    machine.before = machine.files()  # type: ignore[attr-defined]
    yield machine
    podman("rm", "--force", "--time", "0", machine.name)


def test_installing_says_who_may_call_and_how_to_start(machine: Machine) -> None:
    debs = " ".join(f"/debs/{name}_*.deb" for name in PACKAGES)
    said = machine.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {debs}",
                       patience=LONG)[1]  # fmt: skip
    assert "adduser www-data dirty" in said
    assert "systemctl enable --now dirtyd.socket dirtyd.service" in said
    assert machine.says("id -gn dirty") == "dirty"
    assert "/etc/dirty/dirty.yaml" in machine.says("dpkg-query --show --showformat '${Conffiles}' dirtyd")
    for name in ("dirtyd", "dirtyctl", "dirty-worker", "dirty-bench"):
        assert re.match(rf"{name} \d+\.\d+\.\d+", machine.says(f"{name} --version"))
    assert machine.says("python3 -c 'import dirty; print(dirty.get_dirty_client.__name__)'") == "get_dirty_client"
    # It was not started: no app is named yet.
    assert machine.run("systemctl is-active dirtyd", check=False)[1] == "inactive"


def test_the_units_are_valid_and_hardened(machine: Machine) -> None:
    for unit in ("dirtyd.service", "dirtyd.socket"):
        assert machine.says(f"systemd-analyze verify --man=no /lib/systemd/system/{unit} 2>&1") == ""
    # 10 is no protection at all, most services of Debian are above 9. Apps may need much: strict.conf is for others.
    score = machine.says("systemd-analyze security --no-pager --threshold=56 dirtyd.service | tail -n 1")
    assert re.search(r"5\.\d MEDIUM", score), score


def test_the_service_serves_who_is_in_its_group(machine: Machine) -> None:
    machine.write("/etc/dirty/dirty.yaml", CONFIG)
    machine.write("/srv/hello/hello.py", HELLO)
    machine.says("systemctl enable --now dirtyd.socket dirtyd.service")
    assert machine.says("dirtyctl health") == "SERVING"
    assert machine.says("stat --format '%U:%G %a' /run/dirty/dirty.sock") == "dirty:dirty 660"
    assert machine.says(f"stat --format %U /proc/{machine.pid()}") == "dirty"
    call = """dirtyctl call hello:Hello greet '"you"'"""
    code, said = machine.run(f"{call} --connect-timeout 100ms", "www-data", check=False)
    assert code == 3
    assert "join group dirty" in said
    machine.says("adduser --quiet www-data dirty")
    assert machine.says(call, "www-data") == '"hello you"'
    assert machine.says(f"dirtyctl call {ECHO} echo 5", "www-data") == "5"
    # Steering is for root and dirtyd's own user.
    assert machine.run("dirtyctl status --connect-timeout 100ms", "www-data", check=False)[0] == 3
    assert "workers ready: default 1/1" in machine.says("dirtyctl status")
    assert "2/2" in machine.says("systemctl show --property StatusText --value dirtyd")


def test_a_reload_goes_on_in_the_same_process(machine: Machine) -> None:
    pid = machine.pid()
    machine.says("sed -i 's/workers: 1/workers: 2/' /etc/dirty/dirty.yaml && systemctl reload dirtyd")
    until("two workers", lambda: "default 2/2" in machine.says("dirtyctl status"))
    assert machine.pid() == pid


def test_the_socket_starts_the_service_and_a_crash_does(machine: Machine) -> None:
    machine.says("systemctl stop dirtyd.service 2>&1")
    assert machine.run("systemctl is-active dirtyd.service", check=False)[1] == "inactive"
    assert machine.says(f"dirtyctl call {ECHO} echo 6", "www-data") == "6"
    # In a container with control groups v1 systemd does not see that the last process of a service is gone.
    machine.write(DROP_IN, "[Service]\nTimeoutStopSec=2s\n")
    machine.says("systemctl daemon-reload")
    pid = machine.pid()
    machine.says(f"kill -KILL {pid}")
    until("another process", lambda: machine.pid() not in (0, pid))
    assert machine.says(f"dirtyctl call {ECHO} echo 7", "www-data") == "7"


def test_apps_that_can_live_with_it_are_locked_in(machine: Machine) -> None:
    machine.write(DROP_IN, (DEPLOY / "systemd/strict.conf").read_text())
    machine.says("systemctl daemon-reload && systemctl restart dirtyd")
    assert machine.says("""dirtyctl call hello:Hello greet '"you"'""", "www-data") == '"hello you"'
    score = machine.says("systemd-analyze security --no-pager --threshold=20 dirtyd.service | tail -n 1")
    assert "OK" in score, score
    machine.says("rm -r /etc/systemd/system/dirtyd.service.d")


def test_workers_can_be_another_users(machine: Machine) -> None:
    machine.write(DROP_IN, (DEPLOY / "systemd/root.conf").read_text())
    machine.says("echo 'user: www-data' >> /etc/dirty/dirty.yaml; systemctl daemon-reload && systemctl restart dirtyd")
    assert machine.says(f"dirtyctl call {ECHO} echo 8", "www-data") == "8"
    workers = machine.says("dirtyctl status --json | grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*'").split()
    users = {machine.says(f"stat --format %U /proc/{pid}") for pid in workers}
    assert users == {"root", "www-data"}
    machine.says("rm -r /etc/systemd/system/dirtyd.service.d && systemctl daemon-reload")


def test_removing_keeps_the_configuration_and_purging_nothing(machine: Machine) -> None:
    machine.says("DEBIAN_FRONTEND=noninteractive apt-get remove -y dirtyd 2>&1")
    assert machine.run("pidof dirtyd", check=False)[0] != 0
    assert "user: www-data" in machine.says("cat /etc/dirty/dirty.yaml")
    machine.says("rm -r /srv/hello && DEBIAN_FRONTEND=noninteractive apt-get purge -y --autoremove "
                 f"{' '.join(PACKAGES)} 2>&1", )  # fmt: skip
    assert machine.files() - machine.before == set()  # type: ignore[attr-defined]
    assert machine.run("getent passwd dirty || getent group dirty", check=False)[1] == ""
    assert machine.run("systemctl cat dirtyd.service", check=False)[0] != 0


def test_lintian_finds_nothing_that_we_did_not_choose(lint: tuple[int, str]) -> None:
    assert lint == (0, "")
