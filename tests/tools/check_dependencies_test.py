"""tools/check_dependencies finds what is missing in docs/dependencies.md, what is too much there, and what differs."""

import json
import pathlib
import tempfile
import unittest

from script import ROOT, load

dependencies = load("tools/check_dependencies")

TREE = {
    "tools/packages.txt": "# SET PACKAGE\nbuild  no-such-package  # why\n",
    "client/go/go.mod": "module dirty.dev/x\n\nrequire (\n\tgoogle.golang.org/grpc v1.75.1\n\tdirty.dev/y v0.0.0\n)\n",
    "client/node/package.json": json.dumps({"dependencies": {"a": "^1.2.3", "own": "file:../x"}}),
    "client/node/package-lock.json": json.dumps({"packages": {"node_modules/a": {"license": "MIT"}}}),
    "client/rust/Cargo.toml": '[dependencies]\nbytes = "1.10"\n[dev-dependencies]\nserde = { version = "1.0" }\n',
    "client/java/pom.xml": '<project xmlns="x"><properties><v>1.2</v></properties><dependencies><dependency>'
    "<groupId>io.grpc</groupId><artifactId>stub</artifactId><version>${v}</version></dependency></dependencies></project>",
    "client/python/pyproject.toml": '[build-system]\nrequires = ["build==1.0"]\n'
    '[project]\noptional-dependencies.stubs = ["grpcio>=1.51"]\n',
    "tools/lib/x-requirements.txt": "# why\nruff==0.17.6 \\\n    --hash=sha256:aa\n",
}
ROWS = {
    "Debian": "| `no-such-package` | 1 | MIT | x |",
    "Go": "| `google.golang.org/grpc` | v1.75.1 | Apache-2.0 | x |",
    "npm": "| `a` | `^1.2.3` | MIT | x |",
    "Cargo": "| `bytes` | 1.10 | MIT | x |\n| `serde` | 1.0 | MIT | x |",
    "Maven": "| `io.grpc:stub` | 1.2 | Apache-2.0 | x |",
    "PyPI": "| `build` | 1.0 | MIT | x |\n| `grpcio` | >=1.51 | Apache-2.0 | x |\n| `ruff` | 0.17.6 | MIT | x |",
}


class CheckDependencies(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for name, text in TREE.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)
        (self.root / "docs").mkdir()

    def problems(self, old: str = "", new: str = "") -> "list[str]":
        """What is found after a change of the list."""
        text = "\n".join(f"## {heading}\n\n{rows}\n" for heading, rows in ROWS.items())
        self.assertIn(old, text)
        (self.root / "docs/dependencies.md").write_text(text.replace(old, new, 1))
        return [line.partition(": ")[2] for line in dependencies.problems(self.root)]

    def test_a_list_that_is_whole_is_fine(self) -> None:
        self.assertEqual(self.problems(), [])

    def test_what_is_installed_does_not_count(self) -> None:
        for name in ("client/node/node_modules/b/package.json", "build/x/package.json", "client/rust/target/package.json"):
            (self.root / name).parent.mkdir(parents=True)
            (self.root / name).write_text(json.dumps({"devDependencies": {"theirs": "1"}}))
        self.assertEqual(self.problems(), [])

    def test_one_that_is_missing(self) -> None:
        for heading, rows in ROWS.items():
            row = rows.splitlines()[0]
            name = row.split("`")[1]
            self.assertEqual(self.problems(row, ""), [f"{heading}: {name} is not in the list"])

    def test_one_too_many(self) -> None:
        self.assertEqual(
            self.problems("| `bytes`", "| `gone` | 1 | MIT | x |\n| `bytes`"),
            ["Cargo: gone is in the list, and nothing names it"],
        )

    def test_another_version(self) -> None:
        self.assertEqual(self.problems("0.17.6", "0.17.5"), ["PyPI: ruff is 0.17.6, not 0.17.5"])

    def test_another_licence_than_the_lock_file_has(self) -> None:
        self.assertEqual(
            self.problems("`^1.2.3` | MIT", "`^1.2.3` | ISC"), ["npm: the licence of a is MIT, not ISC"]
        )

    def test_no_licence(self) -> None:
        self.assertEqual(self.problems("| 1.10 | MIT |", "| 1.10 |  |"), ["Cargo: bytes has no licence"])

    def test_spellings_of_licences(self) -> None:
        self.assertTrue(dependencies.same("GPL-2.0-or-later", "gpl-2+"))
        self.assertTrue(dependencies.same("(Apache-2.0 AND BSD-3-Clause)", "apache-2.0 and bsd-3-clause"))
        self.assertFalse(dependencies.same("GPL-2.0-only", "gpl-3"))
        self.assertFalse(dependencies.same("MIT", "bsd-3-clause"))

    def test_the_projects_own_list(self) -> None:
        self.assertEqual(dependencies.problems(ROOT), [])


if __name__ == "__main__":
    unittest.main()
