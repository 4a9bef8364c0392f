"""tools/check_tidy looks again at what could have changed, and at nothing else."""

import pathlib
import tempfile
import unittest

from script import load

tidy = load("tools/check_tidy")

SOURCE, COMMANDS = "server/a.cc", ["clang++ -c server/a.cc"]


class CheckTidy(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name).resolve()
        self.elsewhere = self.root / "include/theirs.h"
        for name, text in (("server/a.cc", '#include "server/a.h"\n#include "theirs.h"\n'), ("server/a.h", ""), ("include/theirs.h", "")):
            (self.root / name).parent.mkdir(exist_ok=True)
            (self.root / name).write_text(text)
        self.files = [SOURCE, "server/a.h", str(self.elsewhere)]
        known = self.known()
        self.assertFalse(known.is_well(SOURCE, COMMANDS))
        known.note(SOURCE, self.files, known.digest(COMMANDS, self.files))

    def known(self, settings: str = "1") -> "tidy.Known":
        """What a run that starts now knows."""
        return tidy.Known(self.root, self.root / "cache", settings)

    def test_what_was_well_is_well(self) -> None:
        self.assertTrue(self.known().is_well(SOURCE, COMMANDS))

    def test_what_decides_differs(self) -> None:
        self.assertFalse(self.known("2").is_well(SOURCE, COMMANDS))
        self.assertFalse(self.known().is_well(SOURCE, ["clang++ -DX -c server/a.cc"]))
        self.assertFalse(self.known().is_well("server/b.cc", COMMANDS))

    def test_a_file_that_it_reads_changes(self) -> None:
        for file in self.files:
            before = (self.root / file).read_text()
            (self.root / file).write_text("int x;")
            self.assertFalse(self.known().is_well(SOURCE, COMMANDS), file)
            (self.root / file).write_text(before)
            self.assertTrue(self.known().is_well(SOURCE, COMMANDS), file)

    def test_a_file_that_it_reads_goes(self) -> None:
        self.elsewhere.unlink()
        self.assertFalse(self.known().is_well(SOURCE, COMMANDS))

    def test_a_file_that_changes_during_the_look(self) -> None:
        known = self.known()
        digest = known.digest(COMMANDS, self.files)
        (self.root / "server/a.h").write_text("int x;")
        known.note(SOURCE, self.files, digest)
        self.assertFalse(self.known().is_well(SOURCE, COMMANDS))

    def test_an_entry_that_cannot_be_read(self) -> None:
        for path in (self.root / "cache").iterdir():
            path.write_bytes(b"broken")
        self.assertFalse(self.known().is_well(SOURCE, COMMANDS))

    def test_the_files_of_a_compilation(self) -> None:
        (self.root / "gone").mkdir()  # that of a precompiled header is no text
        header = "-Xclang -include-pch -Xclang gone/x.pch -Xclang -include -Xclang include/theirs.h"
        command = f"clang++-16 {header} -I . -I include -o a.o -c {self.root}/server/a.cc"
        self.assertEqual(
            tidy.files_read(command, str(self.root), self.root), ["include/theirs.h", "server/a.cc", "server/a.h"]
        )
        (self.root / "server/a.h").unlink()
        self.assertEqual(tidy.files_read(command, str(self.root), self.root), [])


if __name__ == "__main__":
    unittest.main()
