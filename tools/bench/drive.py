#!/usr/bin/env python3
"""Calls the echo app from Python, through either client, and prints what it measured as one JSON object.

drive.py PACKAGE MODE [--seconds S] ...: PACKAGE is `dirty` (ours; $DIRTY_SOCKET) or `gunicorn.dirty` (the peer;
$GUNICORN_DIRTY_SOCKET). Both have `get_dirty_client`, so what runs is the same code. MODE:

  calls    --threads N --size BYTES --binary: each thread calls and waits, for S seconds after a warm-up of S / 5
  beside   --long SECONDS --pause SECONDS: the same with one thread that pauses between two calls, beside one call that
           takes so long and is always running. The pause gives slow calls their weight: without it thousands of fast ones
           would hide them from the p99.
  stream   --chunks N: reads whole streams of N small values, for S seconds at least
"""

from __future__ import annotations

import argparse
import importlib
import json
import threading
import time
from typing import Any, Callable

APP = "dirty_bench_app:Echo"
TIMEOUT = 300.0  # seconds; nothing may take so long

now = time.perf_counter_ns


def percentile(values: list[int], share: float) -> float:
    """Of sorted nanoseconds, in microseconds."""
    return values[min(len(values) - 1, int(share * len(values)))] / 1e3


def summary(calls: list[tuple[int, int]], end: int, seconds: float) -> dict[str, float]:
    """Of calls that started in the window, as start and duration: how long they took; and how many ended in it."""
    times = sorted(duration for _, duration in calls)
    ended = sum(1 for start, duration in calls if start + duration <= end)
    return {
        "calls": len(times), "calls_per_s": ended / seconds, "p50_us": percentile(times, 0.5),
        "p90_us": percentile(times, 0.9), "p99_us": percentile(times, 0.99), "max_us": times[-1] / 1e3,
    }  # fmt: skip


def calls(client: Callable[[], Any], threads: int, seconds: float, value: Any, pause: float = 0.0) -> dict[str, float]:
    """Each thread has what its package gives it as a client, and keeps one call going, with pauses if it is told."""
    taken: list[list[tuple[int, int]]] = [[] for _ in range(threads)]
    failures: list[BaseException] = []
    gate = threading.Barrier(threads + 1)
    window = [0, 0]

    def caller(mine: list[tuple[int, int]]) -> None:
        try:
            execute = client().execute
            execute(APP, "echo", value)
            gate.wait(TIMEOUT)
            gate.wait(TIMEOUT)
            begin, end = window
            start = now()
            while start < end or not mine:  # at least one call, however long
                execute(APP, "echo", value)
                done = now()
                if start >= begin:
                    mine.append((start, done - start))
                if pause:
                    time.sleep(pause)
                    done = now()
                start = done
        except BaseException as failure:
            failures.append(failure)
            gate.abort()

    running = [threading.Thread(target=caller, args=(mine,)) for mine in taken]
    for thread in running:
        thread.start()
    try:
        gate.wait(TIMEOUT)  # every thread is connected
        begin = now() + int(seconds * 1e9 / 5)
        window[:] = [begin, begin + int(seconds * 1e9)]
        gate.wait(TIMEOUT)
    except threading.BrokenBarrierError:
        pass
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]
    return summary([one for mine in taken for one in mine], window[1], seconds)


def beside(client: Callable[[], Any], seconds: float, long: float, pause: float) -> dict[str, float]:
    """Short calls while long ones run one after another."""
    stop = threading.Event()
    runs = threading.Event()

    def keep_busy() -> None:
        execute = client().execute
        while not stop.is_set():
            runs.set()
            execute(APP, "sleep", long)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        runs.wait()
        return calls(client, 1, seconds, "x" * 100, pause)
    finally:
        stop.set()
        busy.join()


def stream(client: Callable[[], Any], seconds: float, chunks: int) -> dict[str, float]:
    """Whole streams; the first one is the warm-up."""
    mine = client()
    read = 0
    begin = 0
    while not begin or now() < begin + seconds * 1e9:
        count = sum(1 for _ in mine.stream(APP, "count", chunks))
        if count != chunks:
            raise RuntimeError(f"{count} values came instead of {chunks}")
        if begin:
            read += count
        else:
            begin = now()
    return {"chunks": read, "chunks_per_s": read / ((now() - begin) / 1e9)}


def main() -> None:
    """Runs one mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=["dirty", "gunicorn.dirty"])
    parser.add_argument("mode", choices=["calls", "beside", "stream"])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--binary", action="store_true")
    parser.add_argument("--long", type=float, default=1.0)
    parser.add_argument("--pause", type=float, default=0.02)
    parser.add_argument("--chunks", type=int, default=100_000)
    flags = parser.parse_args()
    package = importlib.import_module(flags.package)
    # Ours has no timeout of its own; the peer's is 30 s for a whole stream.
    keywords = {"timeout": TIMEOUT} if flags.package == "gunicorn.dirty" else {}

    def client() -> Any:
        return package.get_dirty_client(**keywords)

    if flags.mode == "calls":
        found = calls(client, flags.threads, flags.seconds, (b"x" if flags.binary else "x") * flags.size)
    elif flags.mode == "beside":
        found = beside(client, flags.seconds, flags.long, flags.pause)
    else:
        found = stream(client, flags.seconds, flags.chunks)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
