"""Apps whose calls take their time."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import hashlib
import multiprocessing
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from dirty import DirtyApp, DirtyCancelledError


def burn(seconds: float) -> None:
    """Uses the processor. Not a loop in its callers' `try`, which CPython 3.13.0 would leave past their `except`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


class Calls(DirtyApp):
    """What a call may do to its worker."""

    def init(self) -> None:
        self.seen: list[str] = []
        self.gate = threading.Event()

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    def same(self, value: Any) -> Any:
        return value

    def sleep(self, seconds: float) -> str:
        time.sleep(seconds)
        return "slept"

    def thread_after(self, seconds: float) -> int:
        time.sleep(seconds)
        return threading.get_ident()

    def hold_gil(self, seconds: int) -> str:
        print("holding", flush=True)
        ctypes.PyDLL(None).sleep(seconds)  # PyDLL keeps the GIL
        return "held"

    def spin(self, seconds: float, say: bool = True) -> str:
        try:
            if say:
                print("spinning", flush=True)
            burn(seconds)
        except BaseException as error:
            self.seen.append(type(error).__name__)
            raise
        return "spun"

    def stubborn(self, seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                burn(end - time.monotonic())
            except DirtyCancelledError:
                print("not me", flush=True)
        return "spun"

    async def wait(self, seconds: float) -> str:
        print("waiting", flush=True)
        try:
            await asyncio.sleep(seconds)
        except BaseException as error:
            self.seen.append(type(error).__name__)
            raise
        return "waited"

    async def same_loop(self) -> int:
        return id(asyncio.get_running_loop())

    def what_was_seen(self) -> list[str]:
        seen, self.seen = self.seen, []
        return seen

    def count(self, to: int) -> Iterator[int]:
        try:
            yield from range(to)
        finally:
            self.seen.append("count ended")
            print("count ended", flush=True)

    async def count_async(self, to: int) -> AsyncIterator[int]:
        try:
            for i in range(to):
                await asyncio.sleep(0)
                yield i
        finally:
            self.seen.append("count_async ended")
            print("count_async ended", flush=True)

    async def count_then_wait(self, to: int) -> AsyncIterator[int]:
        for i in range(to):
            yield i
        print("counted, waiting", flush=True)
        await asyncio.sleep(1000)

    def count_and_raise(self, to: int) -> Iterator[int]:
        yield from range(to)
        raise ValueError("counted enough")

    def blobs(self, count: int, size: int) -> Iterator[Any]:
        for i in range(count):
            yield {"i": i, "data": bytes([i]) * size}

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def fork(self, method: str) -> list[int]:
        """Exit codes of a child that ends and of one that is terminated."""
        context = multiprocessing.get_context(method)
        ends = context.Process(target=print, args=("in the child",))
        waits = context.Process(target=time.sleep, args=(1000,))
        ends.start()
        waits.start()
        ends.join()
        waits.terminate()
        waits.join()
        return [ends.exitcode, waits.exitcode]

    def memory(self) -> list[int]:
        """Blocks of the interpreter's allocator in use, and the largest RSS in KiB."""
        gc.collect()
        gc.collect()
        return [sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]


class Derive(functools.partial):  # type: ignore[type-arg]
    """C code from end to end: the interpreter runs nothing in it that an exception could be raised in."""

    def __new__(cls) -> Derive:
        return super().__new__(cls, hashlib.pbkdf2_hmac)
