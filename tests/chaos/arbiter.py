"""A dirtyd of one's own, in a folder of its own, with the apps of this folder."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Optional

import gauges

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# How long one command of an operator may take: a reload waits for the apps' starts.
COMMAND_TIME = 60.0
# How often what nothing tells is looked at.
LOOK = 0.1
PIDS = pathlib.Path("/sys/fs/cgroup/pids")


class Problem(Exception):
    """Something did not become as it has to."""


def wait_for(holds: Any, seconds: float, what: str) -> Any:
    """What `holds()` gives once that is true.

    Raises:
        Problem: It is not in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise Problem(f"{what}: not within {seconds:g} s")
        time.sleep(LOOK)
    return found


def bound_to_us(command: list[Any]) -> list[str]:
    """The command as a process that ends with this one, whatever ends it. To be started by the main thread."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]


class Arbiter:
    """Its folder, its configuration and its process."""

    def __init__(self, build: pathlib.Path, folder: pathlib.Path, seed: int) -> None:
        self.build, self.folder = build, folder
        self.socket = folder / "run" / "dirty.sock"
        self.log_folder = folder / "log"
        self.log_folder.mkdir()
        self.raise_file, self.faulty_file = folder / "raise", folder / "faulty"
        self.executed, self.worker_faults = folder / "executed", folder / "worker_faults"
        self.messages = folder / "messages"
        self.environment = {
            "CHAOS_EXECUTED": str(self.executed),
            "CHAOS_RAISE": str(self.raise_file),
            "CHAOS_FAULTY": str(self.faulty_file),
            "CHAOS_FAULTS": str(self.worker_faults),
            "CHAOS_MESSAGES": str(self.messages),
            "CHAOS_SEED": str(seed),
        }
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.group: Optional[pathlib.Path] = None

    def python_pool(self, **more: Any) -> dict[str, Any]:
        """The pool of the Python app."""
        app = {"app": "mixed_app:Mixed", "name": "python"}
        return {"name": "python", "python": sys.executable, "pythonpath": [str(HERE)], "apps": [app], **more}

    def native_pool(self, **more: Any) -> dict[str, Any]:
        """The pool of the native app."""
        app = {"app": f"{self.build}/tests/chaos/libmixed.so:Mixed", "name": "native"}
        return {"name": "native", "apps": [app], **more}

    def faulty_pool(self, **more: Any) -> dict[str, Any]:
        """The pool of the worker that keeps few rules."""
        app = {"app": "faulty_worker:Faulty", "name": "faulty"}
        command = [sys.executable, str(HERE / "faulty_worker.py")]
        return {"name": "faulty", "runtime": "exec", "command": command, "apps": [app], **more}

    def write(self, config: dict[str, Any]) -> None:
        """Makes it the configuration: of the next start, or of the next reload."""
        places = {"runtime_dir": str(self.folder / "run"), "log_file": str(self.log_folder / "dirtyd.log")}
        self.write_text(json.dumps({**places, "env": self.environment, **config}))

    def write_text(self, text: str) -> None:
        """The same of a text that may be no configuration. Replaced as a whole: nobody reads half of it."""
        (self.folder / "new.yaml").write_text(text)
        (self.folder / "new.yaml").rename(self.folder / "dirty.yaml")

    def start(self) -> None:
        """Starts it; returns at once."""
        command: list[Any] = [self.build / "bin/dirtyd", "--config", self.folder / "dirty.yaml"]
        if self.group is not None:
            command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', self.group / "cgroup.procs", *command]
        with (self.folder / "stderr").open("ab") as output:
            self.process = subprocess.Popen(
                bound_to_us(command), cwd=self.folder, stderr=output, stdin=subprocess.DEVNULL
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def ctl(self, *words: object) -> subprocess.CompletedProcess[str]:
        """A command of an operator.

        Raises:
            Problem: It was not answered.
        """
        command = [str(self.build / "bin/dirtyctl"), "--admin_socket", str(self.folder / "run/admin.sock")]
        try:
            return subprocess.run(
                [*command, *map(str, words)], capture_output=True, text=True, check=False, timeout=COMMAND_TIME
            )
        except subprocess.TimeoutExpired:
            raise Problem(f"dirtyctl {' '.join(map(str, words))}: no answer within {COMMAND_TIME:g} s") from None

    def status(self) -> Optional[dict[str, Any]]:
        """What it says of itself; None if it cannot be reached now."""
        answer = self.ctl("status", "--json")
        status: dict[str, Any] = json.loads(answer.stdout) if answer.returncode == 0 else {}
        return status or None

    def check_alive(self) -> None:
        """Does nothing.

        Raises:
            Problem: dirtyd has ended.
        """
        assert self.process is not None
        if self.process.poll() is not None:
            raise Problem(f"dirtyd ended with {self.process.returncode}: see stderr and dirtyd.log")

    def is_ready(self) -> bool:
        """Whether every desired worker is ready, with every app of its pool, and no other is there.

        Raises:
            Problem: dirtyd has ended.
        """
        self.check_alive()
        if (status := self.status()) is None:
            return False
        desired = sum(pool["desired_workers"] for pool in status["pools"])
        workers = status["workers"]
        return (
            status["state"] == "RUNNING"
            and len(workers) == desired
            and all(worker["state"] == "READY" and worker["apps"] for worker in workers)
            and all(app["state"] == "READY" for app in status["apps"])
        )

    def wait_until_ready(self, seconds: float) -> float:
        """How long that took from now.

        Raises:
            Problem: It took longer than that.
        """
        begin = time.monotonic()
        wait_for(self.is_ready, seconds, "every desired worker is ready")
        return time.monotonic() - begin

    def stop(self, seconds: float) -> int:
        """Ends it gracefully; its exit code.

        Raises:
            Problem: It does not end in time; then it is killed.
        """
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Problem(f"dirtyd did not end within {seconds:g} s of SIGTERM") from None

    def keep_log(self) -> None:
        """Moves what is in the log's folder beside it: the folder may be a file system that goes."""
        for log in sorted(self.log_folder.glob("dirtyd.*")):
            with log.open("rb") as old, (self.folder / "dirtyd.log").open("ab") as kept:
                shutil.copyfileobj(old, kept)
            log.unlink()

    def kill(self) -> None:
        """Ends it as nothing can be survived."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def clear(self) -> None:
        """Ends it and all that came of it, also what outlives a worker whose arbiter was killed: its children."""
        self.kill()
        for pid in gauges.processes_of(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: str) -> Iterator[str]:
    """A file system of this size on the folder; gives why there is none, empty if there is."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        yield mounted.stderr.strip()
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


@contextlib.contextmanager
def pids_group() -> Iterator[Optional[pathlib.Path]]:
    """A control group that limits processes (version 1 or 2); None if none can be made."""
    unified = pathlib.Path("/sys/fs/cgroup")
    parent = PIDS if PIDS.is_dir() else unified
    group = parent / f"dirty-chaos-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        yield group if (group / "pids.max").exists() else None
    finally:
        with contextlib.suppress(Problem):
            wait_for(lambda: not (group / "cgroup.procs").read_text(), 10, "an empty control group")
        with contextlib.suppress(OSError):
            group.rmdir()


def positive(text: str) -> float:
    """An argument: how long something lasts."""
    if not (number := float(text)) > 0:
        raise ValueError
    return number


def missing(build: pathlib.Path) -> str:
    """What is not built or installed of what is needed; empty if all is there."""
    programs = ["bin/dirtyd", "bin/dirtyctl", "bin/dirty-worker", "tests/chaos/chaos_client", "tests/chaos/libmixed.so",
                "python/dirty/__init__.py"]  # fmt: skip
    absent = [tool for tool in ("protoc", "setpriv") if not shutil.which(tool)]
    if unbuilt := [name for name in programs if not (build / name).exists()]:
        absent.append(f"{', '.join(unbuilt)} in {build} (cmake --build {build} --target chaos_programs makes them)")
    return ", ".join(absent)
