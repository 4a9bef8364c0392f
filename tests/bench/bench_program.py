"""dirty-bench with a real dirtyd: bench_program.py BUILD_DIR. What it counts is checked, never how fast it was."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import unittest
from typing import Any

BUILD = pathlib.Path(sys.argv.pop())
LIMIT = 120  # seconds for one run; sanitizers are slow


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """dirty-bench with these flags."""
    return subprocess.run(
        [BUILD / "bin/dirty-bench", *flags], capture_output=True, text=True, timeout=LIMIT, check=False
    )


class Measures(unittest.TestCase):
    """A dirtyd of its own, with the native app."""

    def measure(self, *flags: str) -> dict[str, Any]:
        """What it prints as JSON."""
        done = run("--self", "native", "--json", *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def check(self, found: dict[str, Any], calls: int) -> None:
        """Numbers that fit together."""
        self.assertEqual(found["calls"], calls)
        self.assertEqual(found["errors"], {})
        latency = found["latency_us"]
        order = [latency[name] for name in ("min", "p50", "p90", "p99", "p99_9", "max")]
        self.assertEqual(order, sorted(order))
        self.assertGreater(order[0], 0)
        self.assertAlmostEqual(found["calls_per_s"] * found["elapsed_s"], calls, delta=1)
        for process in ("client", "dirtyd", "workers"):
            self.assertGreater(found["cpu_us_per_call"][process], 0)
        for process in ("client", "dirtyd", "worker"):
            self.assertGreater(found["peak_memory_bytes"][process], 1 << 20)

    def test_callers_that_wait(self) -> None:
        self.check(self.measure("--calls", "300", "--callers", "3", "--warmup", "100ms"), 300)

    def test_calls_in_flight(self) -> None:
        flags = ("--callers", "2", "--in-flight", "8", "--connections", "2", "--workers", "2", "--threads", "2")
        self.check(self.measure("--calls", "500", "--warmup", "100ms", *flags), 500)
        self.check(self.measure("--calls", "16", "--warmup", "0", *flags), 16)

    def test_calls_without_a_session(self) -> None:
        found = self.measure("--calls", "100", "--warmup", "0", "--transport", "unary")
        self.check(found, 100)
        self.assertEqual(found["transport"], "unary")

    def test_binary_values(self) -> None:
        self.check(self.measure("--calls", "20", "--warmup", "0", "--attachment", "1MiB"), 20)

    def test_streams(self) -> None:
        found = self.measure("--stream", "--calls", "5", "--warmup", "0", "--args", "[200]")
        self.check(found, 5)
        self.assertEqual(found["chunks"], 5 * 200)

    def test_a_duration(self) -> None:
        found = self.measure("--duration", "300ms", "--warmup", "0")
        self.check(found, found["calls"])
        self.assertGreaterEqual(found["elapsed_s"], 0.3)

    def test_text_for_people(self) -> None:
        done = run("--self", "native", "--calls", "10", "--warmup", "0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(
            done.stdout, r"(?s)^libdirty_bench_app.so:Echo echo, 1 caller x .*10 calls in .*p99\.9.*workers "
        )


class Fails(unittest.TestCase):
    """Exit codes, and what it says."""

    def check(self, done: subprocess.CompletedProcess[str], code: int, says: str) -> None:
        """The error is on standard error, alone."""
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertRegex(done.stderr, says)
        self.assertEqual(done.stdout, "")

    def test_wrong_usage(self) -> None:
        self.check(run("--nonsense"), 2, "^dirty-bench: unknown flag --nonsense; see dirty-bench --help\n$")

    def test_nobody_listens(self) -> None:
        self.check(
            run("--socket", "nowhere.sock", "--app", "a:A", "--action", "b"), 3, "CONNECTION: .*nowhere.sock: absent"
        )

    def test_a_call_that_fails(self) -> None:
        self.check(run("--self", "native", "--action", "wave"), 1, "APP_ERROR: UnknownAction: no action 'wave'")

    def test_a_dirtyd_that_does_not_start(self) -> None:
        self.check(run("--self", "native", "--with=--nonsense=1"), 3, "(?s)dirtyd did not get ready.*nonsense")

    def test_help_and_version(self) -> None:
        self.assertRegex(run("--version").stdout, r"^dirty-bench \d+\.\d+\.\d+\n$")
        self.assertIn("--in-flight N", run("--help").stdout)


if __name__ == "__main__":
    unittest.main()
