"""The Python app under chaos: checks payloads and answers with transformed ones, and misbehaves on request.

mixed_app.cc is the same in C++.
"""

from __future__ import annotations

import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import payload
from dirty import DirtyApp


class WrongPayload(Exception):
    """A payload is not what its checksum is of."""


class Mixed(DirtyApp):
    """Notes each call that it begins in the file that $CHAOS_EXECUTED names; does not start while $CHAOS_RAISE exists."""

    def init(self) -> None:
        """Opens the ledger of executed calls."""
        if pathlib.Path(os.environ["CHAOS_RAISE"]).exists():
            raise RuntimeError("told to raise")
        self._executed = os.open(os.environ["CHAOS_EXECUTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._leaked: list[bytearray] = []

    def close(self) -> None:
        """Closes it."""
        os.close(self._executed)

    def work(self, who: str, text: str, blob: bytes, checksum: int, seconds: float) -> dict[str, Any]:
        """Takes some time, and answers with the payload transformed."""
        self._begin(who)
        self._check(text, blob, checksum)
        time.sleep(seconds)
        text, blob = payload.transformed(text, blob)
        return {"who": who, "text": text, "blob": blob, "checksum": payload.checksum(text, blob)}

    def parts(self, who: str, text: str, blob: bytes, checksum: int, count: int) -> Iterator[dict[str, Any]]:
        """Streams the payload in parts."""
        self._begin(who)
        self._check(text, blob, checksum)
        for index in range(count):
            piece = payload.part(blob, index, count)
            yield {"who": who, "index": index, "part": piece, "checksum": payload.checksum(text, piece)}

    def hang(self, who: str) -> None:
        """Does not hear that it is cancelled: one long wait outside of the interpreter."""
        self._begin(who)
        time.sleep(60)

    def crash(self, who: str) -> None:
        """Takes its process down."""
        self._begin(who)
        os.kill(os.getpid(), random.choice([signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV]))
        time.sleep(60)

    def leak(self, who: str, size: int) -> None:
        """Keeps memory until the process ends."""
        self._begin(who)
        self._leaked.append(bytearray(os.urandom(4096) * (size // 4096)))

    def spawn(self, who: str) -> None:
        """Leaves a grandchild that keeps descriptors open: whatever can be inherited."""
        self._begin(who)
        subprocess.Popen(["sleep", "1000"], close_fds=False)

    def shout(self, who: str, lines: int) -> None:
        """Floods standard error, also with what is no text."""
        self._begin(who)
        for line in range(lines):
            sys.stderr.buffer.write(b"line %d of a flood\n" % line + os.urandom(512))
        sys.stderr.flush()

    def _begin(self, who: str) -> None:
        os.write(self._executed, f"{who}\n".encode())  # one write: lines of several processes do not mix

    def _check(self, text: str, blob: bytes, checksum: int) -> None:
        if payload.checksum(text, blob) != checksum:
            raise WrongPayload(f"{len(text)} characters and {len(blob)} bytes")
