"""tools/lib/packages.sh installs what is missing, once, and says what to do where it may not."""

import contextlib
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from script import ROOT

LIST = """# comment
build  present   # installed
build  absent-a  # not installed
build  absent-b
test   other     # of another set
"""

# Fakes of the system's programs. They write down how they were called.
DPKG_QUERY = '[ "$4" = present ] && printf installed || { printf not-installed; grep -q "^$4$" "$STATE/installed"; }'
APT_GET = """echo "apt-get $*" >> "$STATE/calls"
case "$*" in
  update*) touch "$STATE/updated" ;;
  *--simulate*) [ -e "$STATE/updated" ] || [ -z "$STALE" ] ;;
esac"""


class EnsurePackages(unittest.TestCase):
    def setUp(self) -> None:
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("bin", "root/tools", "logs"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "root/tools/packages.txt").write_text(LIST)
        (self.folder / "installed").touch()
        (self.folder / "calls").touch()
        for program in ("bash", "sed", "env", "sleep", "tail", "tr", "grep", "touch", "true"):
            (self.folder / "bin" / program).symlink_to(shutil.which(program))
        self.program("dpkg-query", DPKG_QUERY)
        self.program("apt-get", APT_GET)

    def program(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def ensure(self, *sets: str, uid: int, stale: str = "") -> subprocess.CompletedProcess[str]:
        script = (
            f"source {ROOT}/tools/lib/step.sh; source {ROOT}/tools/lib/packages.sh;"
            f"am_root() {{ (({uid} == 0)); }}; ensure_packages {' '.join(sets)}"
        )
        return subprocess.run(
            ["bash", "-c", script],
            env={
                "PATH": str(self.folder / "bin"), "STATE": str(self.folder), "STALE": stale,
                "ROOT": str(self.folder / "root"), "LOGS": str(self.folder / "logs"),
            },  # fmt: skip
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def test_installs_what_is_missing_and_says_so_once(self) -> None:
        result = self.ensure("build", uid=0)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertEqual(result.stdout.count("absent-a absent-b"), 1)
        self.assertNotIn("update", "".join(self.calls()))
        self.assertRegex(self.calls()[-1], r"^apt-get install .*--no-install-recommends.* absent-a absent-b$")

    def test_does_nothing_when_all_is_there(self) -> None:
        (self.folder / "root/tools/packages.txt").write_text("build  present\n")
        result = self.ensure("build", uid=1000)
        self.assertEqual((result.returncode, result.stdout, self.calls()), (0, "", []))

    def test_fetches_the_lists_only_if_they_are_needed(self) -> None:
        self.assertEqual(self.ensure("build", uid=0, stale="yes").returncode, 0)
        self.assertIn("apt-get update -q", self.calls())

    def test_uses_sudo(self) -> None:
        self.program("sudo", 'echo "sudo $1" >> "$STATE/calls"; exec "$@"')
        result = self.ensure("build", uid=1000)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("sudo env", self.calls())

    def test_without_sudo_it_prints_the_command(self) -> None:
        result = self.ensure("build", "test", uid=1000)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, r"apt-get update && apt-get install .* absent-a absent-b other\n")
        self.assertEqual(self.calls(), [])

    def test_a_failing_installation_shows_why(self) -> None:
        self.program("apt-get", 'case "$*" in *--simulate*|*--download-only*) ;; *) echo "E: no space left"; exit 100 ;; esac')
        result = self.ensure("build", uid=0)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("E: no space left", result.stdout)


if __name__ == "__main__":
    unittest.main()
