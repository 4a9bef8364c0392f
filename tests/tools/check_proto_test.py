"""tools/check_proto lets the contract grow and refuses what would break its users."""

import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from script import ROOT


class CheckProto(unittest.TestCase):
    def setUp(self) -> None:
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.root = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Without the baseline: whether today's contract fits that one is not this test's question.
        shutil.copytree(ROOT / "proto/dirty", self.root / "proto/dirty")
        shutil.copy(ROOT / "buf.yaml", self.root)
        accepted = self.check("--accept")
        self.assertEqual(accepted.returncode, 0, accepted.stdout)

    def check(self, *flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tools/check_proto"), "--root", str(self.root), *flags]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    def change(self, old: str, new: str) -> None:
        path = self.root / "proto/dirty/v1/arbiter.proto"
        text = path.read_text()
        self.assertEqual(text.count(old), 1, old)
        path.write_text(text.replace(old, new))

    def assert_refused(self, because: str, *flags: str) -> None:
        result = self.check(*flags)
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn(because, result.stdout)

    def test_the_contract_as_it_is(self) -> None:
        self.assertEqual(self.check().returncode, 0)

    def test_a_removed_field(self) -> None:
        self.change("  uint32 max_calls = 4;\n", "")
        self.assert_refused("max_calls")
        self.assert_refused("max_calls", "--accept")

    def test_a_renumbered_field(self) -> None:
        self.change("uint32 max_calls = 4;", "uint32 max_calls = 5;")
        self.assert_refused("breaks users", "--accept")

    def test_a_changed_type(self) -> None:
        self.change("uint32 max_calls = 4;", "string max_calls = 4;")
        self.assert_refused("changed type", "--accept")

    def test_a_removed_rpc(self) -> None:
        self.change("  rpc Session(stream SessionRequest) returns (stream SessionResponse);\n", "")
        self.assert_refused('"Session"', "--accept")

    def test_an_addition_is_fine_once_accepted_and_then_protected(self) -> None:
        before = "  uint32 max_calls = 4;\n"
        self.change(before, before + "\n  // New. Default 0.\n  uint32 more = 5;\n")
        self.assert_refused("has grown")
        self.assertEqual(self.check("--accept").returncode, 0)
        self.assertEqual(self.check().returncode, 0)
        self.change("  uint32 more = 5;\n", "")
        self.assert_refused("more")

    def test_an_element_without_a_comment(self) -> None:
        before = "  uint32 max_calls = 4;\n"
        self.change(before, before + "\n  uint32 more = 5;\n")
        self.assert_refused("comment", "--accept")


if __name__ == "__main__":
    unittest.main()
