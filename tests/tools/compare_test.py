"""tools/bench/compare: what it makes of numbers, and how its driver takes them. Nothing is timed."""

import contextlib
import io
import json
import pathlib
import tempfile
import time
import unittest
from collections.abc import Iterator
from typing import Any, Callable

from script import load

compare = load("tools/bench/compare")
drive = load("tools/bench/drive.py")
table, samples = compare.table, compare.samples


def measure(reference: str | None, bar: Any) -> Any:
    return table.Measure("m", "what is measured", "ours", reference, bar)


def taken(**values: list[float]) -> dict[str, Any]:
    return {name: table.Samples("us", numbers) for name, numbers in values.items()}


class Judges(unittest.TestCase):
    def test_the_ratio_is_that_of_the_medians(self) -> None:
        found = table.line(measure("peer", table.Bar("at most", 0.5, "x")), taken(ours=[9, 10, 50], peer=[25, 1, 20]))
        self.assertEqual((found.ratio, found.met), (0.5, True))

    def test_a_bar_from_above_and_one_from_below(self) -> None:
        for kind, met in (("at most", False), ("at least", True)):
            found = table.line(measure("peer", table.Bar(kind, 2, "x")), taken(ours=[21.0], peer=[10.0]))
            self.assertEqual((found.ratio, found.met), (2.1, met))

    def test_a_bar_without_a_reference(self) -> None:
        found = table.line(measure(None, table.Bar("at most", 10, "ms")), taken(ours=[9.0, 11.0, 10.5]))
        self.assertEqual((found.ratio, found.met), (None, False))
        self.assertEqual(found.cells()[1:], ["10.5 us (9 to 11)", "", "", "at most 10 ms", "**no**"])

    def test_what_is_missing_is_no_failure_and_says_why(self) -> None:
        found = taken(ours=[1.0], peer=[])
        found["peer"].missing = "no network"
        line = table.line(measure("peer", table.Bar("at most", 1, "x")), found)
        self.assertIsNone(line.met)
        self.assertEqual(line.cells()[2:], ["not available: no network", "", "at most 1 x", "not measured"])

    def test_every_measure_and_plot_is_made_of_known_samples(self) -> None:
        for one in samples.MEASURES:
            self.assertIn(one.ours, samples.SAMPLES)
            self.assertTrue(one.reference is None or one.reference in samples.SAMPLES, one.reference)
        self.assertLessEqual(set(samples.FURTHER), set(samples.SAMPLES))
        names = [one.name for one in [*samples.MEASURES, *samples.PLOTS]]
        self.assertEqual(len(samples.PLOTS), len({plot.name for plot in samples.PLOTS}), names)


class Writes(unittest.TestCase):
    def test_numbers(self) -> None:
        shown = [table.number(value) for value in (0.12345, 12.345, 999.4, 1234.5, 12345.6)]
        self.assertEqual(shown, ["0.123", "12.3", "999", "1234", "12 346"])

    def test_tables(self) -> None:
        rows = [["a", "what"], ["long one", "x|y"]]
        self.assertEqual(table.text_table(rows), "a         what\nlong one  x|y")
        self.assertEqual(table.markdown_table(rows), "| a | what |\n| --- | --- |\n| long one | x\\|y |")

    def test_between_the_markers_only(self) -> None:
        document = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
        self.assertEqual(table.replace_marked(document, r"new \1"),
                         f"before\n{table.BEGIN}\n\nnew \\1\n\n{table.END}\nafter\n")  # fmt: skip
        for wrong in ("nothing", f"{table.END}{table.BEGIN}", document * 2):
            with self.assertRaises(ValueError):
                table.replace_marked(wrong, "new")

    def test_the_document_can_be_written(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            output = pathlib.Path(folder) / "performance.md"
            output.write_text((compare.ROOT / "docs/performance.md").read_text())
            line = table.line(measure(None, table.Bar("at most", 1, "us")), taken(ours=[1.0]))
            text = compare.markdown([line], {"relay": table.Samples("us", [1.0])}, {"command": "x"}, [("P", "p.png")])
            with contextlib.redirect_stderr(io.StringIO()) as said:
                compare.write(output, text, {"samples": {}})
            self.assertIn(str(output), said.getvalue())
            for part in ("| what is measured | 1 us |  |  | at most 1 us | yes |", "- command: `x`", "![P](p.png)"):
                self.assertIn(part, output.read_text())
            self.assertEqual(json.loads((output.with_suffix("") / "measurements.json").read_text()), {"samples": {}})


class Rounds(unittest.TestCase):
    def setUp(self) -> None:
        self.order: list[str] = []
        known = dict(samples.SAMPLES)
        self.addCleanup(samples.SAMPLES.update, known)
        for name in ("a", "b"):
            self.sample(name, lambda: float(len(self.order)))
            self.addCleanup(samples.SAMPLES.pop, name)

    def sample(self, name: str, value: Callable[[], float]) -> None:
        def take(places: Any, scale: Any) -> float:
            self.order.append(name)
            return value()

        samples.SAMPLES[name] = samples.Sample(name, "us", take)

    def take(self, rounds: int) -> dict[str, Any]:
        said: list[str] = []
        compare.say, say = said.append, compare.say
        try:
            return compare.take_rounds(None, ["a", "b"], rounds, samples.QUICK)
        finally:
            compare.say = say

    def test_alternate(self) -> None:
        found = self.take(3)
        self.assertEqual("".join(self.order), "abbaab")
        self.assertEqual(found["a"].values, [1, 4, 5])

    def test_what_fails_once_is_not_compared(self) -> None:
        def fail() -> float:
            if len(self.order) > 2:
                raise samples.NotAvailable("it broke")
            return 1.0

        self.sample("a", fail)
        found = self.take(3)
        self.assertEqual((found["a"].values, found["a"].missing), ([], "it broke"))
        self.assertEqual(len(found["b"].values), 3)


class Client:
    """Answers at once; `fail` on which call."""

    def __init__(self, fail: int = -1) -> None:
        self.left = fail

    def execute(self, app: str, action: str, value: Any) -> Any:
        self.left -= 1
        if self.left == -1:
            raise ValueError("refused")
        return value

    def stream(self, app: str, action: str, chunks: int) -> Iterator[int]:
        return iter(range(chunks - (self.left == 0)))


class Driver(unittest.TestCase):
    def test_slow_calls_count_even_if_they_end_late(self) -> None:
        found = drive.summary([(0, 1_000), (10_000, 3_000), (20_000, 9_000_000)], end=30_000, seconds=2.0)
        self.assertEqual((found["calls"], found["calls_per_s"]), (3, 1.0))
        self.assertEqual((found["p50_us"], found["max_us"]), (3.0, 9_000.0))

    def test_every_thread_calls(self) -> None:
        found = drive.calls(Client, 3, 0.01, "x")
        self.assertGreaterEqual(found["calls"], 3)

    def test_a_call_longer_than_the_window_counts(self) -> None:
        class Slow(Client):
            def execute(self, app: str, action: str, value: Any) -> Any:
                time.sleep(0.01)

        self.assertEqual(drive.calls(Slow, 2, 0.000_001, "x")["calls"], 2)

    def test_a_failure_ends_it(self) -> None:
        for call in (0, 5):
            with self.assertRaisesRegex(ValueError, "refused"):
                drive.calls(lambda call=call: Client(fail=call), 2, 0.5, "x")

    def test_streams_must_be_complete(self) -> None:
        self.assertGreaterEqual(drive.stream(Client, 0.001, 10)["chunks"], 10)
        with self.assertRaisesRegex(RuntimeError, "9 values came instead of 10"):
            drive.stream(lambda: Client(fail=0), 0.001, 10)


if __name__ == "__main__":
    unittest.main()
