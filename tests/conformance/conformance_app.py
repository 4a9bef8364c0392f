"""The app of the conformance suite, in Python. README.md says what each action does; conformance_app.cc does the same."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from dirty import DirtyApp

PAUSE = 0.005


class Conformance(DirtyApp):
    """What was noted is in files, which the app in C++ and every worker share."""

    def init(self) -> None:
        self._folder = pathlib.Path(os.environ["CONFORMANCE_FOLDER"])
        self._status = json.loads(os.environ["CONFORMANCE_STATUS"])

    def echo(self, value: Any) -> Any:
        return value

    def everything(self, *args: Any, **kwargs: Any) -> Any:
        return {"args": args, "kwargs": kwargs}

    def nothing(self) -> None:
        pass

    def kind(self, value: Any) -> str:
        kinds = {type(None): "null", bool: "boolean", int: "integer", float: "float", str: "string", list: "array",
                 dict: "object", bytes: "bytes"}  # fmt: skip
        return kinds[type(value)]

    def size(self, value: bytes) -> int:
        return len(value)

    def blob(self, size: int, byte: int) -> bytes:
        return bytes([byte]) * size

    def text(self, size: int) -> str:
        return "a" * size

    def deep(self, levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    def fail(self, message: str) -> None:
        raise ValueError(message)

    def fail_deep(self, message: str) -> None:
        self.fail(message)

    def count(self, n: int) -> Iterator[int]:
        yield from range(n)

    def count_and_fail(self, n: int, message: str) -> Iterator[int]:
        yield from range(n)
        raise ValueError(message)

    def blobs(self, n: int, size: int) -> Iterator[Any]:
        for i in range(n):
            yield {"i": i, "data": bytes([i % 256]) * size}

    def hold(self, name: str) -> str:
        self._note(name, "running")
        try:
            while not self._file(name, "released").exists():
                time.sleep(PAUSE)
        except BaseException:
            self._note(name, "cancelled")
            raise
        return "released"

    def count_and_hold(self, n: int, name: str) -> Iterator[int]:
        try:
            yield from range(n)
        except BaseException:
            self._note(name, "cancelled")
            raise
        self.hold(name)

    def count_forever(self, name: str) -> Iterator[int]:
        self._note(name, "running")
        i = 0
        try:
            while True:
                yield i
                i += 1
        except BaseException:
            self._note(name, "cancelled")
            raise

    def mark(self, name: str) -> None:
        self._note(name, "running")

    def release(self, name: str) -> None:
        self._note(name, "released")

    def forget(self, name: str) -> None:
        for what in ("running", "cancelled", "released"):
            self._file(name, what).unlink(missing_ok=True)

    def noted(self, name: str) -> list[str]:
        return [what for what in ("cancelled", "running") if self._file(name, what).exists()]

    def await_noted(self, name: str, what: str) -> None:
        while not self._file(name, what).exists():
            time.sleep(PAUSE)

    def await_queued(self, n: int) -> None:
        def queued() -> int:
            said = subprocess.run(self._status, check=True, capture_output=True).stdout
            return sum(app["queued"] for app in json.loads(said)["apps"])

        while queued() != n:
            time.sleep(PAUSE)

    def die(self) -> None:
        print("conformance dies", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self, code: int) -> None:
        os._exit(code)

    def _file(self, name: str, what: str) -> pathlib.Path:
        return self._folder / f"{name}.{what}"

    def _note(self, name: str, what: str) -> None:
        self._file(name, what).touch()


class Broken(DirtyApp):
    def init(self) -> None:
        raise ValueError("Broken has no model")
