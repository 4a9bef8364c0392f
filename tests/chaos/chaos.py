"""Chaos: mixed load on a real dirtyd while everything around it fails; then everything is reconciled.

Two parts. In the first, workers and clients are killed and stopped, disks, descriptors and pids run out, a worker breaks
its protocol, operators do what they do, well and badly; dirtyd has to live through it, and its counters have to agree with
what the clients wrote down. In the second dirtyd itself is killed, again and again, and the clients have to come back.
tools/chaos is the command.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import calling
import gauges
import load
import messages
from arbiter import ROOT, Arbiter, Problem, missing, pids_group, positive, small_disk, wait_for
from faults import Book, Conditions, Hits, Operations
from load import Fleet
from reconcile import Report, reconcile

KILL_AFTER = 0.5
APPS = ["python", "python", "native", "native", "faulty"]  # as often as they are called
FAULTY_QUEUE = 4  # so short that it is full now and then
CALLS_PER_SECOND = 20.0  # of each client
DISK = "8m"
# Seconds.
START = 60.0
READY_AGAIN = 45.0  # after the last fault; a worker that was refused backs off, and a reload replaces all
COME_BACK = 2.0  # from a new dirtyd's readiness until each client has an answer; contract
GONE = 10.0  # until workers of a killed dirtyd have gone
STOP = 30.0
CALM = 3.0
AT_REST = 10  # looks, a tenth of a second apart
STANDSTILL = 1.2  # of all workers while warming up, less than the heartbeat's timeout
# What memory may be above that of a warm dirtyd.
RSS_FACTOR, RSS_MORE = 1.10, 8 << 20


def config(workers: int = 2, **more: Any) -> dict[str, Any]:
    """Of a dirtyd that has to notice everything soon. The pools' apps are added where the arbiter is known."""
    return {
        "timeout": 2, "queue_timeout": 2, "queue_size": 40, "kill_after": KILL_AFTER, "boot_timeout": 20,
        "graceful_timeout": 5, "heartbeat_interval": 0.2, "heartbeat_timeout": 1.5, "slow_call": 1, "surge": 1,
        "threads": 2, "restart": {"initial_backoff": 0.05, "max_backoff": 0.5, "give_up_after": 0},
        **more, "workers": workers,
    }  # fmt: skip


def with_pools(arbiter: Arbiter, faulty: bool, workers: int = 2, max_requests: int = 0, surge: int = 1) -> Any:
    """The whole configuration."""
    whole = config(max_requests=max_requests, surge=surge)
    del whole["workers"]
    whole["pools"] = [
        arbiter.python_pool(workers=workers, max_memory="64MiB"),
        arbiter.native_pool(workers=workers, threads=3),
    ]
    if faulty:
        whole["pools"].append(arbiter.faulty_pool(workers=2, queue_size=FAULTY_QUEUE))
    return whole


@dataclasses.dataclass
class Result:
    """What is told at the end."""

    seed: int
    seconds: float = 0.0
    faults: dict[str, int] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    report: Report = dataclasses.field(default_factory=Report)
    killed_report: Report = dataclasses.field(default_factory=Report)
    come_back: list[float] = dataclasses.field(default_factory=list)
    leaked: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    def everything_wrong(self) -> list[str]:
        """All problems."""
        return [*self.problems, *self.report.problems, *self.killed_report.problems, *self.leaked]


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def run_for(seconds: float, arbiter: Arbiter, fleet: Fleet) -> None:
    """Lets everything go on, and starts clients in the place of those that were killed.

    Raises:
        Problem: dirtyd has ended.
    """
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(0.2, left))
        arbiter.check_alive()
        fleet.replace()


def counters_of(arbiter: Arbiter) -> dict[str, dict[str, int]]:
    """By app, once no call waits or runs.

    Raises:
        Problem: Calls are left though no client is.
    """

    def idle() -> Any:
        status = arbiter.status()
        return status and all(app["queued"] == app["running"] == 0 for app in status["apps"]) and status

    status = wait_for(idle, 15, "no call waits or runs")
    return {app["name"]: {k: int(v) for k, v in app["counters"].items()} for app in status["apps"]}


def faults_of_worker(arbiter: Arbiter) -> list[str]:
    """What the faulty worker did."""
    if not arbiter.worker_faults.exists():
        return []
    return [fault for fault in arbiter.worker_faults.read_text().split() if fault != "none"]


@dataclasses.dataclass(frozen=True)
class Holding:
    """What an idle dirtyd holds."""

    gauges: gauges.Gauges
    descriptors: dict[str, int]
    processes: dict[str, int]
    files: list[str]


def holding(arbiter: Arbiter) -> Holding:
    """Now."""
    return Holding(
        gauges.of(arbiter.pid),
        gauges.descriptors_of(arbiter.pid),
        gauges.by_name(gauges.processes_of(arbiter.folder)),
        gauges.files_of(arbiter.folder / "run"),
    )


def holding_at_rest(arbiter: Arbiter) -> Holding:
    """Once it stays the same for a while: a connection that was closed is seen by dirtyd a moment later."""
    looks: list[Holding] = []

    def same() -> bool:
        looks.append(holding(arbiter))
        return len(looks) >= AT_REST and all(look.descriptors == looks[-1].descriptors for look in looks[-AT_REST:])

    wait_for(same, START, "dirtyd at rest")
    return looks[-1]


def leaks(before: Holding, after: Holding) -> list[str]:
    """What there is more of than before."""
    found = []
    if after.descriptors != before.descriptors:
        found.append(f"descriptors of dirtyd: {before.descriptors} before, {after.descriptors} after")
    if after.gauges.rss > before.gauges.rss * RSS_FACTOR + RSS_MORE:
        found.append(f"memory of dirtyd: {before.gauges.rss >> 10} KiB before, {after.gauges.rss >> 10} KiB after")
    if after.processes != before.processes:
        found.append(f"processes: {before.processes} before, {after.processes} after")
    if after.files != before.files:
        found.append(f"files: {before.files} before, {after.files} after")
    return found


def settle(arbiter: Arbiter, before: Holding) -> list[str]:
    """What is leaked once everything has had time to go."""
    with contextlib.suppress(Problem):
        wait_for(lambda: not leaks(before, holding(arbiter)), 10, "as before")
    return leaks(before, holding(arbiter))


def left_over(arbiter: Arbiter) -> list[str]:
    """What is there though dirtyd has ended."""
    with contextlib.suppress(Problem):
        wait_for(lambda: not gauges.processes_of(arbiter.folder), GONE, "no process")
    found = [f"process {pid} ({name}) after the end" for pid, name in gauges.processes_of(arbiter.folder).items()]
    return found + [
        f"file {name} after the end" for name in gauges.files_of(arbiter.folder / "run") if "lock" not in name
    ]


def warm_up(arbiter: Arbiter, fleet: Fleet, rounds: int) -> None:
    """Lets dirtyd's memory grow to what it needs at worst: full queues, ends of workers to remember, floods to log."""
    for _ in range(rounds):
        run_for(1.0, arbiter, fleet)
        workers = [pid for pid in gauges.processes_of(arbiter.folder) if pid != arbiter.pid]
        mischief = fleet.start("mischief")
        try:
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)
            run_for(STANDSTILL, arbiter, fleet)
        finally:
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        fleet.stop(mischief)
        arbiter.ctl("restart")
    run_for(1.0, arbiter, fleet)


def live_through_faults(arbiter: Arbiter, seed: int, seconds: float, result: Result, disk: bool) -> None:
    """The first part."""
    arbiter.write(with_pools(arbiter, faulty=True))
    arbiter.start()
    arbiter.wait_until_ready(START)
    say("warming up")
    fleet = Fleet(arbiter, APPS, seed, CALLS_PER_SECOND, KILL_AFTER)
    for kind in load.KINDS:
        fleet.start(kind)
    warm_up(arbiter, fleet, rounds=3 + int(seconds / 60))
    fleet.stop()
    counters_of(arbiter)
    wait_for(arbiter.is_ready, START, "ready after warming up")
    before = holding_at_rest(arbiter)

    say(f"faults for {seconds:.0f} s")
    book = Book(arbiter.folder / "faults.jsonl")
    arbiter.faulty_file.touch()
    injectors = [
        Hits(book, random.Random(f"hits {seed}"), 0.6, arbiter, fleet),
        Conditions(book, random.Random(f"conditions {seed}"), 2.0, arbiter, disk),
        Operations(book, random.Random(f"operations {seed}"), 0.8, arbiter,
                   lambda **more: with_pools(arbiter, faulty=True, **more)),
    ]  # fmt: skip
    for kind in [*load.KINDS, "mischief"]:
        fleet.start(kind)
    for injector in injectors:
        injector.start()
    try:
        run_for(seconds, arbiter, fleet)
    finally:
        for injector in injectors:
            injector.stopping.set()
        for injector in injectors:
            injector.join()
    arbiter.faulty_file.unlink()
    fleet.stop("mischief")

    say("faults have ended")
    result.problems += restore(arbiter)
    calm = time.monotonic()
    run_for(CALM, arbiter, fleet)
    fleet.stop()
    result.problems += calm_failures(fleet, calm)
    accounts = fleet.accounts()
    worker_faults = faults_of_worker(arbiter)
    result.report = reconcile(
        accounts, frozenset(fleet.killed), fleet.pauses, arbiter.executed.read_text().split(),
        harmful=frozenset(calling.MISCHIEF), faulty_apps=frozenset({"faulty"}),
        corrupted=worker_faults.count("corrupt"), counters=counters_of(arbiter),
    )  # fmt: skip
    result.leaked += settle(arbiter, before)
    say(f"dirtyd's memory: {before.gauges.rss >> 10} KiB warm, {gauges.of(arbiter.pid).rss >> 10} KiB after all")
    if (code := arbiter.stop(STOP)) != 0:
        result.problems.append(f"dirtyd ended with {code}")
    result.leaked += left_over(arbiter)
    result.problems += book.problems + fleet.problems
    result.skipped = book.skipped
    for fault in [*book.counts.elements(), *(f"worker_{fault}" for fault in worker_faults)]:
        result.faults[fault] = result.faults.get(fault, 0) + 1
    for account in accounts:
        for call in account.calls.values():
            if call.action in calling.MISCHIEF:
                result.faults[f"app_{call.action}"] = result.faults.get(f"app_{call.action}", 0) + 1


def restore(arbiter: Arbiter) -> list[str]:
    """Puts the configuration back, replaces every worker, and waits until all are ready; what went wrong."""
    begin = time.monotonic()
    arbiter.write(with_pools(arbiter, faulty=True))
    try:
        wait_for(lambda: arbiter.ctl("reload", "--quiet").returncode == 0, READY_AGAIN, "a reload after the faults")
        arbiter.ctl("log-level", "info")
        arbiter.wait_until_ready(READY_AGAIN)
    except Problem as problem:
        return [str(problem)]
    say(f"every desired worker is ready again after {time.monotonic() - begin:.1f} s")
    return []


def calm_failures(fleet: Fleet, since: float) -> list[str]:
    """Calls that failed although nothing happened any more."""
    calls = [call for account in fleet.accounts() for call in account.calls.values() if call.sent > since]
    failed = [
        call
        for call in calls
        if call.ends
        and call.ends[0].outcome not in ("ok", "left")
        and (call.app, call.ends[0].outcome) != ("faulty", "queue_full")
    ]
    if not calls:
        return ["no call was made after the faults"]
    return [f"after the faults: {call.who} {call.app} {call.action}: {call.ends[0].outcome}" for call in failed[:5]]


def come_back_from_death(arbiter: Arbiter, seed: int, seconds: float, result: Result) -> None:
    """The second part: dirtyd is killed and started again under load."""
    say(f"dirtyd is killed for {seconds:.0f} s")
    for name in ("ledgers", "executed"):
        (arbiter.folder / name).rename(arbiter.folder / f"{name}-of-the-first-part")
    source = random.Random(f"deaths {seed}")
    arbiter.write(with_pools(arbiter, faulty=False))
    arbiter.start()
    arbiter.wait_until_ready(START)
    fleet = Fleet(arbiter, ["python", "native"], seed + 1, CALLS_PER_SECOND, KILL_AFTER)
    for kind in load.KINDS:
        fleet.start(kind)
    deadline = time.monotonic() + seconds
    deaths = 0
    while time.monotonic() < deadline:
        run_for(source.uniform(1.0, 3.0), arbiter, fleet)
        before = set(gauges.processes_of(arbiter.folder))
        arbiter.kill()
        deaths += 1
        wait_for(lambda gone=before: not gone & set(gauges.processes_of(arbiter.folder)), GONE, "workers are gone")
        arbiter.start()
        arbiter.wait_until_ready(START)
        ready = time.monotonic()
        result.come_back.append(time_to_answers(fleet, ready))
    run_for(1.0, arbiter, fleet)
    fleet.stop()
    result.problems += fleet.problems
    result.killed_report = reconcile(
        fleet.accounts(), frozenset(fleet.killed), (), arbiter.executed.read_text().split()
    )
    counters_of(arbiter)
    if (code := arbiter.stop(STOP)) != 0:
        result.problems.append(f"dirtyd ended with {code}")
    result.leaked += left_over(arbiter)
    result.faults["kill_dirtyd"] = deaths


def time_to_answers(fleet: Fleet, since: float) -> float:
    """How long from `since` until every client has an `ok` of a call.

    Raises:
        Problem: It takes too long.
    """
    paths = {name: fleet.folder / name for name in fleet.names()}
    offsets = {name: path.stat().st_size for name, path in paths.items()}
    firsts: dict[str, float] = {}

    def look() -> bool:
        for name, path in paths.items():
            if name in firsts:
                continue
            with path.open("rb") as file:
                file.seek(max(0, offsets[name] - 4096))
                lines = file.read().decode().split("\n")[1:-1]
            times = [float(line.split(" ")[2]) for line in lines if line.startswith("E ") and " ok " in line]
            if later := [ended for ended in times if ended > since]:
                firsts[name] = min(later)
        return len(firsts) == len(paths)

    wait_for(look, COME_BACK + 8, "every client has an answer of the new dirtyd")
    return max(firsts.values()) - since


def table(result: Result) -> str:
    """The figures, for people."""
    first, second = result.report, result.killed_report
    lines = [f"seed {result.seed}, {result.seconds:.0f} s", "", "faults injected"]
    lines += [f"  {name:26}{number:8}" for name, number in sorted(result.faults.items())]
    lines += [f"  {name:26} skipped: {why}" for name, why in sorted(result.skipped.items())]
    lines += [f"  {'together':26}{sum(result.faults.values()):8}", ""]
    lines += [f"{'calls':28}{'faults':>10}{'dirtyd killed':>16}", f"  {'sent':26}{first.calls:10}{second.calls:16}"]
    for outcome in sorted(set(first.outcomes) | set(second.outcomes), key=lambda name: (name != "ok", name)):
        lines.append(f"  {outcome:26}{first.outcomes.get(outcome, 0):10}{second.outcomes.get(outcome, 0):16}")
    names = {"caller_gone": "caller gone", "lost": "lost", "doubled": "doubled", "late": "late", "wrong": "wrong",
             "mangled": "mangled by its worker", "executed_wrongly": "executed wrongly"}  # fmt: skip
    for name, words in names.items():
        lines.append(f"  {words:26}{getattr(first, name):10}{getattr(second, name):16}")
    lines += ["", f"leaked                      {len(result.leaked):10}"]
    if result.come_back:
        slowest = max(result.come_back)
        lines.append(f"clients answered again after at most {slowest:.2f} s, {len(result.come_back)} times")
    wrong = result.everything_wrong()
    lines += ["", *(f"PROBLEM: {problem}" for problem in wrong)]
    lines.append(f"{len(wrong)} problems" if wrong else "everything agrees")
    return "\n".join(lines)


def run(build: pathlib.Path, folder: pathlib.Path, seconds: float, seed: int) -> Result:
    """Both parts, in a folder that exists and is empty."""
    result = Result(seed)
    begin = time.monotonic()
    arbiter = Arbiter(build, folder, seed)
    messages.generate(ROOT / "proto", arbiter.messages)
    with contextlib.ExitStack() as stack:
        stack.callback(arbiter.clear)
        no_disk = stack.enter_context(small_disk(arbiter.log_folder, DISK))
        arbiter.group = stack.enter_context(pids_group())
        stack.callback(arbiter.keep_log)
        stack.callback(arbiter.clear)
        try:
            live_through_faults(arbiter, seed, seconds * 0.7, result, disk=not no_disk)
            come_back_from_death(arbiter, seed, seconds * 0.15, result)
        except Problem as problem:
            result.problems.append(str(problem))
    if result.come_back and max(result.come_back) > COME_BACK:
        result.problems.append(f"clients came back after {max(result.come_back):.2f} s, not within {COME_BACK:g} s")
    result.seconds = time.monotonic() - begin
    return result


def main(words: Sequence[str]) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=positive, default=3.0, help="how long [3]")
    parser.add_argument("--seed", type=int, help="of all that is drawn [a new one]")
    parser.add_argument("--json", type=pathlib.Path, help="a file for the figures")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release", help="[build/release]")
    flags = parser.parse_args(words)
    if absent := missing(flags.build):
        print(f"chaos: not there: {absent}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its processes end; its folder stays
    seed = flags.seed if flags.seed is not None else int.from_bytes(os.urandom(3), "big")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="dirty-chaos-", dir="/tmp"))
    say(f"seed {seed}, everything is in {folder}")
    result = run(flags.build.resolve(), folder, flags.minutes * 60, seed)
    print(table(result))
    if flags.json:
        figures = {**dataclasses.asdict(result), "problems": result.everything_wrong()}
        flags.json.write_text(json.dumps(figures, indent=1) + "\n")
    if result.everything_wrong():
        say(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
