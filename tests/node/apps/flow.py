"""Tells how far a stream is ahead of its reader."""

from __future__ import annotations

from collections.abc import Iterator

from dirty import DirtyApp


class Flow(DirtyApp):
    produced = 0

    def blobs(self, count: int, size: int) -> Iterator[bytes]:
        self.produced = 0
        for _ in range(count):
            self.produced += 1
            yield b"x" * size

    def so_far(self) -> int:
        return self.produced
