"""Soak: mixed load at a moderate rate for hours, with what operators do now and then; does anything drift?

Samples of memory, descriptors, threads, latency and the event loop's lag go to a CSV and a plot; the growth of each is
judged against a bound, and everything is reconciled as after chaos. tools/soak is the command.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import json
import pathlib
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Callable

import drift
import gauges
import load
import messages
from arbiter import ROOT, Arbiter, Problem, missing, positive, wait_for
from chaos import START, STOP, counters_of, left_over, say
from drift import Bound
from faults import Book, Hits, Operations
from load import Fleet
from reconcile import Report, reconcile

EVERY = 5.0  # seconds between two samples; less in a run of few minutes
SAMPLES = 60  # so many at least
OPERATION_EVERY = 15.0  # seconds between two operations, on average; as often an hour as in a minute of work
CALLS_PER_SECOND = 12.0  # of each of the clients
KILL_AFTER = 5.0
MAX_REQUESTS = 500
APPS = ["python", "native"]
TIMES_NEED = 300.0  # seconds of a run: in less, a moment in which the machine is busy is most of a third
# Share of the run that is warming up: memory and caches grow to what they need.
WARM_UP = 0.25
MIB = 1 << 20
# What dirtyd has open for each worker: its link, its pidfd, its two outputs. Operators change the number of workers.
FOR_A_WORKER = 4

# What is judged. Absolute: what chance moves; an hour: what would matter after weeks.
BOUNDS = {
    "dirtyd_rss": Bound("MiB", absolute=4, relative=0.05, an_hour=0.5),
    "own_descriptors": Bound("", absolute=3),
    "dirtyd_threads": Bound("", absolute=2),
    "worker_rss": Bound("MiB", absolute=6, relative=0.1, an_hour=1),
    "worker_descriptors": Bound("", absolute=3),
    "worker_threads": Bound("", absolute=3),
    "latency_p50": Bound("ms", absolute=5, relative=0.5),
    "latency_p99": Bound("ms", absolute=50, relative=1.0),
    "loop_lag": Bound("ms", absolute=2, relative=1.0),
}


class Recycling(Operations):
    """What operators do on good days."""

    def kinds(self) -> dict[str, tuple[int, Callable[[], None]]]:
        names = {"reload": 2, "scale": 2, "restart": 1, "rotate_log": 1}
        return {name: (weight, super(Recycling, self).kinds()[name][1]) for name, weight in names.items()}


class Deaths(Hits):
    """A worker dies now and then."""

    def kinds(self) -> dict[str, tuple[int, Callable[[], None]]]:
        return {"kill_worker": (1, super().kinds()["kill_worker"][1])}


def config(arbiter: Arbiter) -> dict[str, Any]:
    """Of a dirtyd as people run it: mostly defaults."""
    limits = {"timeout": 30, "queue_timeout": 10, "kill_after": KILL_AFTER, "restart": {"initial_backoff": 0.1}}
    pools = [arbiter.python_pool(workers=2, threads=2), arbiter.native_pool(workers=2, threads=2)]
    return {**limits, "max_requests": MAX_REQUESTS, "max_requests_jitter": MAX_REQUESTS // 4, "pools": pools}


class Latencies:
    """How long calls took that ended since the last look, from the clients' ledgers."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._read: dict[pathlib.Path, int] = {}
        self._open: dict[tuple[str, str], float] = {}

    def look(self) -> list[float]:
        """Seconds, of each that succeeded."""
        took = []
        for path in self._folder.iterdir():
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.decode().splitlines():
                what, number, *words = line.split(" ")
                if what == "S":
                    self._open[path.name, number] = float(words[0])
                elif what == "E" and (sent := self._open.pop((path.name, number), None)) and words[1] == "ok":
                    took.append(float(words[0]) - sent)
        return took


class LoopLag:
    """How late the event loop was since the last look, from dirtyd's metrics."""

    def __init__(self, arbiter: Arbiter) -> None:
        self._arbiter = arbiter
        self._before = (0.0, 0.0)

    def look(self) -> float:
        """Milliseconds on average."""
        said = self._arbiter.ctl("metrics").stdout
        now = tuple(
            float(re.findall(rf"^dirty_loop_lag_seconds_{name} (\S+)", said, re.M)[0]) for name in ("sum", "count")
        )
        total, count = now[0] - self._before[0], now[1] - self._before[1]
        self._before = (now[0], now[1])
        return 1000 * total / count if count > 0 else 0.0


class Sampler:
    """Takes samples."""

    def __init__(self, arbiter: Arbiter, fleet: Fleet) -> None:
        self._arbiter = arbiter
        self._latencies = Latencies(fleet.folder)
        self._lag = LoopLag(arbiter)
        self._begin = self._before = time.monotonic()

    def take(self) -> dict[str, float]:
        """What is now. Of workers: the mean of those that are ready."""
        now = time.monotonic()
        took = sorted(self._latencies.look())
        status = self._arbiter.status() or {}
        dirtyd = gauges.of(self._arbiter.pid)
        workers = [gauges.of(worker["pid"]) for worker in status.get("workers", []) if worker["state"] == "READY"]
        workers = [worker for worker in workers if worker.rss] or [gauges.Gauges()]
        sample = {"time": now - self._begin, "calls_per_second": len(took) / max(0.001, now - self._before)}
        self._before = now
        for name, of in [("dirtyd", [dirtyd]), ("worker", workers)]:
            sample[f"{name}_rss"] = statistics.mean(each.rss for each in of) / MIB
            sample[f"{name}_pss"] = statistics.mean(each.pss for each in of) / MIB
            sample[f"{name}_descriptors"] = statistics.mean(each.descriptors for each in of)
            sample[f"{name}_threads"] = statistics.mean(each.threads for each in of)
        sample["workers"] = len(status.get("workers", []))
        sample["own_descriptors"] = dirtyd.descriptors - FOR_A_WORKER * sample["workers"]
        sample["latency_p50"] = 1000 * took[len(took) // 2] if took else 0.0
        sample["latency_p99"] = 1000 * took[len(took) * 99 // 100] if took else 0.0
        sample["loop_lag"] = self._lag.look()
        return sample


@dataclasses.dataclass
class Result:
    """What a run gave."""

    samples: list[dict[str, float]]
    marks: list[tuple[float, str]]
    drifts: dict[str, drift.Drift]
    report: Report
    problems: list[str]

    def everything_wrong(self) -> list[str]:
        """All problems."""
        grown = [
            f"{name} grew from {each.first:.1f} to {each.last:.1f}, by more than {each.allowed:.1f} {BOUNDS[name].unit}"
            for name, each in self.drifts.items()
            if not each.holds
        ]
        return [*grown, *self.report.problems, *self.problems]


def judged(samples: list[dict[str, float]]) -> dict[str, drift.Drift]:
    """The drift of all that is judged, after warming up: of a short run, no times."""
    warm = [sample for sample in samples if sample["time"] >= samples[-1]["time"] * WARM_UP]
    times = [sample["time"] for sample in warm]
    bounds = {name: of for name, of in BOUNDS.items() if of.unit != "ms" or samples[-1]["time"] > TIMES_NEED}
    return {name: drift.of(times, [sample[name] for sample in warm], bound) for name, bound in bounds.items()}


def run(build: pathlib.Path, folder: pathlib.Path, seconds: float, seed: int) -> Result:
    """A whole run, in a folder that exists and is empty."""
    arbiter = Arbiter(build, folder, seed)
    messages.generate(ROOT / "proto", arbiter.messages)
    book = Book(folder / "operations.jsonl")
    with contextlib.ExitStack() as stack:
        stack.callback(arbiter.keep_log)
        stack.callback(arbiter.clear)
        arbiter.write(config(arbiter))
        arbiter.start()
        arbiter.wait_until_ready(START)
        fleet = Fleet(arbiter, APPS, seed, CALLS_PER_SECOND, KILL_AFTER)
        for kind in load.KINDS:
            fleet.start(kind)
        every = OPERATION_EVERY * min(1.0, seconds / 600)
        operations = [
            Recycling(book, random.Random(f"operations {seed}"), every, arbiter, lambda **_: config(arbiter)),
            Deaths(book, random.Random(f"deaths {seed}"), 4 * every, arbiter, fleet),
        ]
        for operation in operations:
            operation.start()
        say(f"load for {seconds / 60:.1f} min")
        sampler = Sampler(arbiter, fleet)
        begin = time.monotonic()
        samples = []
        pause = min(EVERY, seconds / SAMPLES)
        try:
            while (passed := time.monotonic() - begin) < seconds:
                time.sleep(pause - passed % pause)
                samples.append(sampler.take())
        finally:
            for operation in operations:
                operation.stopping.set()
            for operation in operations:
                operation.join()
        fleet.stop()
        report = reconcile(
            fleet.accounts(), frozenset(), (), arbiter.executed.read_text().split(), counters=counters_of(arbiter)
        )
        problems = [*book.problems, *fleet.problems]
        arbiter.write(config(arbiter))
        if (code := arbiter.ctl("reload", "--quiet").returncode) != 0:
            problems.append(f"the last reload ended with {code}")
        wait_for(arbiter.is_ready, START, "ready at the end")
        if (code := arbiter.stop(STOP)) != 0:
            problems.append(f"dirtyd ended with {code}")
        problems += left_over(arbiter)
    lines = (folder / "operations.jsonl").read_text().splitlines()
    marks = [(each["time"] - begin, each["fault"]) for each in map(json.loads, lines)]
    return Result(samples, marks, judged(samples), report, problems)


def table(result: Result, seed: int) -> str:
    """The figures, for people."""
    report, samples = result.report, result.samples
    rate = statistics.mean(sample["calls_per_second"] for sample in samples)
    lines = [
        f"seed {seed}, {samples[-1]['time'] / 60:.1f} min, {len(samples)} samples, the first {WARM_UP:.0%} are warming up",
        f"{report.calls} calls ({rate:.0f} a second), {len(result.marks)} operations; "
        + ", ".join(f"{name} {number}" for name, number in sorted(report.outcomes.items())),
        f"lost {report.lost}, doubled {report.doubled}, late {report.late}, wrong {report.wrong}",
        "",
        f"{'':20}{'first third':>12}{'last third':>12}{'an hour':>10}{'growth':>9}{'allowed':>9}",
    ]
    for name, each in result.drifts.items():
        lines.append(
            f"{name:20}{each.first:12.1f}{each.last:12.1f}{each.slope:+10.1f}{each.last - each.first:+9.1f}"
            f"{each.allowed:9.1f} {BOUNDS[name].unit:4}{'' if each.holds else ' DRIFTS'}"
        )
    wrong = result.everything_wrong()
    lines += ["", *(f"PROBLEM: {problem}" for problem in wrong)]
    lines.append(f"{len(wrong)} problems" if wrong else "nothing drifts, everything agrees")
    return "\n".join(lines)


def write(result: Result, text: str, output: pathlib.Path) -> None:
    """The samples, the table and the plot."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / "soak.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(result.samples[0]))
        writer.writeheader()
        writer.writerows({name: round(value, 4) for name, value in sample.items()} for sample in result.samples)
    (output / "soak.txt").write_text(text + "\n")
    times = [sample["time"] for sample in result.samples]

    def series(*names: str) -> dict[str, Sequence[float]]:
        return {name: [sample[name] for sample in result.samples] for name in names}

    panels = {
        "memory, MiB": series("dirtyd_rss", "dirtyd_pss", "worker_rss", "worker_pss"),
        "descriptors and threads": series("own_descriptors", "worker_descriptors", "dirtyd_threads", "worker_threads"),
        "latency, ms": series("latency_p50", "latency_p99"),
        "lag of the event loop, ms": series("loop_lag"),
        "calls a second": series("calls_per_second"),
    }
    try:
        drift.plot(times, panels, result.marks, times[-1] * WARM_UP, output / "soak.png")
    except ImportError:
        say("no plot: there is no matplotlib (python3-matplotlib)")


def main(words: Sequence[str]) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("--hours", type=positive, help="how long")
    parser.add_argument("--minutes", type=positive, help="how long, added to the hours [20, if neither is given]")
    parser.add_argument("--seed", type=int, default=1, help="of payloads and operations [1]")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "soak", help="a folder [build/soak]")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release", help="[build/release]")
    flags = parser.parse_args(words)
    if absent := missing(flags.build):
        print(f"soak: not there: {absent}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its processes end; its folder stays
    folder = pathlib.Path(tempfile.mkdtemp(prefix="dirty-soak-", dir="/tmp"))
    try:
        seconds = (flags.hours or 0) * 3600 + (flags.minutes or 0) * 60 or 1200
        result = run(flags.build.resolve(), folder, seconds, flags.seed)
    except Problem as problem:
        print(f"soak: {problem}; kept: {folder}", file=sys.stderr)
        return 1
    text = table(result, flags.seed)
    print(text)
    write(result, text, flags.output)
    say(f"written to {flags.output}")
    if result.everything_wrong():
        say(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
