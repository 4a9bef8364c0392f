"""The faults: drawn from seeded sources, injected one after the other on three threads, each noted with its time.

Hits (on processes), conditions (that hold for a while) and operations (of an operator, good and bad) overlap.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

import gauges
from arbiter import Arbiter, Problem
from load import Fleet

# Seconds: how long conditions hold and processes stand still at most.
HOLD = 2.5
# What dirtyd may use of a processor while it can accept nobody: it has the calls of those that are connected.
SPINS = 0.8


class Book:
    """Every fault with its time, as lines of JSON; and what went wrong with injecting. Thread-safe."""

    def __init__(self, path: pathlib.Path) -> None:
        self._file = path.open("w")
        self._lock = threading.Lock()
        self.counts: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []
        self.skipped: dict[str, str] = {}

    def note(self, kind: str, **details: Any) -> None:
        """One was injected, or an operation was answered."""
        with self._lock:
            self.counts[kind] += 1
            self._file.write(json.dumps({"time": round(time.monotonic(), 3), "fault": kind, **details}) + "\n")
            self._file.flush()

    def problem(self, text: str) -> None:
        """Something is wrong with the product."""
        with self._lock:
            self.problems.append(text)

    def skip(self, kind: str, why: str) -> None:
        """A kind of fault cannot be injected here."""
        with self._lock:
            self.skipped[kind] = why


class Injector(threading.Thread):
    """Injects faults of its own kinds, at random times, until told to stop."""

    def __init__(self, book: Book, source: random.Random, every: float) -> None:
        super().__init__(name=type(self).__name__)
        self.book, self.source = book, source
        self._every = every
        self.stopping = threading.Event()

    def kinds(self) -> dict[str, tuple[int, Callable[[], None]]]:
        """Names, weights and what to do."""
        raise NotImplementedError

    def run(self) -> None:
        kinds = self.kinds()
        names, weights = list(kinds), [weight for weight, _ in kinds.values()]
        while not self.stopping.wait(self.source.expovariate(1 / self._every)):
            name = self.source.choices(names, weights)[0]
            try:
                kinds[name][1]()
            except Problem as problem:
                self.book.problem(f"{name}: {problem}")
            except Exception as error:  # a bug of ours: told, and the others go on
                self.book.problem(f"{name} could not be injected: {error!r}")

    def hold(self, least: float = 0.2) -> float:
        """Waits a random time, less when told to stop; how long it was to be."""
        seconds = self.source.uniform(least, HOLD)
        self.stopping.wait(seconds)
        return round(seconds, 2)


class Hits(Injector):
    """Kills and stops workers and clients."""

    def __init__(self, book: Book, source: random.Random, every: float, arbiter: Arbiter, fleet: Fleet) -> None:
        super().__init__(book, source, every)
        self._arbiter, self._fleet = arbiter, fleet

    def kinds(self) -> dict[str, tuple[int, Callable[[], None]]]:
        return {
            "kill_worker": (4, self._kill_worker),
            "stop_worker": (3, self._stop_worker),
            "kill_client": (2, self._kill_client),
            "stop_client": (2, self._stop_client),
        }

    def _worker(self) -> tuple[int, int]:
        """A process id, and a descriptor that stands for the same process."""
        status = self._arbiter.status()
        workers = (status or {}).get("workers", [])
        if workers:
            pid = self.source.choice(workers)["pid"]
            with contextlib.suppress(OSError):
                descriptor = os.pidfd_open(pid)
                # The number may be a stranger's by now.
                if pid in gauges.processes_of(self._arbiter.folder):
                    return pid, descriptor
                os.close(descriptor)
        return 0, -1

    def _kill_worker(self) -> None:
        pid, descriptor = self._worker()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
            self.book.note("kill_worker", pid=pid)

    def _stop_worker(self) -> None:
        pid, descriptor = self._worker()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
                seconds = self.hold()
                self.book.note("stop_worker", pid=pid, seconds=seconds)
                signal.pidfd_send_signal(descriptor, signal.SIGCONT)
            os.close(descriptor)

    def _kill_client(self) -> None:
        if name := self._fleet.victim(self.source):
            self._fleet.kill(name)
            self.book.note("kill_client", client=name)

    def _stop_client(self) -> None:
        if name := self._fleet.victim(self.source):
            with self._fleet.paused(name):
                self.book.note("stop_client", client=name, seconds=self.hold())


class Conditions(Injector):
    """Takes away what dirtyd needs, for a while."""

    def __init__(self, book: Book, source: random.Random, every: float, arbiter: Arbiter, disk: bool) -> None:
        super().__init__(book, source, every)
        self._arbiter = arbiter
        self._disk = disk
        book.skip("wall_clock", "the machine's clock is everybody's; WatcherTest sets back that of a process")
        if not disk:
            book.skip("disk_full", "no small file system can be mounted here (needs root)")
        if arbiter.group is None:
            book.skip("no_pids", "no control group for pids can be made here (needs root)")

    def kinds(self) -> dict[str, tuple[int, Callable[[], None]]]:
        kinds = {"no_descriptors": (2, self._no_descriptors)}
        if self._disk:
            kinds["disk_full"] = (3, self._disk_full)
        if self._arbiter.group is not None:
            kinds["no_pids"] = (2, self._no_pids)
        return kinds

    def _disk_full(self) -> None:
        filler = self._arbiter.log_folder / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        self.book.note("disk_full", seconds=self.hold())
        filler.unlink()

    @contextlib.contextmanager
    def _limit(self, descriptors: int) -> Iterator[None]:
        pid = self._arbiter.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors, before[1]))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    def _no_descriptors(self) -> None:
        idle: list[socket.socket] = []
        try:
            with self._limit(gauges.of(self._arbiter.pid).descriptors + self.source.randrange(4)):
                for _ in range(64):
                    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    idle.append(connection)
                    connection.setblocking(False)
                    with contextlib.suppress(OSError):  # the listen queue is full, too
                        connection.connect(str(self._arbiter.socket))
                began, used = time.monotonic(), gauges.cpu_seconds(self._arbiter.pid)
                self.hold(1.0)
                seconds = time.monotonic() - began
                share = (gauges.cpu_seconds(self._arbiter.pid) - used) / seconds
                self.book.note("no_descriptors", idle=len(idle), seconds=round(seconds, 2), cpu=round(share, 2))
                if share > SPINS and seconds > 1.0:
                    self.book.problem(f"dirtyd used {share:.0%} of a processor while it had no descriptors: it spins")
        finally:
            for connection in idle:
                connection.close()

    def _no_pids(self) -> None:
        group = self._arbiter.group
        assert group is not None
        now = int((group / "pids.current").read_text())
        (group / "pids.max").write_text(str(now + self.source.randrange(3)))
        try:
            self.book.note("no_pids", limit=now, seconds=self.hold(1.0))
        finally:
            (group / "pids.max").write_text("max")


class Operations(Injector):
    """Does what operators do: well, and badly."""

    def __init__(
        self,
        book: Book,
        source: random.Random,
        every: float,
        arbiter: Arbiter,
        make_config: Callable[..., dict[str, Any]],
    ) -> None:
        super().__init__(book, source, every)
        self._arbiter = arbiter
        self._make_config = make_config

    def kinds(self) -> dict[str, tuple[int, Callable[[], None]]]:
        return {
            "reload": (3, self._reload),
            "reload_nonsense": (2, self._reload_nonsense),
            "reload_failing": (2, self._reload_failing),
            "scale": (3, self._scale),
            "restart": (2, self._restart),
            "cancel": (4, self._cancel),
            "log_level": (1, self._log_level),
            "rotate_log": (3, self._rotate),
        }

    def _expect(self, kind: str, answer: Any, codes: set[int], **details: Any) -> None:
        """Notes an answer. Exit code 3 (it cannot be reached) happens while there are no descriptors."""
        said = answer.stderr.strip().split("\n")[0][:200]
        self.book.note(kind, code=answer.returncode, said=said, **details)
        if answer.returncode not in codes | {3}:
            self.book.problem(f"{kind} was answered with {answer.returncode}: {said}")

    def _random_config(self) -> dict[str, Any]:
        workers = self.source.randint(1, 3)
        return self._make_config(
            workers=workers, max_requests=self.source.choice([0, 0, 30]), surge=self.source.choice([0, 1])
        )

    def _reload(self) -> None:
        self._arbiter.write(self._random_config())
        answer = self._arbiter.ctl("reload", "--quiet")
        self._expect("reload", answer, {0, 1})
        if "INVALID_ARGUMENT" in answer.stderr and os.strerror(errno.EMFILE) not in answer.stderr:
            self.book.problem(f"a good configuration was refused: {answer.stderr}")

    def _reload_nonsense(self) -> None:
        nonsense = self.source.choice(["apps: [", "workers: -1\napps: ['a:B']", "wrokers: 2\napps: ['a:B']", "\0\xff"])
        self._arbiter.write_text(nonsense)
        self._expect("reload_nonsense", self._arbiter.ctl("reload", "--quiet"), {1})

    def _reload_failing(self) -> None:
        config = self._random_config()
        if self.source.random() < 0.5:
            config["pools"][0]["apps"].append("no_such_module:App")
            self._arbiter.write(config)
            self._expect("reload_unknown_app", self._arbiter.ctl("reload", "--quiet"), {1})
            return
        self._arbiter.write(config)
        self._arbiter.raise_file.touch()
        try:
            self._expect("reload_raising_app", self._arbiter.ctl("reload", "--quiet"), {1})
        finally:
            self._arbiter.raise_file.unlink()

    def _scale(self) -> None:
        pool = self.source.choice(["python", "native"])
        workers = self.source.randint(1, 4)
        self._expect("scale", self._arbiter.ctl("scale", workers, "--pool", pool), {0, 1}, pool=pool, workers=workers)

    def _restart(self) -> None:
        which: list[object] = []
        if self.source.random() < 0.6 and (status := self._arbiter.status()) and status["workers"]:
            which = [self.source.choice(status["workers"])["id"]]
        self._expect("restart", self._arbiter.ctl("restart", *which), {0, 1}, worker=which)

    def _cancel(self) -> None:
        status = self._arbiter.status() or {}
        running = [call["call_id"] for worker in status.get("workers", []) for call in worker["running"]]
        if running:
            self._expect("cancel", self._arbiter.ctl("cancel", self.source.choice(running)), {0, 1})

    def _log_level(self) -> None:
        level = self.source.choice(["debug", "info", "warning", "error"])
        self._expect("log_level", self._arbiter.ctl("log-level", level), {0, 1}, level=level)

    def _rotate(self) -> None:
        """As logrotate does. What was rotated is kept for whoever wants to know what happened."""
        log = self._arbiter.log_folder / "dirtyd.log"
        rotated = log.with_suffix(".1")
        with contextlib.suppress(FileNotFoundError):
            log.rename(rotated)
        self._expect("rotate_log", self._arbiter.ctl("reopen-logs"), {0, 1})
        if rotated.exists():
            with rotated.open("rb") as old, (self._arbiter.folder / "dirtyd.log").open("ab") as kept:
                shutil.copyfileobj(old, kept)
            rotated.unlink()
