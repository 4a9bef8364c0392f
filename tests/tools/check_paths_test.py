"""tools/check_paths finds paths of one machine and leaves alone those that mean the same everywhere."""

import unittest

from script import load

paths = load("tools/check_paths")


class FindingsIn(unittest.TestCase):
    def test_finds_folders_of_a_machine(self) -> None:
        # Without the first slash: this file is checked, too.
        for folder in ("home/alice/dirty", "root/.cache", "Users/bob/src", "work/main", "workspace/dirty"):
            path = f"/{folder}"
            self.assertEqual(paths.findings_in(f"ok\nsee {path}"), [(2, path)])

    def test_leaves_common_paths_alone(self) -> None:
        for path in (
            "/run/dirty/dirty.sock", "/usr/share/grpc-proto", "/tmp/x", "/home/me/app", "/dev/null", "/srv/gpu/bin/python",
            "${CMAKE_BINARY_DIR}/build/release", "build/release/bin", "./build/tools", "https://a.dev/work" "/main",
        ):  # fmt: skip
            self.assertEqual(paths.findings_in(f"see {path}"), [], path)


if __name__ == "__main__":
    unittest.main()
