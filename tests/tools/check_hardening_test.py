"""tools/check_hardening passes a program that was built as ours are, and names what one built otherwise lacks."""

import contextlib
import io
import pathlib
import subprocess
import tempfile
import unittest

from script import load

hardening = load("tools/check_hardening")

# Writes to its stack, prints, and copies what it does not know the size of.
SOURCE = r"""
#include <stdio.h>
#include <string.h>
int main(int argc, char** argv) {
  char name[64];
  strncpy(name, argv[argc - 1], sizeof name - 1);
  name[sizeof name - 1] = 0;
  printf("%d %s\n", argc, name);
  return 0;
}
"""
OURS = ["-O2", "-fPIE", "-pie", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
OURS += ["-Wl,-z,relro,-z,now,-z,noexecstack"]


class CheckHardening(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        (self.root / "bin").mkdir()
        (self.root / "main.c").write_text(SOURCE)

    def build(self, *flags: str) -> None:
        subprocess.run(["cc", self.root / "main.c", "-o", self.root / "bin/program", *OURS, *flags], check=True)

    def check(self) -> "tuple[int, str]":
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = hardening.main(self.root)
        return code, out.getvalue()

    def lacks(self, *flags: str) -> str:
        """What the line of a program says that it lacks."""
        self.build(*flags)
        code, out = self.check()
        self.assertEqual(code, 1, out)
        return out.splitlines()[0].removeprefix("bin/program: lacks ")

    def test_one_as_ours_is_passes(self) -> None:
        self.build()
        self.assertEqual(self.check(), (0, "bin/program: ok\n"))

    def test_names_what_is_missing(self) -> None:
        cases = {
            ("-fno-pie", "-no-pie"): "PIE",
            ("-Wl,-z,lazy",): "RELRO",
            ("-Wl,-z,norelro",): "RELRO",
            ("-Wl,-z,execstack",): "NX",
            ("-fno-stack-protector",): "canary",
            ("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=0"): "fortify",
            ("-Wl,-rpath,lib",): "RUNPATH",
            ("-Wl,-rpath,/tmp",): "RUNPATH",
            ("-Wl,-rpath,/usr/lib:",): "RUNPATH",
            ("-Wl,-z,lazy", "-fno-stack-protector"): "RELRO, canary",
        }
        for flags, missing in cases.items():
            with self.subTest(flags):
                self.assertEqual(self.lacks(*flags), missing)

    def test_folders_that_nobody_else_writes_to_are_fine(self) -> None:
        self.build("-Wl,-rpath,/usr/lib:$ORIGIN/../lib")
        self.assertEqual(self.check()[0], 0)

    def test_one_that_everybody_may_make_is_not(self) -> None:
        self.assertEqual(self.lacks("-Wl,-rpath,/tmp/there/is/none"), "RUNPATH")

    def test_without_optimisation_nothing_is_fortified(self) -> None:
        (self.root / "CMakeCache.txt").write_text("//\nCMAKE_BUILD_TYPE:STRING=Debug\n")
        self.build("-U_FORTIFY_SOURCE")
        self.assertEqual(self.check()[0], 0)

    def test_shared_objects_are_checked_scripts_and_links_are_not(self) -> None:
        self.build()
        (self.root / "lib").mkdir()
        (self.root / "bin/script").write_text("#!/bin/sh\n")
        (self.root / "bin/link").symlink_to("program")
        subprocess.run(
            ["cc", self.root / "main.c", "-shared", "-fPIC", "-fno-stack-protector", "-o", self.root / "lib/x.so"], check=True
        )
        code, out = self.check()
        self.assertEqual(code, 1)
        self.assertRegex(out, r"^bin/program: ok\nlib/x\.so: lacks .*canary")

    def test_nothing_to_check_is_no_success(self) -> None:
        self.assertEqual(self.check()[0], 2)


if __name__ == "__main__":
    unittest.main()
