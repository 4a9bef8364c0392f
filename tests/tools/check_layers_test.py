"""tools/check_layers finds each kind of wrong include, and nothing in right ones."""

import pathlib
import tempfile
import unittest

from script import load

layers = load("tools/check_layers")


class BrokenRule(unittest.TestCase):
    def assert_bad(self, file: str, included: str, because: str) -> None:
        self.assertIn(because, layers.broken_rule(file, included) or "(allowed)")

    def assert_fine(self, file: str, included: str) -> None:
        self.assertIsNone(layers.broken_rule(file, included))

    def test_arrows_point_downward(self) -> None:
        self.assert_fine("server/rpc/execute.cc", "server/dispatch/dispatcher.h")
        self.assert_fine("server/rpc/execute.cc", "server/rpc/errors.h")
        self.assert_fine("server/main.cc", "server/rpc/front.h")
        self.assert_bad("server/dispatch/queue.h", "server/rpc/errors.h", "server/dispatch may not include server/rpc")
        self.assert_bad("server/loop/loop.h", "server/dispatch/queue.h", "server/loop may not include server/dispatch")
        self.assert_bad("server/dispatch/queue.h", "server/supervise/pool.h", "may not include server/supervise")

    def test_a_new_part_must_be_placed(self) -> None:
        self.assert_bad("server/magic/wand.cc", "server/loop/loop.h", "server/magic has no place")

    def test_client_and_worker_never_include_the_server(self) -> None:
        for file in ("client/cpp/client.cc", "worker/runtime/runtime.cc", "tools/dirtyctl/main.cc"):
            self.assert_bad(file, "server/config/config.h", "may not include server/")
        self.assert_bad("server/rpc/execute.cc", "client/cpp/client.h", "server/ may not include client/")
        self.assert_bad("server/rpc/execute.cc", "worker/runtime/runtime.h", "server/ may not include worker/")

    def test_pure_parts_are_free_of_grpc(self) -> None:
        for header in ("grpcpp/grpcpp.h", "grpc/grpc.h", "dirty/v1/arbiter.grpc.pb.h"):
            for file in ("server/dispatch/queue.cc", "server/supervise/machine.h", "server/arbiter.cc"):
                self.assert_bad(file, header, "pure parts")
            for file in ("server/supervise/grpc_links.cc", "server/rpc/execute.cc", "server/main.cc"):
                self.assert_fine(file, header)
        self.assert_fine("server/dispatch/queue.cc", "dirty/v1/call.pb.h")

    def test_the_apps_header_stands_alone(self) -> None:
        header = "worker/native/include/dirty/app.h"
        self.assert_fine(header, "nlohmann/json.hpp")
        self.assert_fine(header, "string_view")
        self.assert_bad(header, "absl/strings/string_view.h", "apps' header")
        self.assert_bad(header, "dirty/v1/call.pb.h", "apps' header")


class FindingsBelow(unittest.TestCase):
    def test_says_file_line_and_rule(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "server/dispatch").mkdir(parents=True)
            (root / "server/dispatch/queue.cc").write_text(
                '// #include "server/rpc/a.h"\n#include <vector>\n#  include "server/rpc/b.h"  // oh\n'
            )
            (finding,) = layers.findings_below(root)
        self.assertEqual(
            str(finding), 'server/dispatch/queue.cc:3: includes "server/rpc/b.h": server/dispatch may not include server/rpc'
        )


if __name__ == "__main__":
    unittest.main()
