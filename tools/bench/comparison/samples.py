"""The samples that compare takes, the measures they make, and the series for the plots."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Optional

from .places import NotAvailable, Places
from .table import Bar, Measure

SMALL = 100
MEGABYTE = 1_000_000
DEEP, SHALLOW, QUEUE_WORKERS = 100_000, 10, 2
LONG_CALL = 1.0  # seconds
IDLE_SESSIONS = 1000


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is measured at once."""

    seconds: float  # of one sample
    chunks: int
    deep: int
    sessions: int


FULL = Scale(seconds=3.0, chunks=100_000, deep=DEEP, sessions=IDLE_SESSIONS)
QUICK = Scale(seconds=0.4, chunks=5_000, deep=2_000, sessions=50)

Take = Callable[[Places, Scale], float]


@dataclasses.dataclass(frozen=True)
class Sample:
    """One number that a round takes."""

    title: str
    unit: str
    take: Take


def python_calls(who: str, key: str, workers: int, *flags: Any, at_least: float = 0.0, processes: int = 1) -> Take:
    """Of drive.py, mode calls; `who` is `ours` or `peer`. Slow calls are measured for `at_least` so many seconds."""

    def take(places: Places, scale: Scale) -> float:
        seconds = max(scale.seconds, at_least if scale is FULL else 0.0)
        found = getattr(places, who)(workers, "calls", "--seconds", seconds, *flags, processes=processes)
        return found[key]

    return take


def bench_latency(language: str, transport: str, *flags: Any) -> Take:
    """Of dirty-bench with one caller: p50."""
    return lambda places, scale: places.bench(
        language, *flags, seconds=scale.seconds, transport=transport)["latency_us"]["p50"]  # fmt: skip


def bench_rate(language: str, transport: str, *flags: Any) -> Take:
    """Of dirty-bench: calls a second."""
    return lambda places, scale: places.bench(language, *flags, seconds=scale.seconds, transport=transport)[
        "calls_per_s"
    ]


def peer_best(places: Places, scale: Scale) -> float:
    """The peer's throughput in the arrangement that suits it best: threads of one client process, or several of them."""
    rates = []
    for processes, threads in [(1, 1), (1, 4), (1, 16), (2, 1), (2, 4), (4, 4)] if scale is FULL else [(1, 4), (2, 4)]:
        flags = ("--seconds", scale.seconds, "--threads", threads)
        rates.append(places.peer(2, "calls", *flags, processes=processes)["calls_per_s"])
    return max(rates)


def beside(who: str) -> Take:
    """The p99 of short calls, in milliseconds."""

    def take(places: Places, scale: Scale) -> float:
        seconds = 3 * scale.seconds  # several of the long ones
        found = getattr(places, who)(2, "beside", "--long", LONG_CALL, "--seconds", seconds)
        return found["p99_us"] / 1e3

    return take


def stream(who: str) -> Take:
    """Values a second."""
    return lambda places, scale: getattr(places, who)(
        1, "stream", "--chunks", scale.chunks, "--seconds", scale.seconds)["chunks_per_s"]  # fmt: skip


def queue_run(places: Places, depth: int, seconds: float) -> Any:
    """dirty-bench with `depth` calls waiting: each that ends is followed by another one."""
    # Enough time for the queue to fill before anything counts.
    warm_up = max(seconds / 5, depth / 8000)
    in_flight = depth + QUEUE_WORKERS
    limits = ["--with=--queue_size=0", "--with=--queue_timeout=0", "--with=--max_calls_per_session=0"]
    return places.bench("native", "--workers", QUEUE_WORKERS, "--in-flight", in_flight, *limits, "--duration",
                        f"{seconds}s", "--warmup", f"{warm_up}s", seconds=None)  # fmt: skip


def queue_cost(depth: Optional[int]) -> Take:
    """dirtyd's processor time a call; None: as deep as the scale says."""

    def take(places: Places, scale: Scale) -> float:
        return queue_run(places, depth or scale.deep, 2 * scale.seconds)["cpu_us_per_call"]["dirtyd"]

    return take


def session_memory(places: Places, scale: Scale) -> float:
    """KiB of dirtyd for each idle session."""
    found = places.bench("native", "--idle-sessions", scale.sessions, seconds=None)
    return found["bytes_per_session"] / 1024


SAMPLES: dict[str, Sample] = {
    "relay": Sample("raw relay, 100 bytes: p50", "us", lambda p, s: p.relay(SMALL, s.seconds)["p50_us"]),
    "relay_1mb": Sample("raw relay, 1 MB: p50", "us", lambda p, s: p.relay(MEGABYTE, s.seconds)["p50_us"]),
    "relay_10mb": Sample("raw relay, 10 MB: p50", "us", lambda p, s: p.relay(10 * MEGABYTE, s.seconds)["p50_us"]),
    "direct": Sample("gRPC unary, no arbiter, 100 bytes: p50", "us", lambda p, s: p.direct(SMALL, s.seconds)["p50_us"]),
    "direct_1mb": Sample("gRPC unary, no arbiter, 1 MB: p50", "us", lambda p, s: p.direct(MEGABYTE, s.seconds)["p50_us"]),
    "direct_10mb": Sample(
        "gRPC unary, no arbiter, 10 MB: p50", "us", lambda p, s: p.direct(10 * MEGABYTE, s.seconds)["p50_us"]),
    "session": Sample("C++ to native, session: p50", "us", bench_latency("native", "session")),
    "unary": Sample("C++ to native, unary: p50", "us", bench_latency("native", "unary")),
    "cpp_python": Sample("C++ to Python, session: p50", "us", bench_latency("python", "session")),
    "cpp_python_unary": Sample("C++ to Python, unary: p50", "us", bench_latency("python", "unary")),
    "session_rate": Sample("C++ to native, session, 16 in flight, 2 workers", "calls/s",
                           bench_rate("native", "session", "--workers", 2, "--in-flight", 16)),
    "unary_rate": Sample("C++ to native, unary, 16 in flight, 2 workers", "calls/s",
                         bench_rate("native", "unary", "--workers", 2, "--in-flight", 16)),
    "peer_best": Sample("peer, its best arrangement, 2 workers", "calls/s", peer_best),
    "python": Sample("Python to Python, 1 caller: p50", "us", python_calls("ours", "p50_us", 1)),
    "peer": Sample("peer, 1 caller: p50", "us", python_calls("peer", "p50_us", 1)),
    "python_16": Sample("Python to Python, 16 threads, 2 workers", "calls/s",
                        python_calls("ours", "calls_per_s", 2, "--threads", 16)),
    "peer_16": Sample("peer, 16 threads, 2 workers", "calls/s",
                      python_calls("peer", "calls_per_s", 2, "--threads", 16)),
    "session_1mb": Sample("C++ to native, session, 1 MB: p50", "us",
                          bench_latency("native", "session", "--attachment", MEGABYTE)),
    "session_10mb": Sample("C++ to native, session, 10 MB: p50", "us",
                           bench_latency("native", "session", "--attachment", 10 * MEGABYTE)),
    "python_1mb": Sample("Python to Python, 1 MB of bytes: p50", "us",
                         python_calls("ours", "p50_us", 1, "--binary", "--size", MEGABYTE)),
    "peer_1mb": Sample("peer, 1 MB of bytes: p50", "us",
                       python_calls("peer", "p50_us", 1, "--binary", "--size", MEGABYTE)),
    "python_10mb": Sample("Python to Python, 10 MB of bytes: p50", "us",
                          python_calls("ours", "p50_us", 1, "--binary", "--size", 10 * MEGABYTE, at_least=5)),
    "peer_10mb": Sample("peer, 10 MB of bytes: p50", "us",
                        python_calls("peer", "p50_us", 1, "--binary", "--size", 10 * MEGABYTE, at_least=5)),
    "beside": Sample("Python to Python, beside a 1 s call, 2 workers: p99", "ms", beside("ours")),
    "peer_beside": Sample("peer, beside a 1 s call, 2 workers: p99", "ms", beside("peer")),
    "stream": Sample("Python to Python, a generator", "chunks/s", stream("ours")),
    "peer_stream": Sample("peer, a generator", "chunks/s", stream("peer")),
    "queue_deep": Sample("dirtyd's processor time a call, 100,000 queued", "us", queue_cost(None)),
    "queue_shallow": Sample("dirtyd's processor time a call, 10 queued", "us", queue_cost(SHALLOW)),
    "idle_sessions": Sample("memory of dirtyd an idle session, of 1,000", "KiB", session_memory),
}  # fmt: skip

FLOOR = "x the floor"
PEER = "x the peer's"

MEASURES = [
    Measure("session_floor", "C++ client and native app, session, 100 bytes, 1 caller: p50", "session", "relay",
            Bar("at most", 2.5, FLOOR)),
    Measure("session_peer", "C++ client and native app, session, 100 bytes, 1 caller: p50", "session", "peer", Bar("at most", 0.42, PEER)),
    Measure("unary", "C++ client and native app, unary, 100 bytes, 1 caller: p50", "unary", "peer", Bar("at most", 0.65, PEER)),
    Measure("throughput", "C++ client, session, 16 in flight, 2 workers", "session_rate", "peer_best",
            Bar("at least", 6, "x the peer's best")),
    Measure("python", "Python client and Python app, 1 caller: p50", "python", "peer", Bar("at most", 0.5, PEER)),
    Measure("python_threads", "Python, 16 threads, 2 workers", "python_16", "peer_16", Bar("at least", 3, PEER)),
    Measure("bytes_1mb", "1 MB bytes echoed, Python to Python: p50", "python_1mb", "peer_1mb", Bar("at most", 0.2, PEER)),
    Measure("bytes_10mb", "10 MB bytes echoed, Python to Python: p50", "python_10mb", "peer_10mb",
            Bar("at most", 0.125, PEER)),
    Measure("beside", "short calls beside one 1 s call always running, 2 workers: p99", "beside", None,
            Bar("at most", 10, "ms")),
    Measure("stream", "stream of 100,000 small chunks, Python generator", "stream", "peer_stream",
            Bar("at least", 5, PEER)),
    Measure("queue", "dirtyd's processor time a call with 100,000 queued, against 10 queued", "queue_deep",
            "queue_shallow", Bar("at most", 1.2, "x with 10 queued")),
    Measure("idle_sessions", "memory of dirtyd with 1,000 idle sessions, each on its own connection: a session",
            "idle_sessions", None, Bar("at most", 100, "KiB")),
]  # fmt: skip

# Samples beside those of the measures, for comparison: no bar is set for them.
FURTHER = ["relay_1mb", "relay_10mb", "direct", "direct_1mb", "direct_10mb", "cpp_python", "cpp_python_unary",
           "unary_rate", "session_1mb", "session_10mb", "peer_beside"]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a plot: for each x the value of `take`."""

    name: str
    label: str
    take: Callable[[Places, Scale, int], float]


@dataclasses.dataclass(frozen=True)
class Plot:
    """A scaling run."""

    name: str
    title: str
    x: str
    y: str
    xs: list[int]
    quick_xs: list[int]
    series: list[Series]


def python_threads(who: str) -> Callable[[Places, Scale, int], float]:
    """Calls a second from one process with x threads."""
    return lambda places, scale, x: getattr(places, who)(
        2, "calls", "--seconds", scale.seconds, "--threads", x)["calls_per_s"]  # fmt: skip


def blocking_calls(places: Places, scale: Scale, x: int) -> float:
    """Calls of 10 ms that need no processor, on x workers, with twice as many callers."""
    flags = ("--workers", x, "--in-flight", 2 * x, "--action", "sleep", "--args", "[0.01]")
    return places.bench("native", *flags, seconds=scale.seconds)["calls_per_s"]


def size_of(take: str) -> Callable[[Places, Scale, int], float]:
    """The p50 with a binary value of x bytes."""

    def of(places: Places, scale: Scale, x: int) -> float:
        if take in ("relay", "direct"):
            return getattr(places, take)(x, scale.seconds)["p50_us"]
        if take == "session":
            return places.bench("native", "--attachment", x, seconds=scale.seconds)["latency_us"]["p50"]
        return getattr(places, take)(1, "calls", "--seconds", scale.seconds, "--binary", "--size", x)["p50_us"]

    return of


CALLERS = [1, 2, 4, 8, 16, 32, 64]
SIZES = [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000]

PLOTS = [
    Plot("callers", "Throughput by callers, 2 workers, 100 bytes", "callers", "calls/s", CALLERS, [1, 16], [
        Series("session", "dirtyd: C++ client, native app, session",
               lambda p, s, x: p.bench("native", "--workers", 2, "--callers", x, seconds=s.seconds)["calls_per_s"]),
        Series("unary", "dirtyd: the same, unary",
               lambda p, s, x: p.bench("native", "--workers", 2, "--callers", x, seconds=s.seconds,
                                       transport="unary")["calls_per_s"]),
        Series("python", "dirtyd: Python client and app", python_threads("ours")),
        Series("peer", "gunicorn's dirty arbiter", python_threads("peer")),
    ]),
    Plot("callers_p99", "Latency by callers, 2 workers, 100 bytes", "callers", "p99, us", CALLERS, [1, 16], [
        Series("session", "dirtyd: C++ client, native app, session",
               lambda p, s, x: p.bench("native", "--workers", 2, "--callers", x, seconds=s.seconds)["latency_us"]["p99"]),
        Series("python", "dirtyd: Python client and app", lambda p, s, x: p.ours(
            2, "calls", "--seconds", s.seconds, "--threads", x)["p99_us"]),
        Series("peer", "gunicorn's dirty arbiter", lambda p, s, x: p.peer(
            2, "calls", "--seconds", s.seconds, "--threads", x)["p99_us"]),
    ]),
    Plot("workers", "Throughput by workers, calls of 10 ms", "workers", "calls/s", [1, 2, 4, 8, 16, 32], [1, 4], [
        Series("session", "dirtyd: C++ client, native app", blocking_calls),
        Series("ideal", "100 a worker", lambda p, s, x: 100.0 * x),
    ]),
    Plot("sizes", "Latency by size of a binary value, 1 caller", "bytes", "p50, us", SIZES, [100, 1_000_000], [
        Series("relay", "raw relay of two hops", size_of("relay")),
        Series("direct", "gRPC unary, one hop", size_of("direct")),
        Series("session", "dirtyd: C++ client, native app", size_of("session")),
        Series("python", "dirtyd: Python client and app", size_of("ours")),
        Series("peer", "gunicorn's dirty arbiter", size_of("peer")),
    ]),
    Plot("queue", "Cost of a call by calls that wait", "calls that wait", "us", [10, 100, 1_000, 10_000, 100_000],
         [10, 1_000], [
        Series("dirtyd", "dirtyd's processor time",
               lambda p, s, x: queue_run(p, x, 2 * s.seconds)["cpu_us_per_call"]["dirtyd"]),
        Series("wall", "time between two results",
               lambda p, s, x: 1e6 / queue_run(p, x, 2 * s.seconds)["calls_per_s"]),
    ]),
    Plot("sessions", "Memory of dirtyd by idle sessions", "idle sessions", "KiB a session", [10, 100, 300, 1000], [10, 50], [
        Series("memory", "dirtyd", lambda p, s, x: p.bench(
            "native", "--idle-sessions", x, seconds=None)["bytes_per_session"] / 1024),
    ]),
]  # fmt: skip

__all__ = ["FULL", "FURTHER", "MEASURES", "PLOTS", "QUICK", "SAMPLES", "NotAvailable"]
