"""The messages of dirty.v1 for programs that use plain gRPC: made by protoc, into the folder that $CHAOS_MESSAGES names.

Only for processes that have no `dirty` of the client's: that is another package of the same name.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import subprocess
import sys
from typing import Any

FILES = ["dirty/v1/call.proto", "dirty/v1/arbiter.proto", "dirty/v1/worker.proto"]


def generate(proto: pathlib.Path, out: pathlib.Path) -> None:
    """Makes them."""
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run(["protoc", f"-I{proto}", f"--python_out={out}", *FILES], check=True)


def load(name: str) -> Any:
    """The messages of `call`, `arbiter` or `worker`."""
    if os.environ["CHAOS_MESSAGES"] not in sys.path:
        sys.path.insert(0, os.environ["CHAOS_MESSAGES"])
    return importlib.import_module(f"dirty.v1.{name}_pb2")
