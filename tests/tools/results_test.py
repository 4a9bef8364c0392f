"""tools/lib/results.py counts cases, programs that crash and sanitizers' reports."""

import contextlib
import io
import pathlib
import tempfile
import unittest

from script import load

results = load("tools/lib/results.py")

WELL = '<testcase name="{}" status="run"><system-out>fine</system-out></testcase>'
BAD = '<testcase name="{}" status="fail"><failure message="why"/><system-out>its output</system-out></testcase>'
SKIPPED = '<testcase name="{}" status="notrun"><skipped/></testcase>'


class Results(unittest.TestCase):
    def setUp(self) -> None:
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.build = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (self.build / "results").mkdir()
        (self.build / "sanitizer").mkdir()

    def run_it(self, *tests: str) -> tuple[int, list[str]]:
        (self.build / "results/ctest.xml").write_text(f"<testsuite>{''.join(tests)}</testsuite>")
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = results.main(self.build)
        return code, out.getvalue().splitlines()

    def gtest(self, name: str, *cases: str) -> None:
        text = f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"
        (self.build / f"results/{name}.xml").write_text(text)

    def test_counts_cases_and_programs(self) -> None:
        self.gtest("a", '<testcase name="x"/>', '<testcase name="y"/>', '<testcase name="z" result="skipped"/>')
        self.assertEqual(self.run_it(WELL.format("a"), WELL.format("b"), SKIPPED.format("c")), (0, ["3 0"]))

    def test_a_failed_case_shows_the_output(self) -> None:
        self.gtest("a", '<testcase name="x"/>', '<testcase name="y" classname="C"><failure message="m"/></testcase>')
        code, lines = self.run_it(BAD.format("a"))
        self.assertEqual((code, lines[-1]), (1, "1 1"))
        self.assertIn("C.y", lines[0])
        self.assertIn("its output", lines)

    def test_a_program_that_crashed(self) -> None:
        self.assertEqual(self.run_it(BAD.format("a"), WELL.format("b"))[1][-1], "1 1")

    def test_a_program_whose_cases_passed_but_that_ended_badly(self) -> None:
        self.gtest("a", '<testcase name="x"/>')
        code, lines = self.run_it(BAD.format("a"))
        self.assertEqual((code, lines[-1]), (1, "1 1"))

    def test_a_report_of_a_child_process_is_a_failure(self) -> None:
        (self.build / "sanitizer/report.17").write_text("WARNING: ThreadSanitizer: data race\n")
        (self.build / "sanitizer/report.18").write_text("AddressSanitizer:DEADLYSIGNAL\n")
        code, lines = self.run_it(WELL.format("a"))
        self.assertEqual((code, lines[-1]), (1, "1 1"))

    def test_nothing_ran(self) -> None:
        self.assertEqual(self.run_it(), (1, ["0 0"]))


    def test_a_crash_is_a_failure_unless_a_test_s_app_crashed(self) -> None:
        frames = {
            "of a test": ["#0 0x7f in raise /lib/raise.c:26", "#1 0x5 in Crash() ../../tests/apps/faults.cc:35",
                          "#2 0x5 in dirty::Run() ../../worker/runtime/call.cc:80"],
            "of nobody": ["#0 0x7f in PyEval (/usr/bin/python3+0x17)"],
            "ours": ["#0 0x7f in memcpy (/lib/libc.so.6+0x1)", "#1 0x5 in dirty::Loop::Run() ../../server/loop/loop.cc:35",
                     "#2 0x5 in main ../../tests/unit/a.cc:1"],
            "ours, absolute": [f"#0 0x5 in Run {results.ROOT}/worker/runtime/call.cc:80:3"],
        }  # fmt: skip
        for whose, stack in frames.items():
            with self.subTest(whose):
                text = "\n    ".join(["AddressSanitizer:DEADLYSIGNAL", "==1==ERROR: AddressSanitizer: SEGV", *stack, ""])
                (self.build / "sanitizer/report.18").write_text(text)
                failed = "0" if whose.startswith("of") else "1"
                self.assertEqual(self.run_it(WELL.format("a"))[1][-1], f"1 {failed}")


if __name__ == "__main__":
    unittest.main()
