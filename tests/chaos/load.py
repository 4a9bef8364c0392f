"""The load: client processes of several kinds, each with its ledger."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import ledger
from arbiter import HERE, Arbiter, bound_to_us

# How long a call may take, as its client says.
TIMEOUT = 4.0
# Beyond it and kill_after, until its client must have an outcome. Generous: the machine is busy, and so meant to be.
SLACK = 4.0
# How long a client that is to stop may take.
STOP_TIME = TIMEOUT + SLACK + 10.0

KINDS = ["threads", "asyncio", "cpp", "grpc"]


class Fleet:
    """The client processes. Started and replaced by one thread, signalled by any."""

    def __init__(self, arbiter: Arbiter, apps: list[str], seed: int, per_second: float, kill_after: float) -> None:
        self._arbiter, self._apps, self._per_second = arbiter, apps, per_second
        self._bound = TIMEOUT + kill_after + SLACK
        self._source = random.Random(f"fleet {seed}")
        self._folder = arbiter.folder / "ledgers"
        self._folder.mkdir(exist_ok=True)
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started = 0
        # Of all that were ever started: which were killed on purpose, and when which stood still.
        self.killed: set[str] = set()
        self.pauses: list[tuple[str, float, float]] = []
        self.problems: list[str] = []

    def start(self, kind: str) -> str:
        """One more; its name. `mischief` is one that asks the apps to misbehave."""
        self._started += 1
        name = f"{kind}-{os.getpid()}-{self._started}"
        ours = {**os.environ, "PYTHONPATH": os.pathsep.join([str(self._arbiter.build / "python"), str(HERE)])}
        plain = {**os.environ, "PYTHONPATH": str(HERE), "CHAOS_MESSAGES": str(self._arbiter.messages)}
        programs: dict[str, tuple[list[object], dict[str, str]]] = {
            "threads": ([sys.executable, HERE / "client_threads.py"], ours),
            "mischief": ([sys.executable, HERE / "client_threads.py"], ours),
            "asyncio": ([sys.executable, HERE / "client_asyncio.py"], ours),
            "grpc": ([sys.executable, HERE / "client_grpc.py"], plain),
            "cpp": ([self._arbiter.build / "tests/chaos/chaos_client"], dict(os.environ)),
        }
        command, environment = programs[kind]
        per_second, at_once, apps = self._per_second, 8, self._apps
        if kind == "mischief":
            per_second, at_once, apps = 1.0, 3, [app for app in self._apps if app != "faulty"]
        flags = [self._arbiter.socket, self._folder / name, name, self._source.getrandbits(31), per_second, at_once]
        with (self._arbiter.folder / f"{name}.err").open("wb") as output:
            process = subprocess.Popen(
                bound_to_us([*command, *flags, TIMEOUT, self._bound, *apps]), stderr=output, env=environment
            )
        with self._lock:
            self._running[name] = process
        return name

    def replace(self) -> None:
        """Starts a client for each that has ended."""
        with self._lock:
            ended = [name for name, process in self._running.items() if process.poll() is not None]
            codes = {name: self._running.pop(name).returncode for name in ended}
        for name, code in codes.items():
            if name not in self.killed:
                self.problems.append(f"client {name} ended by itself with {code}: see {name}.err")
            self.start(name.partition("-")[0])

    def victim(self, source: random.Random) -> str:
        """One of those that run, but not the one that does harm. Empty: there is none."""
        with self._lock:
            names = sorted(name for name in self._running if not name.startswith("mischief"))
        return source.choice(names) if names else ""

    def kill(self, name: str) -> None:
        """Ends one as nothing can be survived."""
        self.killed.add(name)
        self._signal(name, signal.SIGKILL)

    @contextlib.contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """One stands still meanwhile."""
        begin = time.monotonic()
        self._signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(name, signal.SIGCONT)
            self.pauses.append((name, begin, time.monotonic()))

    def names(self) -> list[str]:
        """Those that run."""
        with self._lock:
            return sorted(self._running)

    def stop(self, prefix: str = "") -> None:
        """Ends those whose names begin so, once their calls have outcomes."""
        with self._lock:
            stopping = {name: process for name, process in self._running.items() if name.startswith(prefix)}
            for name in stopping:
                del self._running[name]
        for process in stopping.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIME
        for name, process in stopping.items():
            try:
                code = process.wait(max(0.0, deadline - time.monotonic()))
                if code != 0 and name not in self.killed:
                    self.problems.append(f"client {name} ended with {code}: see {name}.err")
            except subprocess.TimeoutExpired:
                self.problems.append(f"client {name} did not end: calls are open")
                process.kill()
                process.wait()

    def pids(self) -> dict[str, int]:
        """Process ids of those that run."""
        with self._lock:
            return {name: process.pid for name, process in self._running.items()}

    def accounts(self) -> list[ledger.Account]:
        """All ledgers there are."""
        return [ledger.read(path) for path in sorted(self._folder.iterdir())]

    @property
    def folder(self) -> pathlib.Path:
        """Where the ledgers are."""
        return self._folder

    def _signal(self, name: str, number: int) -> None:
        with self._lock:
            if (process := self._running.get(name)) is not None:
                process.send_signal(number)
