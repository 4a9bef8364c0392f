"""Every claim of docs/security.md names tests, and all of them exist."""

import re
import unittest

from script import ROOT

ROW = re.compile(r"^\| (?P<claim>.+) \| (?P<shown>.+) \|$")
REFERENCE = re.compile(r"`(?P<file>tests/[\w./]+)`::(?P<tests>\w+(?:, \w+)*)")


class Claims(unittest.TestCase):
    def test_each_is_shown_by_tests_that_exist(self) -> None:
        section = (ROOT / "docs/security.md").read_text().partition("\n## Claims and their tests\n")[2]
        rows = [row for line in section.partition("\n## ")[0].splitlines()[1:] if (row := ROW.match(line))][1:]
        self.assertGreater(len(rows), 20)
        for row in rows:
            found = list(REFERENCE.finditer(row["shown"]))
            self.assertEqual("; ".join(reference[0] for reference in found), row["shown"], row["claim"])
            for reference in found:
                source = (ROOT / reference["file"]).read_text()
                for name in reference["tests"].split(", "):
                    self.assertRegex(source, rf"TEST(_F|_P)?\(\w+, {name}\)", reference["file"])


if __name__ == "__main__":
    unittest.main()
