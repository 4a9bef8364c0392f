#!/usr/bin/env python3
"""docs_commands notices what is wrong in a document. dirtyd is played by scripts here."""

import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

import docs_commands as docs  # noqa: E402

DIRTYD = """#!/bin/sh
trap 'exit ${CODE:-0}' TERM
echo $$ > pid
echo "$0 says hello" >&2
while :; do sleep 0.05; done
"""


class Parse(unittest.TestCase):
    def test_finds_commands_with_their_output_and_files(self) -> None:
        found = docs.parse(
            "text\n```console\n$ a b \\\n    c\nout\n\nmore\n$ d\n```\n"
            "```sh\n# no\nls\n```\n```yaml x.yaml\nk: 1\n```\n")
        self.assertEqual(found, [
            docs.Command(3, "a b \\\n    c", ["out", "", "more"]),
            docs.Command(8, "d", []),
            docs.Command(12, "ls", None),
            docs.File(14, "x.yaml", "k: 1\n"),
        ])  # fmt: skip

    def test_leaves_other_blocks_alone(self) -> None:
        self.assertEqual(docs.parse("```\n$ a\n```\n```yaml\nk: 1\n```\n"), [])

    def test_refuses_a_block_without_an_end(self) -> None:
        with self.assertRaises(ValueError):
            docs.parse("```sh\nls\n")


class Matches(unittest.TestCase):
    def test_compares_lines(self) -> None:
        for expected, actual, same in [
            (["a b"], ["a   b "], True),
            (["a"], ["a", "b"], False),
            (["a"], [], False),
            (["pid ..., up"], ["pid 12, up"], True),
            (["pid ..., up"], ["pid 12, down"], False),
            (["a", "...", "z"], ["a", "z"], True),
            (["a", "...", "z"], ["a", "b", "", "z"], True),
            (["a", "...", "z"], ["a", "b"], False),
            (["a.c"], ["abc"], False),
            ([], [], True),
        ]:
            with self.subTest(expected=expected, actual=actual):
                self.assertEqual(docs.matches(expected, actual), same)


class Paths(unittest.TestCase):
    def test_finds_paths_that_do_not_exist(self) -> None:
        source = pathlib.Path(docs.__file__).parent.parent.parent
        text = "`tests/docs/docs_commands.py` `tests/docs/*.py` `tests/nowhere/` `tests/docs/{docs_commands,x}.py`"
        self.assertEqual(docs.missing_paths(text, source, source), [
            "`tests/nowhere/` does not exist", "`tests/docs/x.py` does not exist"])  # fmt: skip
        self.assertEqual(docs.missing_paths("[a](nowhere.md) [b](https://a.dev/x)", source, source),
                         ["the link to nowhere.md leads nowhere"])  # fmt: skip


class Check(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.source = pathlib.Path(place.name) / "source"
        self.build = pathlib.Path(place.name) / "build"
        (self.build / "bin").mkdir(parents=True)
        self.source.mkdir()
        dirtyd = self.build / "bin" / "dirtyd"
        dirtyd.write_text(DIRTYD)
        dirtyd.chmod(0o755)

    def wrong(self, *lines: str, language: str = "console") -> str:
        document = self.source / "README.md"
        document.write_text("\n".join([f"```{language}", *lines, "```", ""]))
        return "\n".join(docs.check(document, self.source, self.build))

    def test_is_content_with_what_is_right(self) -> None:
        self.assertEqual(self.wrong("$ export A=1", "$ cd /", "$ echo $A; pwd", "1", "/"), "")

    def test_notices_other_output(self) -> None:
        self.assertIn("README.md:2: echo b\nprinted other lines", self.wrong("$ echo b", "a"))

    def test_notices_output_that_is_not_shown(self) -> None:
        self.assertIn("printed other lines", self.wrong("$ echo b"))

    def test_notices_a_failure(self) -> None:
        self.assertIn("ended with 1", self.wrong("$ false"))
        self.assertIn("ended with 127", self.wrong("nosuchprogram --help", language="sh"))

    def test_lets_a_command_fail_whose_exit_code_is_shown(self) -> None:
        self.assertEqual(self.wrong("$ (exit 3)", "$ echo $?", "3"), "")
        self.assertIn("printed other lines", self.wrong("$ (exit 3)", "$ echo $?", "2"))

    def test_notices_a_heavy_program_that_does_not_exist(self) -> None:
        self.assertIn("no program ./tools/quickstart", self.wrong("$ ./tools/quickstart"))

    def test_starts_dirtyd_and_awaits_its_lines(self) -> None:
        self.assertEqual(self.wrong("$ dirtyd a:B", "... says hello", "$ kill -TERM $(cat pid)"), "")

    def test_notices_other_lines_of_dirtyd(self) -> None:
        docs.LIMIT, limit = 0.5, docs.LIMIT
        self.addCleanup(setattr, docs, "LIMIT", limit)
        self.assertIn("did not say", self.wrong("$ dirtyd a:B", "says goodbye"))

    def test_notices_a_dirtyd_that_is_left_running(self) -> None:
        docs.LIMIT, limit = 1, docs.LIMIT
        self.addCleanup(setattr, docs, "LIMIT", limit)
        self.assertIn("still running", self.wrong("$ dirtyd a:B", "... says hello"))

    def test_notices_a_dirtyd_that_ends_badly(self) -> None:
        self.assertIn("ended with 3", self.wrong(
            "$ export CODE=3", "$ dirtyd a:B", "... says hello", "$ kill -TERM $(cat pid)"))


if __name__ == "__main__":
    unittest.main()
