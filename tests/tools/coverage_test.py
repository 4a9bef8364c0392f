"""tools/coverage merges what programs counted, and fails where the core is not covered."""

import contextlib
import io
import pathlib
import subprocess
import tempfile
import unittest
import unittest.mock

from script import load

coverage = load("tools/coverage")

SOURCE = """int Half(int n) {
  if (n % 2 != 0)
    return -1;
  return n / 2;
}
"""
MAIN = "int Half(int); int main(int count, char**) { return Half(count) == -1 ? 0 : 1; }\n"


class Coverage(unittest.TestCase):
    builds = passes = True  # whether the project does

    def setUp(self) -> None:
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.root = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        self.build = self.root / "build/coverage"
        self.build.mkdir(parents=True)
        (self.root / "server/dispatch").mkdir(parents=True)
        (self.root / "server/dispatch/half.cc").write_text(SOURCE)
        (self.root / "other.cc").write_text(MAIN)
        for name, value in (("ROOT", self.root), ("BUILD", self.build)):
            stack.enter_context(unittest.mock.patch.object(coverage, name, value))

    def compile(self, program: str, half: str) -> None:
        """Links `program` from objects of its own, in which the source is named `half`."""
        for source, made in ((half, f"{program}-half.o"), ("../../other.cc", f"{program}-main.o")):
            subprocess.run(["g++", "--coverage", "-c", source, "-o", made], cwd=self.build, check=True)
        objects = [f"{program}-half.o", f"{program}-main.o"]
        subprocess.run(["g++", "--coverage", *objects, "-o", program], cwd=self.build, check=True)

    def run_program(self, program: str, *words: str) -> None:
        subprocess.run([self.build / program, *words], cwd=self.build, check=False)

    def main(self, *flags: str) -> "tuple[int, list[str]]":
        out = io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            unittest.mock.patch("sys.argv", ["coverage", *flags]),
            unittest.mock.patch.object(coverage, "build", return_value=self.builds),
            unittest.mock.patch.object(coverage, "test", return_value=self.passes),
            unittest.mock.patch.object(coverage, "CORE", ["server/dispatch"]),
        ):
            code = coverage.main()
        return code, out.getvalue().splitlines()

    def test_what_never_ran_counts_as_uncovered(self) -> None:
        self.compile("a", "../../server/dispatch/half.cc")
        code, lines = self.main()
        self.assertEqual((code, lines[1].split()), (1, ["server/dispatch", "4", "0", "0.0"]))

    def test_a_line_that_did_not_run_is_shown_and_fails_the_core(self) -> None:
        self.compile("a", "../../server/dispatch/half.cc")
        self.run_program("a")
        code, lines = self.main()
        self.assertEqual((code, lines[1].split()), (1, ["server/dispatch", "4", "3", "75.0"]))
        self.assertIn("server/dispatch", lines[2])
        self.assertEqual(self.main("--uncovered", "server"), (0, ["server/dispatch/half.cc:4:   return n / 2;"]))

    def test_programs_add_up_however_their_compiler_named_the_source(self) -> None:
        self.compile("a", "../../server/dispatch/half.cc")
        self.compile("b", str(self.root / "server/dispatch/half.cc"))
        self.run_program("a")
        self.run_program("b", "two")
        code, lines = self.main()
        self.assertEqual((code, lines[1].split()), (0, ["server/dispatch", "4", "4", "100.0"]))
        self.assertEqual(self.main("--uncovered", "server"), (0, []))

    def test_a_source_that_no_program_has_fails(self) -> None:
        (self.root / "server/dispatch/lost.cc").write_text("int lost;\n")
        self.compile("a", "../../server/dispatch/half.cc")
        self.run_program("a")
        self.run_program("a", "two")
        code, lines = self.main()
        self.assertEqual((code, lines[1].split()[-1]), (1, "100.0"))
        self.assertIn("server/dispatch/lost.cc", lines[2])

    def test_tests_that_fail_fail_it(self) -> None:
        self.compile("a", "../../server/dispatch/half.cc")
        self.run_program("a")
        self.run_program("a", "two")
        self.assertEqual(self.main()[0], 0)
        self.passes = False
        self.assertEqual(self.main()[0], 1)

    def test_without_a_build_there_are_no_figures(self) -> None:
        self.builds = False
        self.assertEqual(self.main(), (1, []))
        self.assertEqual(self.main("--uncovered", "server")[0], 1)


if __name__ == "__main__":
    unittest.main()
